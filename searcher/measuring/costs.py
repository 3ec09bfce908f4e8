"""The time that schedules take on the study's target device.

While the search goes on, that is seconds summed from timed kinds of calls. In the end schedules are timed end to end,
in one sitting, each beside the full schedule. Only workers in the target's environment time anything. The others read
those timings, and wait where a schedule makes a kind of call that was not timed yet. How long images really take beside
that is learnt from those that were sampled.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...backends.errors import ExeuntError
from ...backends.schedule import Schedule
from ...backends.timing.device import is_out_of_memory, peak_memory
from ...backends.timing.pieces import DECODE, SOLVER_STEP, trajectory
from ...backends.timing.samples import Timing, environment_digest
from ...backends.timing.throughput import TimedSchedule, missing_kinds, time_calls, time_schedules
from ...studies.store.records import (
    TEXT_ENCODING,
    ScheduleSummary,
    ThroughputRecord,
    TimingKey,
    batch_seconds,
    kind_key,
    summarized,
)
from ...studies.store.store import Store
from ..spaces.candidates import Candidate
from .chunks import OutOfMemory
from .setup import StudySetup


class Untimed(ExeuntError):
    """A worker in the target's environment has to time a kind of call first."""

    identifier = "untimed"


class Costs:
    """The timed kinds of calls of one study, and the times of schedules that they predict.

    Args:
        target: the environment that the study times in, as JSON has it.

    Attributes:
        full: the study's full schedule on its own weights.
        can_time: whether this process is in the target's environment.
    """

    def __init__(self, study_setup: StudySetup, store: Store, target: Mapping[str, Any]) -> None:
        self.target = dict(target)
        # Environments are equal when their descriptions are, which are stored as JSON.
        self.can_time = environment_digest(self.target) == environment_digest(study_setup.environment)
        self.study_setup, self.store = study_setup, store
        self.full = summarized(study_setup.frame.full)
        # Other weights of the network take the same time. Those of a small network have a key of their own.
        self._keys = [timing_key(study_setup, study_setup.weights, self.target)]
        if study_setup.small is not None:
            self._keys.append(replace(self._keys[0], weights_sha256=study_setup.small_digest))
        self._timings: list[dict[str, Timing]] = []
        self._medians: list[dict[str, float]] = []
        if self.can_time and study_setup.network.text_seconds is not None:
            # Kept beside them: no schedule's time includes it.
            encoding = {TEXT_ENCODING: [study_setup.network.text_seconds]}
            store.measurements.put_call_timings(self._keys[0], encoding)
        self.refresh()

    @property
    def batch_size(self) -> int:
        """Images a batch where time is measured."""
        return self.study_setup.config.throughput.batch_size

    def refresh(self) -> None:
        """Reads what has been timed."""
        known = [self.store.measurements.call_timings(key) for key in self._keys]
        self._timings = [{kind: Timing(tuple(raw), self.batch_size) for kind, raw in each.items()} for each in known]
        self._medians = [{kind_key(kind): each.median for kind, each in timed.items()} for timed in self._timings]

    def images_per_second(self, stored: ScheduleSummary) -> float:
        """The search's second objective: predicted from timed kinds of calls. Raises as `predicted_seconds` does."""
        return self.batch_size / self.predicted_seconds(stored)

    def predicted_seconds(self, stored: ScheduleSummary) -> float:
        """Seconds a batch; kinds of calls that were never timed on the target are timed first.

        Raises Untimed: this worker is not in the target's environment, and they were not timed yet.
        """
        known = batch_seconds(stored, self._medians)
        if known is None:
            self.time_kinds([stored.schedule])
            known = batch_seconds(stored, self._medians)
            assert known is not None, "its kinds of calls have been timed"
        return known

    def can_tell(self, stored: ScheduleSummary) -> bool:
        """Whether `images_per_second` need not wait for another worker, as far as was read."""
        return self.can_time or batch_seconds(stored, self._medians) is not None

    def expected(self, stored: ScheduleSummary) -> float:
        """Seconds a batch for planning ahead, where any answer is better than timing its calls first.

        Raises Untimed: not even the full schedule was timed yet.
        """
        known = batch_seconds(stored, self._medians)
        if known is not None:
            return known
        share = stored.block_evaluations / self.full.block_evaluations
        return self.predicted_seconds(self.full) * share

    def time_kinds(self, schedules: Sequence[Schedule]) -> None:
        """Times all kinds of calls of the schedules' plans that are not timed yet, and stores the seconds.

        Raises:
            Untimed: as `predicted_seconds` does.
            OutOfMemory: a batch does not fit into the target's memory.
        """
        if not self._lacks(schedules):
            return
        if not self.can_time:
            self.refresh()
            if self._lacks(schedules):
                raise Untimed(f"a schedule must be timed on {self.target['device']} first. Start a worker there.")
            return
        # A worker that waited for another one's turn finds its timings, and does not repeat them.
        with self.study_setup.timing_turn.exclusive():
            self.refresh()
            self._time(schedules)

    def _lacks(self, schedules: Sequence[Schedule]) -> bool:
        wanted = missing_kinds(schedules, self._timings)
        return any(wanted) or not {DECODE, SOLVER_STEP} <= self._timings[0].keys()

    def _time(self, schedules: Sequence[Schedule]) -> None:
        try:
            found = time_calls(
                self.study_setup.networks_of(self.study_setup.weights),
                schedules,
                batch_size=self.batch_size,
                known=self._timings,
                repeats=self.study_setup.config.throughput.repeats,
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"throughput.batch_size: {self.batch_size} images don't fit into memory to be timed ({error}). "
                "Start another study with a smaller --batch-size."
            ) from error
        for key, timed in zip(self._keys, found, strict=False):
            if timed:
                self.store.measurements.put_call_timings(key, {kind: each.seconds for kind, each in timed.items()})
        # Another machine of the same kind may have been first; what is stored holds for all.
        self.refresh()


