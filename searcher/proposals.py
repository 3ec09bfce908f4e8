"""Schedules that a user proposes, in place of those that a sampler would."""

from collections.abc import Sequence
from pathlib import Path

from ..backends.checkpoints.files import is_folder
from ..backends.errors import InputError
from ..backends.sampling.loop import check
from ..backends.schedule import SUFFIX, Schedule, load
from ..studies.store.outlines import hold
from .candidates import Candidate
from .laboratory import Laboratory


def read_proposals(paths: Sequence[Path], laboratory: Laboratory) -> list[Candidate]:
    """The schedules in some files and folders, sorted by name within a folder, each once.

    Raises:
        ScheduleError: a file is no schedule.
        InputError: there is none, or the study's network can't run one.
    """
    files = [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if is_folder(path) else [path])]
    if paths and not files:
        raise InputError(f"proposals: {', '.join(map(str, paths))} holds no file *{SUFFIX}. Give schedule files.")
    unique = {schedule.digest: (file, schedule) for file in files for schedule in [_load(file, laboratory)]}
    return [
        Candidate(file.name.removesuffix(SUFFIX), "trial", "", laboratory.weights, hold(schedule))
        for file, schedule in unique.values()
    ]


def _load(file: Path, laboratory: Laboratory) -> Schedule:
    schedule = load(file)
    try:
        check([laboratory.network], schedule)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return schedule
