"""Who does the work of `exeunt optimize`: processes on this machine, or what another engine starts elsewhere."""

from typing import NamedTuple

from .workers import Starter, environments
from .workers_process import WorkerProcess


class Hands(NamedTuple):
    """The workers that one command may start.

    Attributes:
        url: the study's database, as they reach it.
        environments: the variables of each, which also say how many there are.
        start: starts one.
        writes_report: whether one of them writes the report, since they see this machine's folders.
    """

    url: str
    environments: list[dict[str, str]]
    start: Starter
    writes_report: bool


def processes(url: str, count: int, device: str) -> Hands:
    """So many processes here. Raises InputError as `environments` does."""
    return Hands(url, environments(count, device), WorkerProcess, writes_report=True)
