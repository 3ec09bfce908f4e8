"""Schedules as ONNX folders from the command line: the network is loaded, and each graph is told as it is made."""

from pathlib import Path

from ..backends.formats.onnx.export import export
from ..backends.sampling.compatibility import as_scheduled
from ..backends.schedule import Schedule
from ..studies.config.study import StudyConfig, override
from .laboratory import load_one, make_conditions
from .progress import watching


def write_onnx(schedule: Schedule, config: StudyConfig, folder: Path) -> Path:
    """Write the folder for a schedule on the configuration's checkpoint, and return its manifest's path.

    Raises:
        InputError: the checkpoint can't be loaded or isn't the schedule's, or the folder is not empty.
        CannotExport: the network has operations that ONNX does not.
    """
    config = override(config, {"throughput.device": "cpu"})
    network = as_scheduled(load_one(config), schedule)
    make_conditions(config, network)  # a network of prompts carries what it has embedded into its graphs
    with watching() as watch:
        return export([network], schedule, folder, observe=lambda file: watch.say(f"{folder}/{file}"))
