"""The search spaces by name. The default is the one that measured best on the bundled checkpoint."""

from ...backends.errors import InputError, nearest
from .base import Space
from .curves import Cache, Curve, Mixed, SnrCurve
from .frame import FullSchedule
from .segments import Segments, Staircase

SPACES: dict[str, type[Space]] = {kind.name: kind for kind in (Mixed, Curve, SnrCurve, Cache, Staircase, Segments)}


def make_space(name: str, frame: FullSchedule) -> Space:
    """The space of that name for one study's frame. Raises InputError if there is no such space."""
    check_space(name)
    return SPACES[name](frame)


def check_space(name: str) -> None:
    """Raises InputError, with the nearest name, unless there is a space of that name."""
    if name not in SPACES:
        raise InputError(f"space: `{name}` is not known. {nearest(name, SPACES)}")
