"""Text from files and databases as a terminal or a page may show it: without what would steer either."""

import json
import unicodedata
from typing import Any

REPLACEMENT = "?"  # which every font has
# Control characters begin a terminal's commands, format characters turn the direction of writing round, and lone
# surrogates can't be encoded. Joiners belong to some languages' words, and ends of lines to texts.
STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
KEPT = frozenset("\n\t\u200c\u200d")


def printable(text: str) -> str:
    """The text with every character that steers what shows it replaced by a question mark."""
    steering = _steering(text)
    return text.translate(dict.fromkeys(map(ord, steering), REPLACEMENT)) if steering else text


def json_text(value: Any, indent: int | None = 2) -> str:
    """A value as JSON that a terminal may show and a program reads back as it is: what steers is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.translate({ord(each): json.dumps(each)[1:-1] for each in _steering(text)})


def _steering(text: str) -> list[str]:
    return [each for each in set(text) if each not in KEPT and unicodedata.category(each) in STEERING]