def timing_key(study_setup: StudySetup, weights: str, target: Mapping[str, Any]) -> TimingKey:
    """The conditions under which seconds on these weights are measured in an environment."""
    config = study_setup.config
    return TimingKey(
        device=target["device"],
        batch_size=config.throughput.batch_size,
        executor=config.throughput.executor,
        dtype=config.checkpoint.dtype,
        weights_sha256=study_setup.weights_digest(weights),
        versions=environment_digest(dict(target)),
    )


_LOG = logging.getLogger("exeunt.work")


def are_timed(costs: Costs, candidates: Sequence[Candidate]) -> bool:
    """Whether the study has timed all of them on its target."""
    study_setup = costs.study_setup
    name = study_setup.config.name
    keys = {timing_key(study_setup, weights, costs.target): weights for weights in study_setup.networks}
    found = {
        (record.schedule_digest, keys[record.key])
        for record in costs.store.measurements.throughputs(name)
        if record.study == name and record.purpose == "final" and record.key in keys
    }
    return found >= {each.key for each in candidates}


def time_end_to_end(
    costs: Costs, compared: Sequence[Candidate], seconds: float, *, is_limited: bool, check: Callable[[], None]
) -> None:
    """Times whole trajectories, the baseline's first, and keeps their seconds, latencies and memory.

    Where `is_limited`, it takes no more than that many seconds; latencies never take more than a fifth of them.
    `check` raises to stop.
    """
    study_setup, baseline = costs.study_setup, compared[0]
    config = study_setup.config.throughput
    networks = {each.key: tuple(study_setup.networks_of(each.weights, each.schedule)) for each in compared}
    subjects = {each.key: TimedSchedule(networks[each.key], each.schedule) for each in compared}
    timings = time_schedules(
        subjects,
        baseline.key,
        batch_size=config.batch_size,
        repeats=config.repeats,
        max_seconds=seconds if is_limited else None,
        observe=lambda _key, _seconds: check(),
    )
    latencies = (
        timings
        if config.batch_size == 1
        else time_schedules(subjects, baseline.key, batch_size=1, repeats=config.repeats, max_seconds=0.2 * seconds)
    )
    for each in compared:
        subject, timing, latency = subjects[each.key], timings[each.key], latencies[each.key]
        memory = peak_memory(trajectory(subject.networks, each.schedule, config.batch_size), study_setup.network.device)
        costs.store.measurements.put_throughput(
            ThroughputRecord(
                schedule_digest=each.key[0],
                key=timing_key(study_setup, each.weights, costs.target),
                baseline_digest=baseline.key[0],
                baseline_weights_sha256=study_setup.weights_digest(baseline.weights),
                purpose="final",
                seconds=timing.seconds,
                baseline_seconds=timing.neighbours,
                predicted_seconds=costs.predicted_seconds(each.stored),
                latency_seconds=latency.seconds,
                peak_memory_bytes=memory.num_bytes,
                study=study_setup.config.name,
            )
        )
        spent = round(sum(timing.seconds) + sum(latency.seconds), 4)
        _LOG.info("timed", extra={"about": {"label": each.label, "seconds": spent}})


class Pace:
    """Turns a schedule's predicted seconds into what its images really take, features and commits included.

    Attributes:
        stretch: sampling seconds ÷ predicted seconds, recent images weighing most.
        feature_seconds: per image, for features and the commit.
        scoring_seconds: per image, for the distance of all of them. It grows in proportion, as it did between 256 and
            1,024 images; the first value is that of 1,280 features.
    """

    def __init__(self) -> None:
        self.stretch, self.feature_seconds, self.scoring_seconds = 1.1, 0.004, 0.0004
        self._chunks = self._scores = 0

    def learn(self, images: int, predicted: float, sampling: float, features: float) -> None:
        """Takes in one chunk: its images, and the seconds that it was predicted to take and took."""
        self._chunks += 1
        weight = max(0.1, 1 / self._chunks)
        self.stretch += weight * (sampling / predicted - self.stretch)
        self.feature_seconds += weight * (features / images - self.feature_seconds)

    def seconds(self, images: int, predicted_per_image: float) -> float:
        """What that many images of a schedule will take."""
        return images * (predicted_per_image * self.stretch + self.feature_seconds)

    def learn_score(self, images: int, seconds: float) -> None:
        """Takes in how long the distance of so many images took."""
        self._scores += 1
        self.scoring_seconds += max(0.2, 1 / self._scores) * (seconds / images - self.scoring_seconds)

    def score_seconds(self, images: int) -> float:
        """What the distance of so many images will take."""
        return images * self.scoring_seconds
