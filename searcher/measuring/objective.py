"""The measurements of a schedule: features of its images on given noises, and the time that its plan takes.

No image is sampled twice. Features are keyed by everything that decides them and committed in chunks; those that an
earlier session, another study or another worker has committed are read.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...backends.errors import DeviceError, ExeuntError
from ...backends.quality.extractors import FeatureArray
from ...backends.quality.intervals import Distance, FloatArray, estimate_distance, paired_difference
from ...backends.quality.names import GUARD_PREFIX, NOTHING_PREFIX, TO_BASELINE
from ...backends.sampling.loop import NonFiniteSamples
from ...reports.view.guards import GuardFigures
from ...reports.view.standard import Scale, scale_of
from ...studies.store.evaluations import DamagedFeatures, FailedEvaluation, UnusableFeatures
from ...studies.store.leases import StaleClaim
from ...studies.store.records import Claim, EvaluationKey, Member, QualityRecord, ScheduleSummary
from ...studies.store.store import Store
from ...studies.workers.workers import Worker
from ..spaces.candidates import Candidate
from .chunks import Chunk, ChunkSampler, OutOfMemory
from .costs import Costs, Pace, Untimed
from .metric import Answer
from .scale import features_of_nothing, guard_figures, values_of_nothing
from .setup import StudySetup

_LOG = logging.getLogger("exeunt.work")


class ClaimedElsewhere(ExeuntError):
    """Another worker measures this schedule right now."""

    identifier = "claimed-elsewhere"


class Paused(ExeuntError):
    """A user paused all workers of the study."""

    identifier = "paused"


class DivergedDistance(ExeuntError):
    """The distance of a schedule's images is not a number."""

    identifier = "diverged-distance"


class TooLarge(ExeuntError):
    """A schedule needs more memory than the study allows."""

    identifier = "too-large"


# A schedule on given noises can't be measured, now or ever: the store keeps the reason, and the study goes on without.
UNMEASURABLE = (NonFiniteSamples, UnusableFeatures, FailedEvaluation, OutOfMemory, DivergedDistance, TooLarge)
# It can be measured later, by this worker or another one, which goes on from the last committed chunk.
AWAITED = (ClaimedElsewhere, StaleClaim, Untimed, Paused)
# Values that lie this much longer ago than the newest one were committed before it was read.
OVERLAP_SECONDS = 120.0


@dataclass
class _Held:
    """A claim that this worker holds until it releases it."""

    claim: Claim
    given_back: bool = False


