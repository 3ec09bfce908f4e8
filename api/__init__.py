"""Exeunt: find when a diffusion network may leave early.

    import exeunt

    schedule = exeunt.load_schedule("fast.schedule.json")
    network = exeunt.load_network("fashion-dit-exits")
    for batch in exeunt.sample([network], schedule, seed=0, images=range(64), conditions=..., batch_size=64): ...

Names are imported when they are used, so that `import exeunt` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .backends.network import load as load_network
    from .backends.sampling import sample
    from .backends.schedule import ExeuntError, Schedule, ScheduleError
    from .backends.schedule import load as load_schedule
    from .backends.schedule import save as save_schedule
    from .searcher.runner import run_study as optimize
    from .studies.config import StudyConfig

__all__ = [
    "ExeuntError",
    "Schedule",
    "ScheduleError",
    "StudyConfig",
    "__version__",
    "load_network",
    "load_schedule",
    "optimize",
    "sample",
    "save_schedule",
]

# Each public name with the module and the name that it has there.
_HOMES = {
    "ExeuntError": ("backends.schedule", "ExeuntError"),
    "Schedule": ("backends.schedule", "Schedule"),
    "ScheduleError": ("backends.schedule", "ScheduleError"),
    "StudyConfig": ("studies.config", "StudyConfig"),
    "evaluate": ("searcher.evaluation", "evaluate"),
    "load_network": ("backends.network", "load"),
    "load_schedule": ("backends.schedule", "load"),
    "optimize": ("searcher.study", "optimize"),
    "sample": ("backends.sampling", "sample"),
    "save_schedule": ("backends.schedule", "save"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
