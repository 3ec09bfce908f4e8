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
}


def check_families(families: Iterable[str]) -> None:
    """Raises InputError unless these are families."""
    for name in families:
        if name not in FAMILIES:
            raise InputError(f"baselines: `{name}` is not a family. Known: {', '.join(FAMILIES)}.")
