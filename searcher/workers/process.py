"""One worker process as its parent sees it: its job, and how it is started, listened to and asked to end.

To pass a job on takes no torch.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

from ..monitoring.endpoint import Endpoint


@dataclass(frozen=True)
class Job:
    """What the processes of one command do together.

    Attributes:
        config: the study, as `config.to_dict` has it.
        url: its database.
        budget: what they spend together, as text.
        budget_id: drawn by their parent.
        began: when the parent's command began, in seconds since 1970.
        proposals: files and folders of schedules.
        warm_start: where the search's first proposals come from.
        named: the code of their own that the user names.
        parent: the parent's process identifier, on the machine where the process runs.
        reports: whether this process writes the report when the study is finished.
        metrics: where it serves its figures; None: nowhere.
    """

    config: dict[str, Any]
    url: str
    budget: str
    budget_id: str
    began: float
    proposals: tuple[str, ...]
    warm_start: tuple[str, ...]
    named: tuple[str, ...]
    parent: int
    reports: bool = False
    metrics: Endpoint | None = None

    def of_worker(self, number: int) -> "Job":
        """What one of them does, from 1: the first writes the report, and each serves figures at a port of its own."""
        metrics = self.metrics and self.metrics.of_worker(number)
        return replace(self, reports=self.reports and number == 1, metrics=metrics)


SAFE_PATH = "PYTHONSAFEPATH"  # a program's import path begins with no folder that just happens to be there
KEPT_LINES = 20  # of standard error, where a traceback stands
PROGRAM = "exeunt.searcher.workers.child"
FINISHED = "finished"  # the event that a worker ends with that has seen the study's end


class Event(NamedTuple):
    """What a worker said: one line of `json_lines.JsonLines`."""

    worker: int
    values: dict[str, Any]


class WorkerProcess:
    """A running process. It is in a session of its own, so that Ctrl-C reaches the parent alone.

    Attributes:
        measured: whether it has committed anything.
        finished: whether it has seen the study's end.
        error: its last error's identifier and text; empty if it said none.
    """

    def __init__(self, number: int, job: Job, environment: Mapping[str, str], events: "SimpleQueue[Event]") -> None:
        self.number = number
        self.measured = self.finished = False
        self.error: tuple[str, str] = ("", "")
        self._events = events
        self._complaints: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM],
            env={**os.environ, **environment, SAFE_PATH: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=target, args=[stream], daemon=True)
            for target, stream in (
                (self._listen, self._process.stdout),
                (self._collect, self._process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # if it ended at once, its exit code says why
            stdin.write(f"{json.dumps(asdict(job))}\n")

    @property
    def complaint(self) -> str:
        """The end of what it wrote to standard error."""
        return "".join(self._complaints).strip()

    def ended(self) -> int | None:
        """The exit code, negative for a signal, once all that it said was read; None while it runs."""
        code = self._process.poll()
        if code is not None:
            for reader in self._readers:
                reader.join(timeout=5.0)
        return code

    def drain(self) -> None:
        """Asks it to end after its next step."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _collect(self, stream: IO[str]) -> None:
        with stream:
            self._complaints.extend(stream)

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            self._hear(stream)

    def _hear(self, lines: Iterable[str]) -> None:
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:
                self._complaints.append(line)  # a library's own words
                continue
            self.measured = self.measured or values["event"] == "advance"
            self.finished = self.finished or values["event"] == FINISHED
            if values["event"] == "error":
                self.error = values["identifier"], values["text"]
            self._events.put(Event(self.number, values))
