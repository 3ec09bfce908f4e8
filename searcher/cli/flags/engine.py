"""The flags that say who does the work of a study, and the value that they make."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from ....backends.errors import InputError
from ....studies.config.study import StudyConfig
from .study import grouped

if TYPE_CHECKING:
    from ...workers.pool import WorkerBackend

AUTO_ADDRESS = "auto"


@dataclass(frozen=True)
class Engine:
    """The values of the flags below; None where one was not given."""

    name: str
    workers: int | None
    address: str | None
    cpus: float | None
    gpus: float | None

    def __post_init__(self) -> None:
        if self.name == "ray" and find_spec("ray") is None:
            raise InputError("engine: Ray is not installed. Type pip install 'exeunt[ray]'.")
        given = {"--address": self.address, "--cpus-per-worker": self.cpus, "--gpus-per-worker": self.gpus}
        alone = [flag for flag, value in given.items() if value is not None]
        if self.name != "ray" and alone:
            raise InputError(
                f"engine: {alone[0]} is for a Ray cluster, but got --engine {self.name}. Add --engine ray, or omit "
                f"{alone[0]}."
            )

    @property
    def waits(self) -> bool:
        """Whether others are to do the work."""
        return self.workers == 0

    @property
    def is_here(self) -> bool:
        """Whether the workers are processes of this machine."""
        return self.name == "processes"

    def resolve(self, config: StudyConfig, *, names_device: bool) -> StudyConfig:
        """The configuration with the device that workers get in place of `auto`.

        Raises InputError, DeviceError: it is not there, or no cluster answers.
        """
        if self.waits and names_device:
            return config  # Who leaves the work to others need not have their device.
        if self.name != "ray" or self.waits:
            from ...measuring.setup import resolve_device

            return resolve_device(config)
        from ...workers.ray.engine import resolve_cluster_device

        return resolve_cluster_device(config, self.address or AUTO_ADDRESS, self.gpus)

    @contextmanager
    def worker_backend(self, config: StudyConfig, url: str) -> Generator[WorkerBackend]:
        """The workers, for as long as the block lasts. Raises InputError where there can't be so many."""
        if self.name != "ray":
            from ...workers.pool import processes

            yield processes(url, self.workers or 1, config.throughput.device)
            return
        from ...workers.ray.engine import worker_backend

        address = self.address or AUTO_ADDRESS
        with worker_backend(config, url, self.workers, address=address, cpus=self.cpus or 1.0, gpus=self.gpus) as found:
            yield found


_GROUP = (
    click.option(
        "--workers",
        type=click.IntRange(0, 256),
        metavar="N",
        help="Number of workers, each with its own GPU; 0 starts none, so that you start them with `exeunt worker`. "
        "Default: 1; on Ray, one per GPU, or one per machine without GPUs.",
    ),
    click.option(
        "--engine",
        "name",
        type=click.Choice(["processes", "ray"]),
        default="processes",
        show_default=True,
        help="Where workers run: on this machine, or on a Ray cluster.",
    ),
    click.option(
        "--address", metavar="HOST:PORT", help="Address of the Ray cluster. Default: auto, the one on this machine."
    ),
    click.option(
        "--cpus-per-worker",
        "cpus",
        type=click.FloatRange(0, min_open=True),
        metavar="X",
        help="CPUs of each worker on Ray. Default: 1.",
    ),
    click.option(
        "--gpus-per-worker",
        "gpus",
        type=click.FloatRange(0),
        metavar="X",
        help="GPUs of each worker on Ray. Default: 1 if the study uses CUDA.",
    ),
)
# The flags, as the parameter `engine`.
engine_flags = grouped("engine", Engine, _GROUP)
