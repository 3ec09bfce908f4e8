"""Text from files and databases as a terminal or a page may show it: without what would steer either."""

import unicodedata

REPLACEMENT = "?"  # which every font has
# Control characters begin a terminal's commands, format characters turn the direction of writing round, and lone
# surrogates can't be encoded. Joiners belong to some languages' words, and ends of lines to texts.
STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
KEPT = frozenset("\n\t\u200c\u200d")


def printable(text: str) -> str:
    """The text with every character that steers what shows it replaced by a question mark."""
    if text.isprintable():
        return text
    return "".join(each if each in KEPT or unicodedata.category(each) not in STEERING else REPLACEMENT for each in text)
