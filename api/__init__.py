"""Exeunt: find when a diffusion network may leave early.

    import exeunt

    view = exeunt.optimize(exeunt.StudyConfig(), "exeunt.db")
    schedule = exeunt.load_schedule("fast.schedule.json")
    found = exeunt.evaluate(schedule, exeunt.StudyConfig())

Names are imported when they are used, so that `import exeunt` costs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from exeunt.backends.networks.hf.live.apply import apply, call_arguments, remove
    from exeunt.backends.networks.registry import load_network as load_network
    from exeunt.backends.sampling.loop import sample
    from exeunt.backends.schedule import ExeuntError, Schedule, ScheduleError
    from exeunt.backends.schedule import load as load_schedule
    from exeunt.backends.schedule import save as save_schedule
    from exeunt.searcher.measuring.evaluate import evaluate
    from exeunt.searcher.runner import optimize
    from exeunt.studies.config.reading import override
    from exeunt.studies.config.study import StudyConfig

__all__ = [
    "ExeuntError",
    "Schedule",
    "ScheduleError",
    "StudyConfig",
    "__version__",
    "apply",
    "call_arguments",
    "evaluate",
    "load_network",
    "load_schedule",
    "optimize",
    "override",
    "remove",
    "sample",
    "save_schedule",
]

# Each public name with the module that it comes from and its name there.
_HOMES = {
    "ExeuntError": ("backends.schedule", "ExeuntError"),
    "Schedule": ("backends.schedule", "Schedule"),
    "ScheduleError": ("backends.schedule", "ScheduleError"),
    "StudyConfig": ("studies.config.study", "StudyConfig"),
    "apply": ("backends.networks.hf.live.apply", "apply"),
    "call_arguments": ("backends.networks.hf.live.apply", "call_arguments"),
    "evaluate": ("searcher.measuring.evaluate", "evaluate"),
    "load_network": ("backends.networks.registry", "load_network"),
    "load_schedule": ("backends.schedule", "load"),
    "optimize": ("searcher.runner", "optimize"),
    "override": ("studies.config.reading", "override"),
    "remove": ("backends.networks.hf.live.apply", "remove"),
    "sample": ("backends.sampling.loop", "sample"),
    "save_schedule": ("backends.schedule", "save"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    from exeunt.backends.schedule import ExeuntError

    try:
        return getattr(importlib.import_module(f".{module}", __name__), attribute)
    except ExeuntError as error:
        return _absent(name, error)


def _absent(name: str, error: Exception) -> Any:
    """A function whose package is not installed: it can be imported and listed as others are, and says so if called."""

    def unavailable(*_: Any, **__: Any) -> Any:
        raise type(error)(*error.args)

    unavailable.__name__ = unavailable.__qualname__ = name
    unavailable.__doc__ = str(error)
    return unavailable


def __dir__() -> list[str]:
    return sorted(__all__)
