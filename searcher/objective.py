"""What a schedule is worth: features of its images on given noises, and the time that its plan takes.

The same question is never paid for twice. Features are keyed by everything that decides them and committed in chunks;
what an earlier session, another study or another worker has committed is read back.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..backends.environment import device_name, environment, environment_digest
from ..backends.errors import ExeuntError
from ..backends.network import Network
from ..backends.plan import compile_plan
from ..backends.sampling import NonFiniteSamples, sample
from ..backends.schedule import Schedule
from ..backends.throughput import Timing, predict_seconds, time_calls
from ..studies.evaluations import FailedEvaluation, UnusableFeatures
from ..studies.records import TEXT_ENCODING, Claim, EvaluationKey, QualityRecord, TimingKey
from ..studies.store import Store
from ..studies.workers import Worker
from .candidates import Candidate
from .laboratory import Laboratory, weights_digest
from .metric import Answer
from .pace import Pace

# A schedule on given noises can't be measured, now or ever: the store keeps the reason, and the study goes on without.
UNMEASURABLE = (NonFiniteSamples, UnusableFeatures, FailedEvaluation)


class ClaimedElsewhere(ExeuntError):
    """Another worker measures this schedule right now."""

    identifier = "claimed-elsewhere"


class Objective:
    """Measures candidates for one study.

    Args:
        laboratory: what to measure with.
        store: where it is kept.
        worker: in whose name evaluations are claimed.
        check: raises to stop; called at every step of sampling.
        spent: told the number of images after each chunk.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        store: Store,
        worker: Worker,
        *,
        check: Callable[[], None],
        spent: Callable[[int], None],
    ) -> None:
        self.laboratory = laboratory
        self.store = store
        self.worker = worker
        self.pace = Pace()
        self._check = check
        self._spent = spent
        # Other weights of the network take the same time.
        self._timing_key = timing_key(laboratory, laboratory.network)
        if laboratory.network.text_seconds is not None:  # kept beside them: no schedule's time includes it
            encoding = {TEXT_ENCODING: [laboratory.network.text_seconds]}
            store.measurements.put_call_timings(self._timing_key, encoding)
        known = store.measurements.call_timings(self._timing_key)
        self._qualities = {
            (record.evaluation, record.metric, record.reference, record.num_images): record
            for record in store.measurements.qualities(laboratory.config.name)
        }
        self._timings = {kind: Timing(tuple(raw), self.batch_size) for kind, raw in known.items()}

    @property
    def batch_size(self) -> int:
        """Images a batch where time is measured."""
        return self.laboratory.config.throughput.batch_size

    def key(self, candidate: Candidate, seed: int) -> EvaluationKey:
        """The question whose answer are the features of a candidate's images on one set of noises."""
        laboratory = self.laboratory
        return EvaluationKey(
            schedule_digest=candidate.schedule.digest,
            weights_sha256=weights_digest(laboratory.networks[candidate.weights]),
            conditions_digest=laboratory.conditions.digest,
            seed=seed,
            extractor=laboratory.metric.extractor_digest,
            dtype=laboratory.config.checkpoint.dtype,
            executor=laboratory.config.throughput.executor,
        )

    def collect(self, candidate: Candidate, seed: int, images: range) -> int:
        """Samples what is missing of a candidate's images and commits their features; returns how many that was.

        Raises:
            ClaimedElsewhere: another worker is at it.
            FailedEvaluation: it failed before, for good.
            NonFiniteSamples, UnusableFeatures: it failed now; the store keeps the reason.
        """
        key = self.key(candidate, seed)
        missing = self.store.evaluations.missing(key, images)
        if not missing:
            return 0
        self.store.evaluations.add_schedule(candidate.schedule)
        run = self.laboratory.config.run
        claim = self.store.evaluations.claim(key, self.worker.owner, run.lease_seconds, self.laboratory.config.name)
        if claim is None:
            raise ClaimedElsewhere(f"{candidate.label}: another worker measures it. Wait for it, or stop that one.")
        try:
            return sum(self._chunk(candidate, claim, seed, chunk) for chunk in _chunks(missing, run.chunk_images))
        except (NonFiniteSamples, UnusableFeatures) as error:
            self.store.evaluations.fail(claim, str(error))
            raise
        finally:
            self.store.evaluations.release(claim)

    def _chunk(self, candidate: Candidate, claim: Claim, seed: int, images: range) -> int:
        """Samples and commits one chunk."""
        laboratory = self.laboratory
        with laboratory.lock.shared():
            started = time.perf_counter()
            batches = sample(
                [laboratory.networks[candidate.weights]],
                candidate.schedule,
                seed=seed,
                images=images,
                conditions=laboratory.conditions,
                batch_size=laboratory.config.quality.batch_size,
                observe=lambda _step, _values: self._check(),
            )
            found = list(batches)
            sampled = time.perf_counter()
            features = laboratory.features(found, seed)
        self.store.evaluations.commit_chunk(claim, images.start, features, time.perf_counter() - started)
        predicted = self.predicted_seconds(candidate.schedule) / self.batch_size * len(images)
        self.pace.learn(len(images), predicted, sampled - started, time.perf_counter() - sampled)
        self._spent(len(images))
        return len(images)

    def missing(self, candidate: Candidate, seed: int, count: int) -> int:
        """How many of a candidate's first images are not there yet."""
        parts = self.store.evaluations.missing(self.key(candidate, seed), range(count))
        return sum(len(part) for part in parts)

    def scored(self, candidate: Candidate, seed: int, count: int) -> QualityRecord | None:
        """The value of a candidate's first images, if it was worked out before."""
        metric = self.laboratory.metric
        reference = metric.reference_of(self.key(self.laboratory.baseline, seed).digest)
        return self._qualities.get((self.key(candidate, seed).digest, metric.name, reference, count))

    def score(self, candidate: Candidate, seed: int, count: int) -> QualityRecord:
        """The value of a candidate's first images, which must be there, worked out and kept unless it was before.

        Where values are stated against the baseline's images of the same noises, those are sampled if they must be.
        """
        found = self.scored(candidate, seed, count)
        if found is None:
            metric = self.laboratory.metric
            baseline = self._sampled(self.laboratory.baseline, seed, count) if metric.needs_baseline else None
            final = seed == self.laboratory.config.quality.final_seed
            answer = self._answer(candidate, seed, count)
            started = time.perf_counter()
            found = metric.score(answer, baseline, keep_influence=final)
            self._keep(found)
            self.pace.learn_score(count, time.perf_counter() - started)
        return found

    def noise(self) -> QualityRecord | None:
        """How far the baseline is from itself on other noises; None where a floor says what counts.

        The other noises are the final ones. Nothing is selected by it: it is one scale for all schedules.
        """
        quality, baseline = self.laboratory.config.quality, self.laboratory.baseline
        metric, count = self.laboratory.metric, quality.num_images
        if not metric.needs_baseline:
            return None
        own, other = (self.key(baseline, seed).digest for seed in (quality.search_seed, quality.final_seed))
        found = self._qualities.get((other, metric.name, own, count))
        if found is None:
            here, there = (self._sampled(baseline, seed, count) for seed in (quality.search_seed, quality.final_seed))
            found = metric.noise(there, here)
            assert found is not None, "needs_baseline"
            self._keep(found)
        return found

    def score_beside(self, candidate: Candidate, seed: int, count: int) -> None:
        """Works out and keeps what stands beside a candidate's value; the baseline must have its first images too."""
        baseline = self._answer(self.laboratory.baseline, seed, count)
        question = self.key(candidate, seed).digest
        if any(key[0] == question and key[2:] == (baseline.question, count) for key in self._qualities):
            return
        for record in self.laboratory.metric.score_beside(self._answer(candidate, seed, count), baseline):
            self._keep(record)

    def _sampled(self, candidate: Candidate, seed: int, count: int) -> Answer:
        """A candidate's first images, sampled unless they are there."""
        self.collect(candidate, seed, range(count))
        return self._answer(candidate, seed, count)

    def _answer(self, candidate: Candidate, seed: int, count: int) -> Answer:
        key = self.key(candidate, seed)
        features = self.store.evaluations.features(key, range(count))
        assert features is not None, "collect() comes first"
        return Answer(key.digest, features)

    def _keep(self, record: QualityRecord) -> None:
        self.store.measurements.put_quality(record)
        self._qualities[record.evaluation, record.metric, record.reference, record.num_images] = record

    def seconds(self, schedule: Schedule, images: int) -> float:
        """What sampling that many images and taking their features will take."""
        return self.pace.seconds(images, self.predicted_seconds(schedule) / self.batch_size)

    def images_per_second(self, schedule: Schedule) -> float:
        """The search's second objective: predicted from timed kinds of calls."""
        return self.batch_size / self.predicted_seconds(schedule)

    def predicted_seconds(self, schedule: Schedule) -> float:
        """Seconds a batch; kinds of calls that were never timed on this device are timed first."""
        self.time_kinds([schedule])
        return predict_seconds(compile_plan(schedule), [self._timings])

    def time_kinds(self, schedules: Sequence[Schedule], max_seconds: float | None = None) -> None:
        """Times what the schedules' plans call and no one has timed, all in one go, and keeps it in the store."""
        found = time_calls(
            [self.laboratory.network],
            schedules,
            batch_size=self.batch_size,
            known=[self._timings],
            repeats=self.laboratory.config.throughput.repeats,
            max_seconds=max_seconds,
        )[0]
        if found:
            raw = {kind: timing.seconds for kind, timing in found.items()}
            self.store.measurements.put_call_timings(self._timing_key, raw)
            self._timings |= found


def timing_key(laboratory: Laboratory, network: Network) -> TimingKey:
    """The conditions under which seconds of this network are measured."""
    config, device = laboratory.config, network.device
    return TimingKey(
        device=device_name(device),
        batch_size=config.throughput.batch_size,
        executor=config.throughput.executor,
        dtype=config.checkpoint.dtype,
        weights_sha256=weights_digest(network),
        versions=environment_digest(environment(device)),
    )


def _chunks(ranges: Iterable[range], size: int) -> Iterator[range]:
    for each in ranges:
        yield from (each[first : first + size] for first in range(0, len(each), size))
