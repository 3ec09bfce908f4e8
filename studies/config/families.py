"""The families of baselines: schedules that need no search, each with its label and how figures draw it."""

from collections.abc import Iterable
from dataclasses import dataclass

from ...backends.errors import InputError


@dataclass(frozen=True)
class Family:
    """One family of points.

    Attributes:
        label: what legends call it.
        color: a name of the reports' palette.
        marker: the shape, by matplotlib's name.
        size: of the marker, in points.
    """

    label: str
    color: str
    marker: str
    size: float


# By the name that configurations and databases have. `searcher/spaces/candidates.py` makes their schedules.
FAMILIES = {
    "full": Family("full schedule", "ink", "*", 10.0),
    "fewer-steps": Family("fewer steps", "blue", "s", 5.0),
    "uniform-depth": Family("uniform depth", "green", "^", 6.0),
    "staircase": Family("published staircase", "purple", "P", 6.5),
    "interval-reuse": Family("fixed-interval reuse", "orange", "D", 5.0),
    "fora": Family("FORA", "red", "p", 6.0),
    "solver": Family("fewer steps, best solvers", "navy", "<", 5.5),
    "all-solvers": Family("fewer steps, every solver", "lime", ">", 5.0),
    "taylorseer": Family("TaylorSeer", "teal", "X", 6.0),
    "delta-dit": Family("Δ-DiT", "brown", "d", 6.0),
    "guidance-interval": Family("guidance interval", "olive", "h", 6.0),
    "stitch": Family("small network first, T-Stitch", "wine", "1", 9.0),
    "smoothcache": Family("SmoothCache, calibrated", "pink", "H", 6.0),
    "file": Family("from a file", "slate", "8", 6.0),
}
# What a study measures where nothing else is asked for, each member only once it is contested.
DEFAULT_FAMILIES = ("full", "fewer-steps", "uniform-depth", "staircase", "interval-reuse", "fora", "solver", "stitch")
# What comes from a calibration or from files, which no configuration can name.
GIVEN_FAMILIES = ("smoothcache", "file")


def check_families(families: Iterable[str]) -> None:
    """Raises InputError unless these are families."""
    for name in families:
        if name not in FAMILIES or name in GIVEN_FAMILIES:
            known = ", ".join(each for each in FAMILIES if each not in GIVEN_FAMILIES)
            raise InputError(f"baselines: `{name}` is not a family. Known: {known}.")
