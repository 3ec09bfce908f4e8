"""What is installed: this package's requirements and extras, with the versions that are there.

None of them is imported, so that one that is broken is listed all the same.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

PACKAGE = "exeunt"
FOR_DEVELOPERS = ("dev", "test")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True)
class Requirement:
    """A package that is needed.

    Attributes:
        name: of the package.
        wanted: the versions that will do, such as ">=5.0"; empty for any.
        version: what is there; None if it is missing.
    """

    name: str
    wanted: str
    version: str | None


def core() -> list[Requirement]:
    """What everything needs."""
    return [_requirement(line) for line in _lines() if not EXTRA.search(line)]


def extras() -> dict[str, list[Requirement]]:
    """What single commands need, by the extra's name."""
    found: dict[str, list[Requirement]] = {}
    for line in _lines():
        extra = EXTRA.search(line)
        if extra and extra.group(1) not in FOR_DEVELOPERS:
            found.setdefault(extra.group(1), []).append(_requirement(line))
    return found


def missing(requirements: Iterable[Requirement]) -> list[str]:
    """The names of those that are not there."""
    return [each.name for each in requirements if each.version is None]


def _lines() -> list[str]:
    try:
        return metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []


def _requirement(line: str) -> Requirement:
    specification = line.split(";")[0].strip()
    found = NAME.match(specification)
    assert found is not None, f"no package's name in {line!r}"
    wanted = re.sub(r"\[[^\]]*\]", "", specification[found.end() :]).strip().strip("()")
    return Requirement(found.group(), wanted, _version(found.group()))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
