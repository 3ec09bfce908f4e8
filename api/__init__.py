"""Exeunt: find when a diffusion network may leave early."""

from ._version import __version__

__all__ = ["__version__"]
