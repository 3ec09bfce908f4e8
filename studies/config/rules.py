"""One setting of a study: its default, the rule for its value, and one sentence that says what it is.

A rule takes (key, value), returns the value in its normal form (a list becomes a tuple, 1 becomes 1.0 where a decimal
is meant), and raises `InputError` with rule, value and fix. A `Section` applies its rules whenever one is made, so a
configuration that exists is valid, whether it came from a file, from flags or from Python.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, cast

from ...backends.errors import InputError

Rule = Callable[[str, Any], Any]


def setting(default: Any, rule: Rule, about: str) -> Any:
    """A dataclass field with a rule. `about` is the sentence that documentation and errors show."""
    return field(default=default, metadata={"rule": rule, "about": about})


@dataclass(frozen=True)
class Section:
    """A table of a study file. Subclasses declare `section`, its name there, and fields made by `setting`."""

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for each in fields(self):
            value = each.metadata["rule"](f"{self.section}.{each.name}", getattr(self, each.name))
            object.__setattr__(self, each.name, value)


def shown_setting(value: Any) -> str:
    """A value as a study file would spell it, for messages."""
    if value is None:
        return '"none"'
    try:
        return json.dumps(json_value(value))
    except (TypeError, ValueError):
        return repr(value)


def json_value(value: Any) -> Any:
    """The JSON form of a setting's value: tuples become lists."""
    return [json_value(each) for each in cast(Iterable[Any], value)] if isinstance(value, (list, tuple)) else value


def nearest_setting(name: str, known: list[str]) -> str:
    """`Did you mean …?` where something is close, and always the list of what is known."""
    close = get_close_matches(name, known, n=1)
    return (f"Did you mean `{close[0]}`? " if close else "") + f"Known: {', '.join(known)}."


def _refuse(key: str, rule: str, value: Any, fix: str) -> InputError:
    return InputError(f"{key} must be {rule}, but got {shown_setting(value)}. {fix}")


def whole(low: int, high: int) -> Rule:
    """A whole number in [low, high]."""

    def rule(key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refuse(key, f"a whole number from {low} to {high}", value, f"Write {key} = {low}, or more.")
        if not low <= value <= high:
            near = min(max(value, low), high)
            raise _refuse(key, f"a whole number from {low} to {high}", value, f"The nearest is {near}.")
        return value

    return rule


def decimal(low: float, high: float) -> Rule:
    """A finite number in [low, high]."""

    def rule(key: str, value: Any) -> float:
        # An integer that no float holds would be an error in every comparison with one.
        is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        if not (is_whole or isinstance(value, float)) or not math.isfinite(value):
            raise _refuse(key, f"a number from {low:g} to {high:g}", value, f"Write {key} = {low}, or more.")
        if not low <= value <= high:
            raise _refuse(
                key, f"a number from {low:g} to {high:g}", value, f"The nearest is {min(max(value, low), high):g}."
            )
        return float(value)

    return rule


def text(key: str, value: Any) -> str:
    """Text that is not empty, on one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _refuse(key, "text on one line, not empty", value, f'Write {key} = "…".')
    return value


def name(key: str, value: Any) -> str:
    """A registered name. Whether it is known is checked where the registry is; here only that it can be one."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,99}", value):
        rule = "a name of letters, digits and - _ . : +, at most 100 of them"
        raise _refuse(key, rule, value, f"Write {key} without spaces or other signs.")
    return value


def one_of(*known: Any) -> Rule:
    """One of a few values."""

    def rule(key: str, value: Any) -> Any:
        if not any(value == each and type(value) is type(each) for each in known):
            listed = ", ".join(shown_setting(each) for each in known)
            close = get_close_matches(str(value), [str(each) for each in known], n=1)
            fix = f"Did you mean {shown_setting(close[0])}?" if close else f"Write {key} = {shown_setting(known[0])}."
            raise _refuse(key, f"one of {listed}", value, fix)
        return value

    return rule


def optional(rule: Rule) -> Rule:
    """What the rule takes, or nothing: None in Python and JSON, "none" in a study file or on the command line."""

    def either(key: str, value: Any) -> Any:
        return None if value is None or value == "none" else rule(key, value)

    return either


def any_of(*rules: Rule) -> Rule:
    """What the first rule that takes it makes of a value; the last one words the refusal."""

    def rule(key: str, value: Any) -> Any:
        for each in rules[:-1]:
            try:
                return each(key, value)
            except InputError:
                continue
        return rules[-1](key, value)

    return rule


def many(rule: Rule, at_least: int = 0) -> Rule:
    """A list whose entries follow a rule, each of them once. A single entry may stand without brackets."""

    def rules(key: str, value: Any) -> tuple[Any, ...]:
        entries = tuple(cast(Iterable[Any], value)) if isinstance(value, (list, tuple)) else (value,)
        taken = tuple(rule(f"{key}[{index}]", each) for index, each in enumerate(entries))
        if len(taken) < at_least:
            raise _refuse(key, f"a list of at least {at_least}", value, f'Write {key} = ["…"].')
        twice = [each for each in taken if taken.count(each) > 1]
        if twice:
            raise _refuse(key, "a list without repeats", value, f"Omit one {shown_setting(twice[0])}.")
        return taken

    return rules


def options(key: str, value: Any) -> tuple[tuple[str, Any], ...]:
    """A table of names with numbers, text, true or false, as sorted pairs: `dict(…)` makes arguments of it."""
    try:
        table: dict[Any, Any] = dict(value)
    except (TypeError, ValueError):
        raise _refuse(key, "a table", value, f"Write {key} = {{ name = value }}.") from None
    for each, content in table.items():
        name(f"{key}.{each}", each)
        if not isinstance(content, (bool, int, float, str)) or (
            isinstance(content, float) and not math.isfinite(content)
        ):
            raise _refuse(f"{key}.{each}", "a finite number, text, true or false", content, "Use one of these.")
    return tuple(sorted(table.items()))


BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def memory(key: str, value: Any) -> str:
    """An amount of memory such as 8GB or 512MiB, as it was written."""
    parse_memory(value, key)
    return "".join(value.split())


def parse_memory(value: Any, key: str = "max_memory") -> int:
    """The bytes that `memory` took: 1 GB are 10⁹, 1 GiB 2³⁰."""
    found = (
        re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*([KMGT]i?B)\s*", value, re.IGNORECASE)
        if isinstance(value, str)
        else None
    )
    size = 0 if found is None else round(float(found[1]) * BYTES[found[2].upper()])
    if size <= 0:
        raise _refuse(key, "memory above 0 with its unit, such as 8GB or 512MiB", value, f'Write {key} = "8GB".')
    return size


def pipeline_executor(key: str, value: Any) -> str:
    """What a study calls a live pipeline that runs its network: by the digest of the code that makes it."""
    if not isinstance(value, str) or not re.fullmatch("pipeline-[0-9a-f]{12}", value):
        raise _refuse(key, "pipeline- and 12 hexadecimal digits", value, "It is set where --pipeline is given.")
    return value


def from_table(section: type[Section], table: Any) -> Section:
    """A section from a table of a study file, whose unknown keys are refused with the nearest known."""
    if not isinstance(table, Mapping):
        raise InputError(
            f"{section.section} must be a table, but got {shown_setting(table)}. "
            f"Write [{section.section}] on its own line."
        )
    known = [each.name for each in fields(section)]
    values = cast(Mapping[str, Any], table)
    for key in values:
        if key not in known:
            raise InputError(f"{section.section}.{key} is not a setting. {nearest_setting(key, known)}")
    return section(**values)
