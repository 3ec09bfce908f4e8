"""The errors that users can cause, each with the exit code of the command line.

Every message names the rule, the value and the fix, because it is all that a user sees. `printable` and `json_text`
make text from files and databases safe for a terminal or a page: without what would steer either.
"""

import json
import unicodedata
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from .schedule import ExeuntError


def nearest(name: str, known: Collection[str], otherwise: str | None = None) -> str:
    """The sentence that ends an error about an unknown name: the close one, else `otherwise` or all that are known."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean `{near[0]}`?"
    return otherwise or f"Known: {', '.join(known) or 'none'}."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class InputError(ExeuntError):
    """A flag, file or value is not usable; nothing was started."""

    exit_code = 2
    identifier = "input"


class DeviceError(ExeuntError):
    """The device is absent, wrong or out of memory."""

    exit_code = 70
    identifier = "device"


class StorageError(ExeuntError):
    """The database is out of reach or locked; trying again later may work."""

    exit_code = 75
    identifier = "storage"


class Interrupted(ExeuntError):
    """Work was stopped by the user or the system; what was committed stays, and `exeunt resume` goes on."""

    exit_code = 75
    identifier = "interrupted"


REPLACEMENT = "?"  # which every font has
# Control characters begin a terminal's commands, format characters turn the direction of writing round, and lone
# surrogates can't be encoded. Joiners belong to some languages' words, and ends of lines to texts.
STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_KEPT = frozenset("\n\t\u200c\u200d")


def printable(text: str) -> str:
    """The text with every character that steers what shows it replaced by a question mark."""
    steering = _steering(text)
    return text.translate(dict.fromkeys(map(ord, steering), REPLACEMENT)) if steering else text


def json_text(value: Any, indent: int | None = 2) -> str:
    """A value as JSON that a terminal may show and a program reads back as it is: what steers is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.translate({ord(each): json.dumps(each)[1:-1] for each in _steering(text)})


def _steering(text: str) -> list[str]:
    return [each for each in set(text) if each not in _KEPT and unicodedata.category(each) in STEERING]
