"""Baselines from files: schedules as they stand, and those of other runtimes on the solver and times of the full one.

Learning-to-Cache's routers come in SmoothCache's format, ECAD's in its own, and cache-dit's as YAML.
"""

from collections.abc import Sequence
from pathlib import Path

from ...backends.errors import InputError
from ...backends.formats.registry import FORMATS, named_by_suffix, sniff
from ...backends.network import Network
from ...backends.sampling.loop import check_schedule
from ...backends.schedule import MAX_BYTES, Schedule, ScheduleError
from ..spaces.baselines import Row


def read_files(paths: Sequence[Path], networks: Sequence[Network], full: Schedule) -> list[Row]:
    """The schedules in files, each under its file's name.

    Raises:
        InputError, ScheduleError: a file can't be read, or the networks can't run what it holds; the message names it.
    """
    found: list[Row] = []
    for path in paths:
        try:
            schedule = _read(path, full)
            check_schedule(networks[: len(schedule.networks)], schedule)
        except ScheduleError as error:
            raise ScheduleError(error.identifier, f"{path}: {error}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        found.append((path.name.removesuffix(".json").removesuffix(".schedule"), schedule))
    return found


def _read(path: Path, full: Schedule) -> Schedule:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InputError("must be text in UTF-8, but is not. Give a schedule file.") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"must have at most {MAX_BYTES} bytes, but has more. Give a schedule file.")
    name = named_by_suffix(path.name) or sniff(text, full)
    reader = FORMATS[name].read
    assert reader is not None, name
    return reader(text, None if FORMATS[name].suffix == FORMATS["schedule"].suffix else full)
