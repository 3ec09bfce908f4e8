"""`exeunt optimize --workers N`: one study, N processes here or what another engine starts elsewhere, one display.

Each process works as `exeunt worker` does, on a GPU of its own where there are several, with its share of the cores.
This one starts them, shows what they do, restarts those that were lost, and lets all finish their step when it is told
to end. It touches no device itself.
"""

import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from ...backends.errors import DeviceError, ExeuntError, InputError, Interrupted, StorageError
from ...studies.config.reading import config_to_dict
from ...studies.interruption import Interruption
from ...studies.store.store import open_store, stored_config
from ...studies.workers.shared_state import STATES, withdraw_order
from ..monitoring.endpoint import Endpoint
from ..monitoring.progress import ProgressListener
from ..runner import StudyRequest
from ..search.budget import process_age
from .process import Event, Job, WorkerProcess

_POLL_SECONDS = 0.1
MOST_LOSSES = 3  # in a row without a single chunk measured
_FIRST_PAUSE = 1.0  # before a lost worker is started again, doubled each time
# Exit codes after which the same worker would end the same way.
ERRORS: dict[int, type[ExeuntError]] = {kind.exit_code: kind for kind in (InputError, DeviceError, StorageError)}


class RunningWorker(Protocol):
    """A running worker, on any machine; its members are documented at `WorkerProcess`."""

    measured: bool
    finished: bool
    error: tuple[str, str]

    @property
    def complaint(self) -> str: ...

    def ended(self) -> int | None: ...

    def drain(self) -> None: ...


# Starts one worker by its number, its job and its variables; it tells what it does to the queue.
WorkerStarter = Callable[[int, Job, Mapping[str, str], SimpleQueue[Event]], RunningWorker]


class WorkerBackend(NamedTuple):
    """The workers that one command may start.

    Attributes:
        url: the study's database, as they reach it.
        environments: the variables of each, which also say how many there are.
        start: starts one.
        writes_report: whether one of them writes the report, since they see this machine's folders.
    """

    url: str
    environments: list[dict[str, str]]
    start: WorkerStarter
    writes_report: bool


def processes(url: str, count: int, device: str) -> WorkerBackend:
    """So many processes here. Raises InputError as `environments` does."""
    return WorkerBackend(url, environments(count, device), WorkerProcess, writes_report=True)


@dataclass
class Slot:
    """A place for one worker: a device and a share of the cores.

    Attributes:
        number: from 1.
        environment: variables that its processes have.
        process: the one at work; None between two, and when nothing is left to do here.
        losses: how many in a row were lost without measuring anything.
        again: when to start another one, on `time.monotonic`'s clock; None if not.
        finished: whether the one here saw the study's end.
        error: why nothing more is started here; None while all is well.
    """

    number: int
    environment: dict[str, str]
    process: RunningWorker | None = None
    losses: int = 0
    again: float | None = 0.0
    finished: bool = False
    error: ExeuntError | None = None


