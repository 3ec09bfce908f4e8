"""`exeunt optimize --engine ray`: one study, its workers on a Ray cluster, one display here.

`pool.Workers` does what it does for processes on this machine: starts them, shows what they say, starts those again
that were lost, drains all. Here is how it starts one as a Ray actor and hears it.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ....backends.errors import InputError
from ....studies.config.reading import override
from ....studies.config.study import AUTO, StudyConfig
from ..pool import WorkerBackend
from ..process import Event, Job
from .actor import Actor, Heard
from .cluster import Needs, Share, check_places, connect, count_workers, has_gpus, nodes

PENDING_SECONDS = 15.0  # without a place on the cluster, after which that is said
LOST = 75  # the exit code of a worker that its machine took along: the same command goes on
# What libpq and S3 clients read; the rest of the environment belongs to each machine.
CARRIED = ("PG", "AWS_", "EXEUNT_")
_OWN = ("EXEUNT_STORAGE", "EXEUNT_STORAGE_FILE")  # the URL goes with the job


def resolve_cluster_device(config: StudyConfig, address: str, gpus: float | None) -> StudyConfig:
    """The configuration with `auto` replaced by the device that the cluster's workers get.

    Raises InputError: no cluster answers, or the device names one GPU.
    """
    connect(address)
    device = config.throughput.device
    if ":" in device:
        raise InputError(f"device: each worker on Ray gets GPUs of its own, but got {device}. Use --device cuda.")
    if device == AUTO and config.checkpoint.pipeline is None:
        device = "cuda" if gpus != 0 and has_gpus() else "cpu"
    return override(config, {"throughput.device": device})


@contextmanager
def worker_backend(
    config: StudyConfig, url: str, workers: int | None, *, address: str, cpus: float, gpus: float | None
) -> Generator[WorkerBackend]:
    """Room for workers on a cluster, which is left in the end; see the flags of `Engine`.

    `cpus` are a worker's threads, too. Raises InputError: the cluster does not answer, has no room, or can't work on
    this study.
    """
    config = resolve_cluster_device(config, address, gpus)
    device = config.throughput.device
    if gpus is None:
        gpus = 1.0 if device == "cuda" or (device == AUTO and has_gpus()) else 0.0
    if gpus == 0 and device == "cuda":
        raise InputError("engine: --gpus-per-worker must be above 0 for a study on cuda, but got 0. Omit it.")
    share = Share(cpus, gpus)
    try:
        found = nodes()
        count = count_workers(workers, share, found)
        needs = Needs.of(url)
        check_places([node for node in found if share.room(node)], needs)
        # The variables of a worker go with its job: all users of a cluster can see an actor's.
        carried = {name: value for name, value in os.environ.items() if name.startswith(CARRIED) and name not in _OWN}
        environment = {**carried, "OMP_NUM_THREADS": str(max(1, int(cpus))), "OMP_WAIT_POLICY": "PASSIVE"}
        yield WorkerBackend(needs.url, [environment] * count, RayCrew(share, needs).start, writes_report=False)
    finally:
        ray.shutdown()


@dataclass
class RayCrew:
    """The workers of one command on a cluster.

    They are `finished` once one of them has seen the study's end, so that no further one is needed.
    """

    share: Share
    needs: Needs
    finished: bool = False

    def start(self, number: int, job: Job, environment: Mapping[str, str], events: "SimpleQueue[Event]") -> "RayWorker":
        """A worker wherever there is room for it."""
        # Three methods at a time: while one listens, another may be asked to end.
        options: dict[str, Any] = {"num_cpus": self.share.cpus, "num_gpus": self.share.gpus, "max_concurrency": 3}
        actor = ray.remote(**options, scheduling_strategy="SPREAD")(Actor).remote()
        return RayWorker(self, actor, number, job, environment, events)


class RayWorker:
    """A worker on the cluster, from its actor's creation to its end; as `pool.RunningWorker`.

    Ray answers each call of a method when it is done, so there is one question open at any time, and what to do with
    its answer.
    """

    def __init__(
        self,
        peers: RayCrew,
        actor: Any,
        number: int,
        job: Job,
        environment: Mapping[str, str],
        events: "SimpleQueue[Event]",
    ) -> None:
        self.measured = self.finished = False
        self.error: tuple[str, str] = ("", "")
        self.complaint = ""
        self._crew, self._actor, self._number = peers, actor, number
        self._job, self._environment, self._events = job, environment, events
        self._code: int | None = None
        self._is_placed = self._is_mentioned = False
        self._created = time.monotonic()
        self._open: Any = actor.look.remote(peers.needs.folder)
        self._then: Callable[[Any], None] = self._begin

    def ended(self) -> int | None:
        """The exit code once it has ended, `LOST` if its machine took it along; None while it runs or waits."""
        while self._code is None and ray.wait([self._open], timeout=0)[0]:
            try:
                answer = ray.get(self._open)
            except RayError as error:
                self.error = "", _reason(error)
                self._end(LOST)
            else:
                self._then(answer)
        if self._code is None and not self._is_placed:
            self._await_room()
        return self._code

    def drain(self) -> None:
        """Asks it to end after its next step; one that waits for room ends at once."""
        if self._code is None and not self._is_placed:
            self._end(LOST)
        elif self._code is None:
            self._actor.drain.remote()

    def _begin(self, there: dict[str, Any]) -> None:
        self._is_placed = True
        try:
            self._crew.needs.check(there)
        except InputError as error:
            self.error = error.identifier, str(error)
            self._end(error.exit_code)
            return
        # The budget's time counts by each machine's own clock.
        age = time.time() - self._job.began
        self._open = self._actor.begin.remote(self._number, self._job, age, self._environment, os.getcwd())
        self._then = self._listen

    def _listen(self, heard: Heard | None) -> None:
        """Its process has said something, or has only begun."""
        if heard is not None:
            self.measured, self.finished = heard.measured, heard.finished
            self.error, self.complaint = heard.error, heard.complaint
            for values in heard.events:
                self._events.put(Event(self._number, values))
            if heard.code is not None:
                self._crew.finished = self._crew.finished or heard.finished
                self._end(heard.code)
                return
        self._open = self._actor.listen.remote()

    def _await_room(self) -> None:
        """Nothing runs yet: that is said after a while, and no longer waited for once the study is finished."""
        if self._crew.finished:
            self.finished = True
            self._end(0)
        elif not self._is_mentioned and time.monotonic() - self._created > PENDING_SECONDS:
            self._is_mentioned = True
            text = f"worker {self._number} waits until a machine of the cluster has {self._crew.share} free"
            self._events.put(Event(self._number, {"event": "say", "text": text}))

    def _end(self, code: int) -> None:
        self._code = code
        with suppress(RayError):
            ray.kill(self._actor)


def _reason(error: RayError) -> str:
    """Why Ray has no answer, in one line."""
    if isinstance(error, RayTaskError):
        return f"its actor failed: {str(error).strip().splitlines()[-1]}"
    return "its machine or its actor is gone"