class Objective:
    """Measures candidates for one study. `refresh` reads the values that there are.

    Args:
        check: raises to stop; called at every step of sampling.
        spent: told the number of images after each chunk; it may raise `Paused`.
        say: told what people should know.
    """

    def __init__(
        self,
        study_setup: StudySetup,
        store: Store,
        worker: Worker,
        costs: Costs,
        *,
        check: Callable[[], None],
        spent: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self.study_setup, self.store, self.worker, self.costs = study_setup, store, worker, costs
        self.check, self.say = check, say
        self.pace = Pace()
        self._quality = study_setup.config.quality
        self._sampler = ChunkSampler(study_setup, check, say)
        self._spent = spent
        self._newest = -math.inf
        self._errors: dict[tuple[tuple[str, str], tuple[str, str]], float] = {}  # of differences, by two keys
        self._qualities: dict[tuple[str, str, str, int], QualityRecord] = {}
        self._guarded: dict[tuple[str, int], dict[str, QualityRecord]] = defaultdict(dict)
        self._nothing: dict[tuple[str, str], QualityRecord] = {}
        self._of_baseline: dict[tuple[int, int], Answer] = {}  # its features at the last seed and count

    def refresh(self) -> None:
        """Reads the values that any worker has computed since the last time."""
        since = self._newest - OVERLAP_SECONDS
        for record in self.store.measurements.qualities(self.study_setup.config.name, since):
            self._know(record)
            self._newest = max(self._newest, record.finished or -math.inf)

    def key(self, candidate: Candidate, seed: int) -> EvaluationKey:
        """The question whose answer are the features of a candidate's images on one set of noises."""
        study_setup = self.study_setup
        return EvaluationKey(
            schedule_digest=candidate.key[0],
            weights_sha256=study_setup.weights_digest(candidate.weights),
            conditions_digest=study_setup.conditions.digest,
            seed=seed,
            extractor=study_setup.metric.extractor_digest,
            dtype=study_setup.config.checkpoint.dtype,
            executor=study_setup.config.throughput.executor,
        )

    def register(self, candidate: Candidate) -> None:
        """Makes the candidate a member of the study, unless it is one."""
        self.store.studies.add_member(self.study_setup.config.name, self._member(candidate), candidate.schedule)

    def _member(self, candidate: Candidate) -> Member:
        return Member(
            label=candidate.label,
            role=candidate.role,
            family=candidate.family,
            schedule_digest=candidate.key[0],
            weights_sha256=self.study_setup.weights_digest(candidate.weights),
            weights_name=candidate.weights,
            trial_number=candidate.trial,
        )

    def refuse_too_large(self, candidate: Candidate) -> None:
        """Raises TooLarge: the candidate needs more memory than the study allows."""
        if reason := self.study_setup.too_large(candidate.weights, candidate.schedule):
            raise TooLarge(f"{candidate.label}: {reason}. Give another study a larger --max-memory.")

    def collect(self, candidate: Candidate, seed: int, images: range, *, register: bool = False) -> int:
        """Samples what is missing of a candidate's images and commits their features; returns how many that was.

        To `register` it is to make it a member of the study before, which costs nothing where it is claimed.

        Raises:
            ClaimedElsewhere: another worker measures it.
            StaleClaim: another worker has taken it over, since this one was silent for longer than its lease.
            Paused: between two chunks; another worker may go on from there.
            FailedEvaluation: it failed before, for good.
            NonFiniteSamples, UnusableFeatures, OutOfMemory: it failed now; the store keeps the reason.
            DeviceError: the device failed; the store keeps the reason, and another worker may try.
        """
        key = self.key(candidate, seed)
        if not self.store.evaluations.missing(key, images):
            if register:
                self.register(candidate)
            return 0
        with self._sampling(candidate, key, register=register) as held:
            # Asked again: another worker may have sampled them and left before the claim was given.
            missing = self.store.evaluations.missing(key, images)
            size = self.study_setup.config.run.chunk_images
            chunks = [each[first : first + size] for each in missing for first in range(0, len(each), size)]
            for chunk in chunks:
                self._chunk(candidate, held, seed, chunk, last=chunk is chunks[-1])
            return sum(map(len, chunks))

    @contextmanager
    def _sampling(self, candidate: Candidate, key: EvaluationKey, *, register: bool = False) -> Generator[_Held]:
        """A claim on a candidate's images for as long as the block lasts; the reason of a failure is stored."""
        held = _Held(claim := self._claim(candidate, key, register=register))
        self._sampler.begin()
        try:
            yield held
        except (NonFiniteSamples, UnusableFeatures) as error:
            self.store.evaluations.fail(claim, str(error))
            raise
        except DeviceError as error:
            # Another device may be whole, or larger.
            self.store.evaluations.fail(claim, str(error), final=False)
            raise
        finally:
            if not held.given_back:
                self.store.evaluations.release(claim)

    def _claim(self, candidate: Candidate, key: EvaluationKey, *, register: bool = False) -> Claim:
        config, member = self.study_setup.config, self._member(candidate) if register else None
        lease = config.run.lease_seconds
        claim = self.store.evaluations.claim(key, self.worker.owner, lease, config.name, candidate.schedule, member)
        if claim is None:
            raise ClaimedElsewhere(
                f"{candidate.label}: another worker is measuring it. Wait for that worker, or stop it."
            )
        return claim

    def _chunk(self, candidate: Candidate, held: _Held, seed: int, images: range, *, last: bool) -> None:
        """Samples and commits one chunk; with the last one the claim is given back."""
        about = {"evaluation": held.claim.evaluation, "first": images.start, "images": len(images)}
        _LOG.info("sampling", extra={"about": about})
        found = self._sampler.chunk(candidate, seed, images)
        started = time.perf_counter()
        self.store.evaluations.commit_chunk(
            held.claim, images.start, found.features, found.seconds, statistics=found.statistics, last=last
        )
        held.given_back = last
        if self.study_setup.config.run.keep != "none" and images.start == 0 and seed == self._quality.final_seed:
            keep_samples(self.store, self.study_setup.config.name, self.key(candidate, seed), found)
        _LOG.info("committed", extra={"about": {**about, "seconds": round(found.seconds, 4)}})
        predicted = self.costs.expected(candidate.stored) / self.costs.batch_size * len(images)
        committing = time.perf_counter() - started
        self.pace.learn(len(images), predicted, found.sampling_seconds, found.feature_seconds + committing)
        self._spent(len(images))

    def sample_again(self, candidate: Candidate, images: range) -> FeatureArray:
        """Features (N, D) of images on search seeds, sampled whether they are stored or not, and not committed."""
        self._sampler.begin()
        return self._sampler.chunk(candidate, self._quality.search_seed, images).features

    def reached(self, candidate: Candidate, seed: int, count: int) -> int:
        """How many of a candidate's first images are there without a gap, of at most `count`."""
        parts = self.store.evaluations.missing(self.key(candidate, seed), range(count))
        return parts[0].start if parts else count

    def missing(self, candidate: Candidate, seed: int, count: int) -> int:
        """How many of a candidate's first images are not there yet."""
        return sum(map(len, self.store.evaluations.missing(self.key(candidate, seed), range(count))))

    def scored(self, candidate: Candidate, seed: int, count: int) -> QualityRecord | None:
        """The value of a candidate's first images, if it was worked out before."""
        metric = self.study_setup.metric
        baseline = self.key(self.study_setup.baseline, seed).digest
        reference = baseline if metric.needs_baseline else metric.reference
        return self._qualities.get((self.key(candidate, seed).digest, metric.name, reference, count))

    def score(self, candidate: Candidate, seed: int, count: int) -> QualityRecord:
        """The value of a candidate's first images, which must be there, worked out and kept unless it was before.

        Where values are stated against the baseline's images of the same noises, those are sampled if they must be.

        Raises DivergedDistance: the value is no number; the store keeps the reason.
        """
        found = self.scored(candidate, seed, count)
        if found is None:
            metric = self.study_setup.metric
            baseline = self._sampled(self.study_setup.baseline, seed, count) if metric.needs_baseline else None
            answer = self._answer(candidate, seed, count)
            started = time.perf_counter()
            found = self._value(candidate, seed, answer, baseline)
            self._keep(*self._figures(candidate, seed, answer), found)
            self.pace.learn_score(count, time.perf_counter() - started)
        return found

    def vector(self, candidate: Candidate, count: int) -> FloatArray | None:
        """What the search learns from: see `Metric.vector`. The candidate was scored on so many images of search seeds.

        None as well where features are damaged or gone: nothing is sampled for it.
        """
        metric, quality = self.study_setup.metric, self._quality
        asked = [candidate, *([self.study_setup.baseline] if metric.needs_baseline else [])]
        answers: list[Answer] = []
        for each in asked:
            key = self.key(each, quality.search_seed)
            try:
                features = self.store.evaluations.features(key, range(count))
            except DamagedFeatures:
                return None
            if features is None:
                return None
            answers.append(Answer(key.digest, features))
        return metric.vector(answers[0], answers[-1] if metric.needs_baseline else None)

    def error_beside(self, candidate: Candidate, other: Candidate) -> float:
        """The standard error of what a candidate has beyond another one, both of them scored on search seeds.

        Noises are the same, so it is far smaller than that of the value alone.
        """
        if (pair := (candidate.key, other.key)) not in self._errors:
            difference = paired_difference(self._distance(candidate), self._distance(other))
            self._errors[pair] = estimate_distance(difference).standard_error
        return self._errors[pair]

    def _distance(self, candidate: Candidate) -> Distance:
        """A candidate's on search seeds, with what its images do to it."""
        metric, seed, count = self.study_setup.metric, self._quality.search_seed, self._quality.num_images
        answer, full = (self._answer(each, seed, count) for each in (candidate, self.study_setup.baseline))
        found = metric.score(answer, full, keep_influence=True)
        return Distance.unpack(found.value, np.reshape(np.asarray(found.influence, np.float32), (-1, count)))

    def _value(self, candidate: Candidate, seed: int, answer: Answer, baseline: Answer | None) -> QualityRecord:
        """The metric's value, which must be a number."""
        try:
            is_final = seed == self._quality.final_seed
            found = self.study_setup.metric.score(answer, baseline, keep_influence=is_final)
            if all(map(math.isfinite, (found.value, found.lower, found.upper, found.standard_error))):
                return found
            reason = f"{candidate.label} diverges: its {found.metric} is {found.value:g}."
        except np.linalg.LinAlgError as error:
            reason = f"{candidate.label} diverges: its {self.study_setup.metric.name} can't be computed ({error})."
        self.store.evaluations.fail(self._claim(candidate, self.key(candidate, seed)), reason)
        raise DivergedDistance(reason)

    def _figures(self, candidate: Candidate, seed: int, answer: Answer) -> list[QualityRecord]:
        """What guards judge a candidate's first images by; none before the baseline has as many."""
        count, baseline = len(answer.features), self.study_setup.baseline
        if (seed, count) not in self._of_baseline:
            if self.missing(baseline, seed, count):
                return []
            self._of_baseline = {(seed, count): self._answer(baseline, seed, count)}
        statistics = self.store.evaluations.statistics(self.key(candidate, seed), range(count))
        full = self._of_baseline[seed, count]
        return guard_figures(self.study_setup.metric, answer, statistics, full, self._normal_statistics)

    @cached_property
    def _normal_statistics(self) -> FeatureArray | None:
        """Those of the baseline's pixels on search seeds, whose range is the normal one; None without any."""
        quality = self.study_setup.config.quality
        key = self.key(self.study_setup.baseline, quality.search_seed)
        return self.store.evaluations.statistics(key, range(quality.num_images))

    @property
    def nothing(self) -> list[QualityRecord]:
        """The values of images that show nothing, as far as they were worked out; on search seeds."""
        question = self.key(self.study_setup.baseline, self.study_setup.config.quality.search_seed).digest
        return [record for record in self._nothing.values() if record.evaluation == question]

    @property
    def scale(self) -> Scale | None:
        """The two ends of loss; None before they were measured."""
        quality = self.study_setup.config.quality
        full = self.scored(self.study_setup.baseline, quality.search_seed, quality.num_images)
        return scale_of(quality, full, self.nothing)

    def measure_nothing(self) -> None:
        """Works out and keeps the values of images that show nothing, which the baseline's are compared with.

        The baseline must have been measured on search seeds.
        """
        quality, baseline = self.study_setup.config.quality, self.study_setup.baseline
        images = self._sampler.baseline_images(quality.num_images)
        found = features_of_nothing(self.study_setup, images, quality.search_seed)
        answer = self._answer(baseline, quality.search_seed, quality.num_images)
        self._keep(*values_of_nothing(self.study_setup.metric, found, answer))

    def noise(self) -> QualityRecord | None:
        """How far the baseline is from itself on other noises; None where a floor says what counts.

        The other noises are the final ones. Nothing is selected by it: it is one scale for all schedules.
        """
        baseline, metric, count = self.study_setup.baseline, self.study_setup.metric, self._quality.num_images
        if not metric.needs_baseline:
            return None
        seeds = self._quality.search_seed, self._quality.final_seed
        own, other = (self.key(baseline, seed).digest for seed in seeds)
        found = self._qualities.get((other, metric.name, own, count))
        if found is None:
            here, there = (self._sampled(baseline, seed, count) for seed in seeds)
            found = metric.noise(there, here)
            assert found is not None, "needs_baseline"
            self._keep(found)
        return found

    def score_beside(self, candidate: Candidate, seed: int, count: int) -> None:
        """Works out and keeps what stands beside a candidate's value; the baseline must have its first images too."""
        baseline = self._answer(self.study_setup.baseline, seed, count)
        question = self.key(candidate, seed).digest
        known = {key[1] for key in self._qualities if key[0] == question and key[2:] == (baseline.question, count)}
        answer = self._answer(candidate, seed, count)
        if not any(name.endswith(TO_BASELINE) for name in known):
            self._keep(*self.study_setup.metric.score_beside(answer, baseline))
        if not any(name.startswith(GUARD_PREFIX) for name in known):  # of a value from before there were guards
            self._keep(*self._figures(candidate, seed, answer))

    def _sampled(self, candidate: Candidate, seed: int, count: int) -> Answer:
        """A candidate's first images, sampled unless they are there."""
        self.collect(candidate, seed, range(count))
        return self._answer(candidate, seed, count)

    def _answer(self, candidate: Candidate, seed: int, count: int) -> Answer:
        key = self.key(candidate, seed)
        restored: set[int] = set()
        while True:
            try:
                features = self.store.evaluations.features(key, range(count))
            except DamagedFeatures as error:
                if error.images.start in restored:
                    raise
                self._restore(candidate, key, error)
                restored.add(error.images.start)
            else:
                assert features is not None, "collect() comes first"
                return Answer(key.digest, features)

    def _restore(self, candidate: Candidate, key: EvaluationKey, error: DamagedFeatures) -> None:
        """Samples a chunk again whose features are damaged or gone, and says so; its row stays.

        Raises what `collect` raises.
        """
        _LOG.warning("%s The chunk is sampled again.", error)
        self.say(f"{candidate.label}: features of {len(error.images)} images are sampled again. {error}")
        with self._sampling(candidate, key) as held:
            found = self._sampler.chunk(candidate, key.seed, error.images)
            self.store.evaluations.restore(
                held.claim, error.images.start, found.features, found.seconds, statistics=found.statistics
            )

    def _keep(self, *records: QualityRecord) -> None:
        self.store.measurements.put_qualities(*records)
        for record in records:
            self._know(record)

    def _know(self, record: QualityRecord) -> None:
        self._qualities[record.evaluation, record.metric, record.reference, record.num_images] = record
        if record.metric.startswith(NOTHING_PREFIX):
            self._nothing[record.evaluation, record.metric] = record
        if record.metric.startswith(GUARD_PREFIX):
            self._guarded[record.evaluation, record.num_images][record.metric] = record

    def judged_by(self, record: QualityRecord) -> GuardFigures:
        """What guards judge by of the images behind a value."""
        return GuardFigures.of(self._guarded.get((record.evaluation, record.num_images), {}).values())

    def seconds(self, stored: ScheduleSummary, images: int) -> float:
        """What sampling that many images and taking their features will take."""
        return self.pace.seconds(images, self.costs.expected(stored) / self.costs.batch_size)


def keep_samples(store: Store, study: str, key: EvaluationKey, chunk: Chunk) -> None:
    """Keeps a chunk's first images as one picture, below each other."""
    from ...reports.plots.style import png_of_pixels

    count, height, width, _ = chunk.images.shape
    about = {"seed": key.seed, "first_image": 0, "num_images": count, "height": height, "width": width}
    picture = png_of_pixels(chunk.images.reshape(count * height, width, 3))
    store.kept.keep(study, "samples", (key.schedule_digest, key.weights_sha256), about, picture)