class Workers:
    """The workers of one command; `announce` is called with the statement of the baseline, once."""

    def __init__(
        self, job: Job, backend: WorkerBackend, watch: ProgressListener, announce: Callable[[str], None]
    ) -> None:
        self.slots = [Slot(number, environment) for number, environment in enumerate(backend.environments, 1)]
        self._job, self._start, self._watch, self._announce = job, backend.start, watch, announce
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._phase, self._share, self._said = -1, 0.0, ""
        self._announced = self._drains = False

    def run(self, interruption: Interruption) -> None:
        """Works until every worker has ended.

        Raises:
            Interrupted: a signal came, or all workers of the study were to end; what was committed is kept.
            ExeuntError: what ended the last worker.
        """
        try:
            while any(slot.process is not None or slot.again is not None for slot in self.slots):
                if interruption.received is not None:
                    self._drain()
                for slot in self.slots:
                    self._tend(slot)
                self._show()
        finally:
            self._drain()
        self._show(wait=False)
        interruption.check()
        errors = [slot.error for slot in self.slots if slot.error is not None]
        if errors and not any(slot.finished for slot in self.slots):  # else one of them has seen the study's end
            raise next((error for error in errors if not isinstance(error, DeviceError)), errors[0])

    def _tend(self, slot: Slot) -> None:
        """Starts a worker where one is due, and sees what became of one that ended."""
        if slot.process is None:
            if slot.again is not None and time.monotonic() >= slot.again:
                slot.again = None
                job = self._job.of_worker(slot.number)
                slot.process = self._start(slot.number, job, slot.environment, self._events)
            return
        code = slot.process.ended()
        if code is not None:
            process, slot.process = slot.process, None
            self._judge(slot, process, code)

    def _judge(self, slot: Slot, process: RunningWorker, code: int) -> None:
        """What an exit code means for a slot, and for all."""
        identifier, text = process.error
        if process.finished:
            slot.finished = True
        elif self._drains:
            return
        elif identifier == "stopped":
            slot.error = Interrupted(text)
        elif code in (1, 2) and identifier:
            # What one finds wrong with the study or its settings, all do.
            slot.error = ERRORS.get(code, ExeuntError)(text)
            self._drain()
        elif code == 70:
            slot.error = DeviceError(text)
            self._watch.say(f"worker {slot.number} ends: {text}")
        else:
            self._lose(slot, process, code)

    def _lose(self, slot: Slot, process: RunningWorker, code: int) -> None:
        """Starts another worker after a while, unless too many were lost at once."""
        slot.losses = 1 if process.measured else slot.losses + 1
        reason = process.error[1] or _reason(code)
        if slot.losses >= MOST_LOSSES:
            text = f"worker {slot.number} was lost {MOST_LOSSES} times in a row: {reason}. {process.complaint}"
            slot.error = ERRORS.get(code, ExeuntError)(text)
            self._watch.say(str(slot.error))
            return
        pause = _FIRST_PAUSE * 2 ** (slot.losses - 1)
        slot.again = time.monotonic() + pause
        self._watch.say(f"worker {slot.number} was lost ({reason}); starting another one in {pause:g} s")

    def _drain(self) -> None:
        """Lets every worker finish its step, and starts no more."""
        if self._drains:
            return
        self._drains = True
        for slot in self.slots:
            slot.again = None
            if slot.process is not None:
                slot.process.drain()

    def _show(self, *, wait: bool = True) -> None:
        """Shows what the workers have said, and waits a moment for more."""
        end = time.monotonic() + (_POLL_SECONDS if wait else 0.0)
        with suppress(Empty):
            while True:
                self._show_one(self._events.get(timeout=max(0.0, end - time.monotonic())))

    def _show_one(self, event: Event) -> None:
        values = event.values
        if self._watch.relay(event.worker, values):
            return
        match values["event"]:
            case "say" | "reference" if values["text"] != self._said:  # one is enough to say that all pause
                self._said = values["text"]
                self._watch.say(values["text"])
            case "phase" if values["name"] in STATES and STATES.index(values["name"]) > self._phase:
                self._phase = STATES.index(values["name"])
                self._watch.phase(values["name"], 1.0)
            case "advance":
                self._share = max(self._share, values["share"])
                self._watch.advance(self._share, values["images"])
            case "log" if values["level"] in ("warning", "error"):
                self._watch.say(f"worker {event.worker}: {values['text']}")
            case "baseline" if not self._announced:
                self._announced = True
                self._announce(values["text"])
            case _:
                pass


def _reason(code: int) -> str:
    early = " before the study was finished" if code == 0 else ""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}{early}"


def environments(count: int, device: str) -> list[dict[str, str]]:
    """The variables of each of `count` workers: a GPU of its own, and its share of the cores.

    Raises InputError: the device names one GPU, which all would share.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Threads that spin while they wait take the cores from other processes, which are then 20 to 40 times as slow.
    shares = {"OMP_NUM_THREADS": str(max(1, cores // count)), "OMP_WAIT_POLICY": "PASSIVE"}
    own = {name: value for name, value in shares.items() if name not in os.environ}
    if not device.startswith("cuda"):
        return [own] * count
    if ":" in device:
        raise InputError(
            f"workers: {count} workers can't share {device}. Use --device cuda, and choose the GPUs with "
            "CUDA_VISIBLE_DEVICES."
        )
    gpus = _gpus()
    return [{**own, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(count)]


def _gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip()] or [""]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())] or [""]


def work_together(
    request: StudyRequest, backend: WorkerBackend, announce: Callable[[str], None], metrics: Endpoint | None = None
) -> None:
    """Does what `runner.work` does, in several processes.

    Args:
        request: what they do together; once its interruption has received a signal, they finish their step and end.
        announce: called with the statement of the baseline before anything is spent.
        metrics: where the first of them serves its figures, and each of the others at the next port.

    Raises what `optimize` does, and what ended the last worker.
    """
    job = Job(
        config=config_to_dict(request.config),
        url=backend.url,
        budget=str(request.spends),
        budget_id=secrets.token_hex(8),
        began=time.time() - process_age(),
        proposals=tuple(map(str, request.proposals)),
        warm_start=tuple(request.warm_start),
        named=tuple(request.names_code),
        parent=os.getpid(),
        reports=backend.writes_report,
        metrics=metrics,
    )
    if stored_config(backend.url, request.config.name) is not None:
        with open_store(backend.url) as store:
            withdraw_order(store, request.config.name)
    Workers(job, backend, request.watch, announce).run(request.interruption)
