"""The search spaces by name. The default is the one that measured best on the bundled checkpoint."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ...backends.errors import InputError, nearest

if TYPE_CHECKING:
    from .base import Space
    from .frame import FullSchedule

# Each with its class, which is imported where one is made: `--help` lists the names.
SPACES = {
    "mixed": "curves:Mixed",
    "curve": "curves:Curve",
    "snr-curve": "curves:SnrCurve",
    "cache": "curves:Cache",
    "staircase": "segments:Staircase",
    "segments": "segments:Segments",
}


def make_space(name: str, frame: FullSchedule) -> Space:
    """The space of that name for one study's frame. Raises InputError if there is no such space."""
    check_space(name)
    module, _, kind = SPACES[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), kind)(frame)


def check_space(name: str) -> None:
    """Raises InputError, with the nearest name, unless there is a space of that name."""
    if name not in SPACES:
        raise InputError(f"space: `{name}` is not known. {nearest(name, SPACES)}")
