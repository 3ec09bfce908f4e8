"""How the files of other runtimes are read: strictly, with messages that say the rule, the value and the fix."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn, cast

from ..errors import InputError

MAX_CHARACTERS = 8_000_000


def refuse(name: str, rule: str, got: object, fix: str) -> NoReturn:
    """Raises InputError: the format's name, the rule, the value, the fix."""
    raise InputError(f"{name}: {rule}, but got {got}. {fix}")


def shortened(value: object) -> str:
    """A value for a message, in at most 60 characters."""
    text = json.dumps(value) if isinstance(value, str | int | float | list | None) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_json(text: str, name: str) -> Any:
    """JSON without duplicate keys, NaN or infinities. Raises InputError."""
    if len(text) > MAX_CHARACTERS:
        refuse(name, f"a file must have at most {MAX_CHARACTERS} characters", len(text), "Give a schedule's file.")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document, keys = dict(pairs), [key for key, _ in pairs]
        if len(document) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            refuse(name, "the keys of an object must be unique", f"{shortened(twice)} twice", "Remove one.")
        return document

    def constant(got: str) -> NoReturn:
        refuse(name, "numbers must be finite", got, "Write a number.")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        refuse(name, "the file must be JSON", str(error) or "too deep a nesting", "Fix the file there.")


def mapping(value: object, name: str, where: str) -> dict[str, Any]:
    """An object with text keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in cast(dict[Any, Any], value)):
        refuse(name, f"{where} must be an object", shortened(value), "Write {...}.")
    return cast(dict[str, Any], value)


def entry(document: dict[str, Any], key: str, name: str, where: str) -> Any:
    """A key's value, which must be there."""
    if key not in document:
        refuse(name, f'{where}: "{key}" must be given', "nothing", f'Add "{key}".')
    return document[key]


def known_keys(document: Iterable[str], known: Iterable[str], name: str, where: str) -> None:
    """Refuses the first key that is not a known one, with the nearest."""
    known = list(known)
    for key in document:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            fix = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(known)}."
            refuse(name, f"{where}: every key must be known", shortened(key), fix)


def integer(value: object, name: str, where: str, low: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        refuse(name, f"{where} must be an integer of at least {low}", shortened(value), "Write one.")
    return value


def bits(value: object, name: str, where: str) -> list[bool]:
    """A list of 0 and 1, 1 = compute."""
    if not isinstance(value, list) or not value:
        refuse(name, f"{where} must be a list of 0 and 1", shortened(value), "Write such as [1, 0, 1].")
    entries = cast(list[Any], value)
    for s, bit in enumerate(entries):
        if isinstance(bit, bool) or not isinstance(bit, int) or bit not in (0, 1):
            refuse(name, f"{where}, step {s} must be 0 (reuse) or 1 (compute)", shortened(bit), "Write 0 or 1.")
    return [bit == 1 for bit in entries]


# What printing an array puts round its numbers: `tensor([…], device='cuda:0')`, `np.array([…])`.
_PRINTED = ("tensor(", "torch.tensor(", "array(", "np.array(", "numpy.array(")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BRACKETS = (("[", "]"), ("(", ")"))


def numbers(text: str) -> list[int | float] | None:
    """The numbers, within 2^53, of a text that holds nothing else; None of another one.

    They stand in a JSON list, with commas, spaces or one a line (`np.savetxt`, with its comments), or as NumPy and
    torch print them.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    bare = _bare("\n".join(line.partition("#")[0] for line in text.splitlines()).strip())
    commas = bare.replace(";", ",").removesuffix(",").split(",")
    parts = [part for between in commas for part in between.split() or [""]]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    entries = [int(part) if re.fullmatch(r"[-+]?\d{1,17}", part) else float(part) for part in parts]
    return entries if all(abs(value) <= 2**53 for value in entries) else None


def _bare(text: str) -> str:
    """The text without what stands round its numbers."""
    for start in _PRINTED:
        if text.startswith(start) and text.endswith(")"):
            inside = text.removeprefix(start)
            text = inside[: inside.find("]") + 1]  # without a device and a type
    pair = (text[:1], text[-1:])
    return text[1:-1].strip() if pair in _BRACKETS else text
