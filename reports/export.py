"""Schedule files of a study's points, in our format and in those of other runtimes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from exeunt import __version__

from ..backends.errors import InputError
from ..backends.schedule import SUFFIX, Measurement, Provenance, Schedule, dumps, to_ase, validate
from ..backends.solvers import with_coefficients
from .commands import file_stem
from .view import Point, Seeds, StudyView


@dataclass(frozen=True)
class Format:
    """A kind of file: what it is called in `--help`, its suffix, and how a schedule becomes its text.

    `write` raises ScheduleError, with the rule, for a schedule that the format can't express.
    """

    description: str
    suffix: str
    write: Callable[[Schedule], str]


FORMATS: dict[str, Format] = {
    "exeunt": Format("Exeunt's own schedule file, with coefficients", SUFFIX, dumps),
    "ase": Format("ASE's ten depths (Moon et al. 2024)", ".ase.txt", lambda schedule: f"{to_ase(schedule)}\n"),
}


def find_format(name: str) -> Format:
    """The format of that name. Raises InputError with the nearest names."""
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1) or ["exeunt"]
        raise InputError(f'--format: must be one of {", ".join(FORMATS)}, but got "{name}". Use --format {near[0]}.')
    return FORMATS[name]


def portable(view: StudyView, point: Point) -> Schedule:
    """The point's schedule with its solver's coefficients, what was measured, and where it came from.

    The digest is another one than in the study, because coefficients are part of a schedule's identity.
    """
    created = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    schedule = replace(
        with_coefficients(point.schedule),
        name=f"{view.name}, {point.label}",
        measured=tuple(found for seeds in ("final", "search") if (found := _measurement(view, point, seeds))),
        provenance=Provenance(study=view.name, trial=point.trial, exeunt=__version__, created=created),
    )
    validate(schedule)
    return schedule


def _measurement(view: StudyView, point: Point, seeds: Seeds) -> Measurement | None:
    """The quality on these seeds; end-to-end throughput stands beside final values only."""
    if (quality := point.quality(seeds)) is None:
        return None
    timed = point.throughput if seeds == "final" else None
    distance, conditions = quality.distance, view.conditions
    return Measurement(
        metric=quality.metric,
        value=distance.value,
        interval=(distance.lower, distance.upper),
        floor=quality.floor,
        num_images=quality.num_images,
        seeds=seeds,
        images_per_second=view.speed(point, "final") if timed else None,
        baseline_images_per_second=view.speed(view.full, "final") if timed and view.full else None,
        batch_size=timed.batch_size if timed else None,
        dtype=conditions.get("dtype"),
        executor=conditions.get("executor"),
        device=conditions.get("device"),
    )


def export(view: StudyView, point: Point, name: str = "exeunt") -> str:
    """The text of the point's file in a format.

    Raises:
        InputError: there is no such format.
        ScheduleError: the format can't express the schedule; the message says what stands in the way.
    """
    return find_format(name).write(portable(view, point))


def default_path(view: StudyView, point: Point, name: str) -> Path:
    """Where `exeunt export` writes without `-o`: study and label in the working folder."""
    return Path(f"{file_stem(view, point)}{find_format(name).suffix}")
