"""A study's configuration, read from TOML, dicts and assignments, changed by dotted keys, and compared."""

import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from ...backends.errors import InputError, nearest
from .families import check_families
from .rules import from_table, json_value, nearest_setting, shown_setting
from .study import AUTO, FREE_SETTINGS, LATENCY, RESOLVED_SETTINGS, SECTIONS, SPACE_NAMES, StudyConfig

MAX_FILE_BYTES = 1_000_000
MOST_DOTS = 200


class Difference(NamedTuple):
    """A setting with two values. `free` says that no stored number depends on it."""

    key: str
    old: Any
    new: Any
    free: bool


def from_toml(path: str | Path) -> StudyConfig:
    """The configuration in a study file, at most 1 MB of UTF-8 TOML; what it leaves out has its default.

    Raises:
        InputError: the file cannot be read, is not TOML, has an unknown key, or a value breaks its rule.
    """
    try:
        return config_from_dict(_tables(_read(Path(path))))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InputError(f"a study file must have at most {MAX_FILE_BYTES} bytes, but has more. Check the path.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"the study file cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"a study file must be UTF-8, but byte {error.start} is not. Save it as UTF-8.") from error


def _tables(text: str) -> dict[str, Any]:
    # Python's reader keeps every prefix of a dotted key: one of 20,000 parts takes a gigabyte.
    dots = max(line.count(".") for line in text.split("\n"))
    if dots > MOST_DOTS:
        raise InputError(f"a line of a study file must have at most {MOST_DOTS} dots, but one has {dots}. Shorten it.")
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of thousands of digits
        reason = str(error)
        raise InputError(f"a study file must be TOML, but {reason[:1].lower()}{reason[1:]}. Fix that.") from error
    except RecursionError as error:
        raise InputError("a study file must not nest this deeply. Remove tables within tables.") from error


def config_from_dict(tables: Mapping[str, Any]) -> StudyConfig:
    """The configuration from nested dicts, the inverse of `config_to_dict`; what is left out has its default."""
    known = [each.name for each in fields(StudyConfig)]
    for key in tables:
        if key not in known:
            raise InputError(f"`{key}` is not a table of a study file. {_where(key, known)}")
    timed = tables.get("throughput")
    if isinstance(timed, Mapping) and timed.get("objective") == LATENCY:
        tables = {**tables, "throughput": {"batch_size": 1, **timed}}
    made = {key: from_table(SECTIONS[key], table) for key, table in tables.items() if key != "name"}
    return StudyConfig(name=tables.get("name", StudyConfig.name), **cast(dict[str, Any], made))


def _where(key: str, known: list[str]) -> str:
    """The section that has this setting, for a key that was written outside any; else the nearest name."""
    holders = [section for section, kind in SECTIONS.items() if key in {each.name for each in fields(kind)}]
    return f"Write it under [{'] or ['.join(holders)}]." if holders else nearest_setting(key, known)


def config_to_dict(config: StudyConfig) -> dict[str, Any]:
    """The configuration as JSON types, whole: defaults are written out, since a later version may have others."""
    sections = {
        section: {each.name: json_value(getattr(getattr(config, section), each.name)) for each in fields(kind)}
        for section, kind in SECTIONS.items()
    }
    return {"name": config.name, **sections}


def override(config: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """The configuration with some settings replaced, by their dotted keys: `{"quality.num_images": 512}`.

    Raises:
        InputError: a key is unknown, a value breaks its rule, or there is nothing of a name.
    """
    values = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
    for key in values:
        if key not in settings():
            raise InputError(f"`{key}` is not a setting. {_nearest_setting(key)}")
        _check_name(key, values[key])
    made: dict[str, Any] = {"name": values["name"]} if "name" in values else {}
    for section in SECTIONS:
        inside = {key.split(".")[1]: value for key, value in values.items() if key.startswith(f"{section}.")}
        made |= {section: replace(getattr(config, section), **inside)} if inside else {}
    return replace(config, **made)


def _check_name(key: str, value: Any) -> None:
    """Refuses a name of nothing in this version, which a stored study may keep. Other rules come with the sections."""
    from ...backends.solvers.spacings import SPACINGS
    from ...backends.solvers.tables import find_solver

    if key == "search.baselines" and isinstance(value, list | tuple):
        check_families(str(each) for each in cast(list[Any], value))
    elif isinstance(value, str) and key == "baseline.solver":
        find_solver(value)
    else:
        known = {"search.space": SPACE_NAMES, "baseline.spacing": SPACINGS}.get(key)
        if known is not None and isinstance(value, str) and value not in known:
            raise InputError(f"{key.split('.')[1]}: `{value}` is not known. {nearest(value, known)}")


def settings() -> list[str]:
    """The dotted keys of all settings."""
    return ["name", *(f"{section}.{each.name}" for section, kind in SECTIONS.items() for each in fields(kind))]


def _nearest_setting(key: str) -> str:
    last = key.rsplit(".", 1)[-1]
    same = [each for each in settings() if each.rsplit(".", 1)[-1] == last]
    return f"Did you mean `{same[0]}`?" if same else nearest_setting(key, settings())


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """`quality.num_images=512` as key and value. The value is TOML where it can be, and text where it cannot."""
    key, equals, value = assignment.partition("=")
    if not equals:
        raise InputError(f"a setting must be KEY=VALUE, but got `{assignment}`. Write quality.num_images=512.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), value.strip()


def config_difference(old: StudyConfig, new: StudyConfig, same: Collection[str] = ()) -> list[Difference]:
    """The settings in which two configurations differ, those that change a number first.

    `same` names settings whose values differ in spelling only: a checkpoint that was moved and has the same digest.
    """
    before, after = _flat(old), _flat(new)
    changed = [
        Difference(key, before[key], after[key], key in FREE_SETTINGS or key in same or says_nothing(key, after[key]))
        for key in before
        if before[key] != after[key]
    ]
    return sorted(changed, key=lambda each: each.free)


def says_nothing(key: str, value: Any) -> bool:
    """Whether a setting's value leaves it to the network."""
    return value == AUTO or (key in RESOLVED_SETTINGS and value in (None, (), []))


def _flat(config: StudyConfig) -> dict[str, Any]:
    tables = config_to_dict(config)
    inner = {f"{section}.{key}": value for section in SECTIONS for key, value in tables[section].items()}
    return {"name": tables["name"], **inner}


def refuse_difference(stored: StudyConfig, given: StudyConfig, same: Collection[str] = ()) -> None:
    """Raises `InputError`, with the difference shown, where resuming with `given` would change a number."""
    changed = [each for each in config_difference(stored, given, same) if not each.free]
    if changed:
        lines = "\n".join(
            f"  {each.key}: stored {shown_setting(each.old)}, given {shown_setting(each.new)}" for each in changed
        )
        raise InputError(
            f"study `{stored.name}` was started with another configuration; results would not be comparable:\n{lines}\n"
            f"Continue as stored with `exeunt resume --study {stored.name}`, or start another study with --study NAME."
        )
