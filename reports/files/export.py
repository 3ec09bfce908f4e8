"""Schedule files of a study's points, in our format and in other runtimes', and the commands that write them.

Any file that a command writes is written whole or not at all.
"""

import json
import re
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from errno import EBADF, EDQUOT, ENOSPC
from pathlib import Path

from exeunt import __version__

from ...backends.errors import InputError
from ...backends.formats.registry import find_format
from ...backends.schedule import SUFFIX, Measurement, Provenance, Schedule, opened_as, validate, write_file
from ...studies.database.urls import DEFAULT_STORAGE, file_path, file_url
from ..view.view import Point, Seeds, StudyView


def export_command(view: StudyView, point: Point) -> str:
    """Writes the point as a schedule file."""
    choice = ["--trial", str(point.trial)] if point.trial is not None else ["--label", point.label]
    return shlex.join(["exeunt", "export", *where(view), *choice, "-o", f"{file_stem(view, point)}{SUFFIX}"])


def resume_command(view: StudyView) -> str:
    """Goes on with the study."""
    return shlex.join(["exeunt", "resume", *where(view)])


def where(view: StudyView) -> list[str]:
    """The flags that name the study; the database only where a command in this folder wouldn't find it by itself."""
    default = {DEFAULT_STORAGE, file_url(file_path("exeunt.db"))}
    return [*([] if view.storage in default else ["--storage", view.storage]), "--study", view.name]


def file_stem(view: StudyView, point: Point) -> str:
    """Study and label as a file's name, in plain letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", f"{view.name} {point.label}".lower()).strip("-")


NETWORK_ARGS = "x-network-args"  # in a file's provenance


def portable_schedule(view: StudyView, point: Point) -> Schedule:
    """The point's schedule with what was measured and where it came from.

    A file with coefficients has another digest than the study's schedule: they are part of its identity.
    """
    measured = tuple(found for seeds in ("final", "search") if (found := _measurement(view, point, seeds)))
    return of_study(view, replace(point.schedule, measured=measured), point.label, point.trial)


def of_study(view: StudyView, schedule: Schedule, label: str, trial: int | None = None) -> Schedule:
    """A schedule with its name in a study, and where it came from."""
    # What the network's constructor was given may change images, and no digest of weights tells.
    given = view.conditions.get("network_args")
    extras = () if given is None else ((NETWORK_ARGS, json.dumps(given)),)
    created = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    named = replace(
        schedule,
        name=f"{view.name}, {label}",
        provenance=Provenance(view.name, trial, __version__, created, extras),
    )
    validate(named)
    return named


def _measurement(view: StudyView, point: Point, seeds: Seeds) -> Measurement | None:
    """The quality on these seeds; end-to-end throughput stands beside final values only."""
    if (quality := point.quality(seeds)) is None:
        return None
    timed = point.throughput if seeds == "final" else None
    shown, conditions = view.standard.shown(quality.distance), view.conditions
    return Measurement(
        metric=quality.metric,
        value=shown.value,
        interval=(shown.lower, shown.upper),
        floor=quality.floor if view.standard.kind == "reference" else None,
        num_images=quality.num_images,
        seeds=seeds,
        images_per_second=view.speed(point, "final") if timed else None,
        baseline_images_per_second=view.speed(view.full, "final") if timed and view.full else None,
        batch_size=timed.batch_size if timed else None,
        dtype=conditions.get("dtype"),
        executor=conditions.get("executor"),
        device=conditions.get("device"),
    )


def export_text(view: StudyView, point: Point, name: str = "exeunt") -> str:
    """The text of the point's file in a format.

    Raises:
        InputError, ScheduleError: there is no such format, or it can't express the schedule; the message says what
            stands in the way.
    """
    return find_format(name).write(portable_schedule(view, point))


def default_path(view: StudyView, point: Point, name: str) -> Path:
    """Where `exeunt export` writes without `-o`: study and label in the working folder."""
    return Path(f"{file_stem(view, point)}{find_format(name).suffix}")


STANDARD_OUTPUT = Path("-")


def is_standard_output(path: Path) -> bool:
    """Whether a file that is written there comes out where a command says what it did."""
    return path == STANDARD_OUTPUT or opened_as(path) == 1


def is_special(path: Path) -> bool:
    """Whether a device, a pipe or a socket is there, which is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_whole(path: Path, content: bytes | memoryview, *, makes_folder: bool = True) -> None:
    """Writes a file as `write_file` does; `-` is standard output.

    Raises:
        InputError: the folder or the file can't be written.
    """
    shown = "standard output" if path == STANDARD_OUTPUT else str(path)
    try:
        if is_standard_output(path):
            if sys.stdout is None:  # type: ignore[redundant-expr]  # closed by the shell
                raise OSError(EBADF, "it is closed")
            sys.stdout.flush()
        if path == STANDARD_OUTPUT:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
            return
        if makes_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
    except OSError as error:
        fix = "Give another path, or make room." if error.errno in (ENOSPC, EDQUOT) else "Give another path."
        raise InputError(f"output: {shown} must be writable, but got {error.strerror or error}. {fix}") from None
