"""What runs on a node of a Ray cluster: an actor that looks after one worker process there.

The worker is a process of its own, as with `exeunt optimize --workers N`, so that it can be asked to end by a signal,
and so that nothing that Ray does to its own processes disturbs a measurement. The actor needs no torch.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from exeunt import __version__

from ....studies.workers.workers import this_process
from ..process import Event, Job, WorkerProcess

LISTEN_SECONDS = 1.0


@dataclass(frozen=True)
class Heard:
    """What became of a worker since it was last listened to, as `WorkerProcess` has it.

    `events` are what it said, as `json_lines.JsonLines` writes it, and `code` is what `ended` returns.
    """

    events: tuple[dict[str, Any], ...] = ()
    code: int | None = None
    measured: bool = False
    finished: bool = False
    error: tuple[str, str] = ("", "")
    complaint: str = ""


def worker_place(folder: str | None = None) -> dict[str, Any]:
    """Where this process runs and with what, in types that every version can read.

    Args:
        folder: whose identity is wanted: two processes that see the same one can share files in it.
    """
    process, file = this_process(), None
    if folder is not None and Path(folder).is_dir():
        found = Path(folder).stat()
        file = found.st_dev, found.st_ino
    return {"exeunt": __version__, "host": process.host, "kernel": process.boot, "folder": file}


class Actor:
    """Starts one worker process, hears it, and asks it to end. Its methods may run side by side."""

    def __init__(self) -> None:
        self._process: WorkerProcess | None = None
        self._drains = False
        self._events: SimpleQueue[Event] = SimpleQueue()

    def look(self, folder: str | None) -> dict[str, Any]:
        return worker_place(folder)

    def begin(self, number: int, job: Job, age: float, environment: Mapping[str, str], home: str) -> None:
        """Starts the process.

        Args:
            number: the worker's.
            job: what it does. It comes with this call, and not with the actor's creation, which Ray writes down.
            age: seconds since its command began, since this machine's clock may be another.
            environment: variables that the process has beside the node's own.
            home: the folder that relative paths start from, where it is there.
        """
        if Path(home).is_dir():
            os.chdir(home)
        job = replace(job, parent=os.getpid(), began=time.time() - age)
        self._process = WorkerProcess(number, job, environment, self._events)
        if self._drains:
            self._process.drain()

    def listen(self) -> Heard:
        """Waits a moment for news."""
        process = self._process
        assert process is not None
        events = self._heard(LISTEN_SECONDS)
        code = process.ended()
        if code is not None:
            events += self._heard(0.0)
        return Heard(tuple(events), code, process.measured, process.finished, process.error, process.complaint)

    def drain(self) -> None:
        self._drains = True
        if self._process is not None:
            self._process.drain()

    def _heard(self, seconds: float) -> list[dict[str, Any]]:
        """All that it said; waits so long for something."""
        found: list[dict[str, Any]] = []
        with suppress(Empty):
            found.append(self._events.get(timeout=seconds).values)
            while True:
                found.append(self._events.get_nowait().values)
        return found
