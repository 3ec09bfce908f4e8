"""Reads a study's view from its database, without changing anything."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from statistics import median
from typing import Any, Literal, cast

import numpy as np
from exeunt import __version__

from ...backends.errors import printable
from ...backends.quality.intervals import Distance, estimate_distance, paired_difference, rank_correlation
from ...backends.quality.names import GUARD_PAIRED, NOTHING_PREFIX, TO_BASELINE
from ...backends.timing.samples import environment_digest
from ...studies.config.reading import config_to_dict
from ...studies.config.study import StudyConfig
from ...studies.database.errors import corrupt_rows
from ...studies.database.optuna.tables import study_attributes
from ...studies.database.transactions import read
from ...studies.store.records import (
    TEXT_ENCODING,
    EvaluationKey,
    QualityRecord,
    ThroughputRecord,
    TimingKey,
    batch_seconds,
    kind_key,
)
from ...studies.store.store import Store
from ...studies.workers.shared_state import CHOICE, GRANT, STATE, end_reason
from .guards import GuardFigures, Guards, is_normal
from .interval import Interval
from .operations import counted_on, kept_operations
from .pareto import Score, front
from .standard import BEST_RATIO_LEVEL, Scale, Standard, scale_of, standard_of
from .view import Agreement, Key, Point, Quality, Seeds, Spent, StudyView, Throughput


def throughputs(records: Sequence[ThroughputRecord], names: Mapping[str, str], full: Key) -> dict[Key, Throughput]:
    """The newest timing of each schedule beside the full one, by the points' keys.

    `records` stand oldest first, `names` gives each weights digest its name. Timings beside another baseline are left
    out. A sitting is known by the baseline's own seconds, which are the neighbours of all others.
    """
    found: dict[Key, Throughput] = {}
    baselines = [(each.baseline_digest, each.baseline_weights_sha256) for each in records]
    own = [(each.schedule_digest, each.key.weights_sha256) for each in records]
    sittings = [frozenset(r.seconds) for r, timed, base in zip(records, own, baselines, strict=True) if timed == base]
    for record, (digest, weights), (base, base_weights) in zip(records, own, baselines, strict=True):
        if weights in names and (base, names.get(base_weights, "")) == full:
            neighbours = record.baseline_seconds
            found[digest, names[weights]] = Throughput(
                record.seconds,
                record.key.batch_size,
                neighbours,
                latency_seconds=median(record.latency_seconds) if record.latency_seconds else None,
                peak_memory_bytes=record.peak_memory_bytes,
                sitting=next((n for n, each in enumerate(sittings) if each.issuperset(neighbours)), None),
            )
    return found


ENVIRONMENT = ("processor", "torch", "torch_threads", "cuda", "cudnn", "driver", "python")


def conditions(
    config: StudyConfig, environment: Mapping[str, object], text_seconds: float | None = None
) -> dict[str, str]:
    """Device, types, versions, sampler, metric, reference, seeds and counts; what isn't known is left out."""
    quality, baseline, throughput = config.quality, config.baseline, config.throughput
    order = f" of order {baseline.order}" if baseline.order else ""
    steps = f"{baseline.num_steps} steps, {baseline.spacing_words} spacing"
    sampler = f"{baseline.solver}{order}, {steps}, {baseline.guidance_words}"
    reference = f"{quality.reference}, crop {quality.crop}, resize {quality.resize_filter}"
    if quality.reference is None:
        reference = "the full schedule's images of the same noises"
    known: dict[str, object] = {
        "checkpoint": config.checkpoint.path,
        "network_args": config.checkpoint.option_words or None,
        "small_network": config.checkpoint.small,
        "full_schedule": sampler,
        "conditions": quality.conditions,
        "metric": quality.metric,
        "reference": reference,
        "search_seed": f"{quality.search_seed}, {quality.num_images} images a schedule",
        "final_seed": f"{quality.final_seed}, up to {quality.final_images} images a schedule",
        "device": environment.get("device", throughput.device),
        "dtype": config.checkpoint.dtype,
        "executor": throughput.executor,
        "objective": f"latency of a batch of {throughput.batch_size}" if throughput.objective == "latency" else None,
        "batch_size": throughput.batch_size,
        "text_encoding": None if text_seconds is None else f"{1000 * text_seconds:.3g} ms a prompt, not in images/s",
        "max_memory": config.search.max_memory and f"{config.search.max_memory}, weights and stored values",
        "timing_repeats": f"{throughput.repeats} rounds, interleaved with the full schedule",
        **{name: environment.get(name) for name in ENVIRONMENT},
        "search": f"{config.search.sampler} in the space {config.search.space}, seed {config.search.seed}",
        "exeunt": __version__,
    }
    return {name: str(value) for name, value in known.items() if value is not None}


# The pins that tell a study's own weights apart: what its timings and its own members are kept under, joined with +.
OWN_WEIGHTS = ("checkpoint.path", "checkpoint.vae", "checkpoint.network")
SMALL_WEIGHTS = "checkpoint.small"  # those of the small network, where there is one


def load_view(store: Store, study: str) -> StudyView:
    """What the database holds of a study at this moment, finished or not.

    Raises:
        InputError: there is no study of that name.
        StorageError: the database is out of reach, or holds something that Exeunt did not write.
    """
    with corrupt_rows(store.url):
        return _Rows(store, study).view()


LEAST_SCHEDULES = 5  # fewer ranks say nothing


class _Rows:
    """The rows that concern one study."""

    def __init__(self, store: Store, study: str) -> None:
        self.store, self.name = store, study
        self.config = store.studies.config(study)
        self.pins = store.studies.pins(study)
        self.environment = store.studies.environment(study)
        # A row is read before what it refers to, so that this is there even if workers add rows meanwhile.
        self.qualities = store.measurements.qualities(study)
        self.evaluations = {record.digest: record for record in store.evaluations.evaluations(study)}
        # Names steer neither a terminal nor a page.
        self.members = [
            replace(member, label=printable(member.label), weights_name=printable(member.weights_name))
            for member in store.studies.members(study)
        ]
        # What everything is stated against: the first full schedule that was added.
        self.full = next((member for member in self.members if member.family == "full"), None)
        self.names = {member.weights_sha256: member.weights_name for member in self.members}
        self.schedules = store.evaluations.stored_schedules(study)
        self.operations = kept_operations(store, study)
        timed = timed_kinds(store, self.config, self.environment, self.pins)
        self.medians = [{kind_key(kind): median(raw) for kind, raw in each.items()} for each in timed]
        self.text_seconds = median(timed[0][TEXT_ENCODING]) if TEXT_ENCODING in timed[0] else None

    def view(self) -> StudyView:
        config, points = self.config, self.points()
        # Optuna's study may not be there yet.
        states, grants, choices = (
            read(self.store.engine, lambda connection, key=key: study_attributes(connection, key, self.name))
            for key in (STATE, GRANT, CHOICE)
        )
        shown = conditions(config, self.environment, self.text_seconds)
        return StudyView(
            name=self.name,
            storage=self.store.url,
            state=printable(str(states.get(self.name, "not started"))),
            normal_weights=self.full.weights_name if self.full else "",
            batch_size=config.throughput.batch_size,
            level=config.quality.level,
            configuration=config_to_dict(config),
            conditions={name: printable(text) for name, text in shown.items()},
            points=points,
            differences=self.differences(points, "final"),
            search_differences=self.differences(_rough_front(points), "search"),
            spent=self.spent(points),
            failures=tuple(map(printable, self.failures())),
            standard=self.standard,
            guards=self.guards(points),
            kernel_of_nothing=self.kernel_of_nothing,
            text_seconds=self.text_seconds,
            agreements=tuple(self.agreements(points)),
            objective=config.throughput.objective,
            ended=printable(end_reason(grants.get(self.name), choices.get(self.name))),
        )

    def seeds(self, key: EvaluationKey) -> Seeds | None:
        """Which of the study's noises an evaluation is on; None if it isn't one of this study's questions."""
        quality = self.config.quality
        asked = (self.config.checkpoint.dtype, self.config.throughput.executor)
        pinned = {"quality.conditions": key.conditions_digest, "quality.metric": key.extractor}
        if (key.dtype, key.executor) != asked or any(self.pins.get(name, pin) != pin for name, pin in pinned.items()):
            return None
        return {quality.search_seed: "search", quality.final_seed: "final"}.get(key.seed)  # type: ignore[return-value]

    def key(self, question: EvaluationKey) -> Key:
        """The point that an evaluation is of."""
        return question.schedule_digest, self.names[question.weights_sha256]

    @cached_property
    def values(self) -> dict[tuple[Key, Seeds], list[QualityRecord]]:
        """The study's own quality values, of every metric."""
        found: dict[tuple[Key, Seeds], list[QualityRecord]] = defaultdict(list)
        for record in self.qualities:
            question = self.evaluations[record.evaluation].key
            if not record.metric.startswith(NOTHING_PREFIX) and (seeds := self.seeds(question)):
                found[self.key(question), seeds].append(record)
        return found

    @cached_property
    def nothing(self) -> list[QualityRecord]:
        """The values of images that show nothing, of every metric, on search seeds."""
        question = self.questions.get("search")
        return [r for r in self.qualities if r.evaluation == question and r.metric.startswith(NOTHING_PREFIX)]

    @cached_property
    def scale(self) -> Scale | None:
        """The two ends of loss; None before they are measured."""
        full = self.full and self.primary((self.full.schedule_digest, self.full.weights_name), "search")
        return scale_of(self.config.quality, full, self.nothing)

    def guards(self, points: Sequence[Point]) -> Guards:
        """What is normal in this study."""
        paired = [record.value for record in self.nothing if record.metric.endswith(f":{GUARD_PAIRED}")]
        return Guards.of(
            (p.search.figures for p in points if p.search and is_normal(p.family, p.stored.num_steps)),
            min(paired, default=None),
        )

    @cached_property
    def kernel_of_nothing(self) -> float | None:
        """The smallest kernel distance of images that show nothing, where it is a second opinion."""
        own = f":{self.config.quality.metric}"
        kernel = [r.value for r in self.nothing if ":kid" in r.metric and not r.metric.endswith(own)]
        return min(kernel, default=None)

    @cached_property
    def questions(self) -> dict[Seeds, str]:
        """The digests of the questions that the full schedule's images answer."""
        full = (self.full.schedule_digest, self.full.weights_sha256) if self.full else None
        keys = {digest: record.key for digest, record in self.evaluations.items()}
        found = {digest: key for digest, key in keys.items() if (key.schedule_digest, key.weights_sha256) == full}
        return {seeds: digest for digest, key in found.items() if (seeds := self.seeds(key))}

    @cached_property
    def standard(self) -> Standard:
        """What quality is compared with."""
        between = (self.questions.get("final"), self.config.quality.metric, self.questions.get("search"))
        found = [r for r in self.qualities if (r.evaluation, r.metric, r.reference) == between]
        return standard_of(
            self.config.quality, Interval.of(found[-1]) if found else None, self.scale, self.config.run.goal
        )

    def quality(self, key: Key, seeds: Seeds) -> Quality | None:
        """The primary metric at its largest count (the search's count for search values)."""
        if (record := self.primary(key, seeds)) is None:
            return None
        is_score = self.standard.kind == "score"
        beside = [r for r in self.values[key, seeds] if r.num_images == record.num_images]
        to_baseline = [r.value for r in beside if r.metric.endswith(TO_BASELINE) and r.metric != record.metric]
        kernel = [Interval.of(r) for r in beside if r.metric.startswith("kid")]
        return Quality(
            seeds=seeds,
            metric=record.metric,
            num_images=record.num_images,
            distance=Interval.of(record),
            floor=record.floor,
            to_baseline=to_baseline[-1] if to_baseline else None,
            kernel=kernel[-1] if kernel and record.metric != "kid" else None,
            lost=self.lost(record, seeds) if is_score or seeds == "final" else None,
            is_score=is_score,
            figures=GuardFigures.of(beside),
        )

    def lost(self, record: QualityRecord, seeds: Seeds) -> Interval | None:
        """What a record has beyond the full schedule's, with a paired interval; None where it can't be paired."""
        full = self.full and self.primary((self.full.schedule_digest, self.full.weights_name), seeds)
        if full is None or full.num_images != record.num_images or not (full.influence and record.influence):
            return None
        return _difference(_distance(record), _distance(full), self.config.quality.level)

    def primary(self, key: Key, seeds: Seeds) -> QualityRecord | None:
        """The record behind `quality`: with real images any reference of the study's, else the full schedule's."""
        against_images = standard_of(self.config.quality, None).kind == "reference"
        reference = self.pins.get("quality.reference") if against_images else self.questions.get(seeds)
        count = self.config.quality.num_images if seeds == "search" else None  # not the few of a first look
        records = [
            record
            for record in self.values.get((key, seeds), [])
            if record.metric == self.config.quality.metric
            and reference in (None, record.reference)
            and count in (None, record.num_images)
        ]
        return max(records, key=lambda record: record.num_images, default=None)

    def points(self) -> tuple[Point, ...]:
        """The members as points; a label that another has on other weights gets the weights' name."""
        records = self.store.measurements.throughputs(self.name)
        timed = [record for record in records if (record.purpose, record.study) == ("final", self.name)]
        full = (self.full.schedule_digest, self.full.weights_name) if self.full else ("", "")
        speeds, labels, points = throughputs(timed, self.names, full), set[str](), list[Point]()
        for member in self.members:
            key = member.schedule_digest, member.weights_name
            stored = self.schedules[member.schedule_digest]
            point = Point(
                label=member.label if member.label not in labels else f"{member.label} · {member.weights_name}",
                role=cast(Literal["baseline", "trial"], member.role),
                family=member.family if member.role == "baseline" else "",
                weights=member.weights_name,
                stored=stored,
                trial=member.trial_number,
                search=self.quality(key, "search"),
                final=self.quality(key, "final"),
                predicted_seconds=batch_seconds(stored, self.medians),
                throughput=speeds.get(key),
            )
            point = counted_on(point, self.operations.get(member.weights_name), self.config.throughput.batch_size)
            labels.add(point.label)
            points.append(point)
        return tuple(points)

    def agreements(self, points: Sequence[Point]) -> Iterator[Agreement]:
        """Of few images of the search with all of them, and of the search's values with the final ones."""
        metric, most = self.config.quality.metric, self.config.quality.num_images
        known = {point.key: point.search.distance.value for point in points if point.search}
        by_count: dict[int, dict[Key, float]] = defaultdict(dict)
        for (key, seeds), records in self.values.items():
            for record in records:
                if seeds == "search" and record.metric == metric and record.num_images < most and key in known:
                    by_count[record.num_images][key] = record.value
        finals = {point.key: point.final.distance.value for point in points if point.final and point.search}
        pairs = [(f"{count} images of the search", f"{most}", by_count[count], known) for count in sorted(by_count)]
        for few, many, cheap, good in (*pairs, ("the search's values", "final values", known, finals)):
            shared = [key for key in cheap if key in good]
            if len(shared) >= LEAST_SCHEDULES:
                correlation = rank_correlation([cheap[key] for key in shared], [good[key] for key in shared])
                yield Agreement(few, many, correlation, len(shared))

    def failures(self) -> list[str]:
        labels = {(m.schedule_digest, m.weights_sha256): m.label for m in self.members}
        return [
            f"{labels[record.key.schedule_digest, record.key.weights_sha256]}: {reason}"
            for record in self.evaluations.values()
            for reason in record.failures
        ]

    def differences(self, points: Sequence[Point], seeds: Seeds) -> dict[tuple[Key, Key], Interval]:
        """Of each two points whose influences were kept at the same count: distance(a) − distance(b)."""
        records = [(point.key, self.primary(point.key, seeds)) for point in points]
        kept = [(key, _distance(record)) for key, record in records if record and record.influence]
        found: dict[tuple[Key, Key], Interval] = {}
        for (a, first), (b, second) in combinations(kept, 2):
            if first.num_images == second.num_images:
                between = _difference(first, second, BEST_RATIO_LEVEL)
                found |= {(a, b): between, (b, a): Interval(-between.value, -between.upper, -between.lower)}
        return found

    def spent(self, points: Sequence[Point]) -> tuple[Spent, ...]:
        """What the study paid for on search seeds, evaluation by evaluation, in the order in which they began."""
        images, seconds = defaultdict[str, int](int), defaultdict[str, float](float)
        for chunk in self.store.evaluations.chunks(self.name):
            if chunk.evaluation in self.evaluations:
                images[chunk.evaluation] += chunk.num_images
                seconds[chunk.evaluation] += chunk.seconds
        batch_size = self.config.throughput.batch_size
        scores = {
            point.key: Score(point.search.distance.value, batch_size / point.predicted_seconds)
            for point in points
            if point.search and point.predicted_seconds
        }
        keys = {digest: self.evaluations[digest].key for digest in images}
        return tuple(
            Spent(images[digest], seconds[digest], scores.get(self.key(key)))
            for digest, key in keys.items()
            if self.seeds(key) == "search"
        )


def _rough_front(points: Sequence[Point]) -> list[Point]:
    """The front on search seeds, vetoed points included."""
    scores = {
        p: Score(p.search.distance.value, 1 / p.predicted_seconds) for p in points if p.search and p.predicted_seconds
    }
    return front(scores, scores.__getitem__)


def timed_kinds(
    store: Store, config: StudyConfig, environment: Mapping[str, Any], pins: Mapping[str, str]
) -> list[dict[str, tuple[float, ...]]]:
    """The raw seconds of each kind of call that the search timed, for each network that its schedules may name; none
    before its first worker."""
    if not environment:
        return [{}]
    key = TimingKey(
        device=environment["device"],
        batch_size=config.throughput.batch_size,
        executor=config.throughput.executor,
        dtype=config.checkpoint.dtype,
        weights_sha256="+".join(pin for name in OWN_WEIGHTS if (pin := pins.get(name))),
        versions=environment_digest(dict(environment)),
    )
    small = [replace(key, weights_sha256=pin)] if (pin := pins.get(SMALL_WEIGHTS)) else []
    return [store.measurements.call_timings(each) for each in (key, *small)]


def _difference(a: Distance, b: Distance, level: float) -> Interval:
    """The paired interval of a − b: image i of both came from the same noise."""
    return Interval.of(estimate_distance(paired_difference(a, b), level))


def _distance(record: QualityRecord) -> Distance:
    rows = np.reshape(np.asarray(record.influence, np.float32), (-1, record.num_images))
    return Distance.unpack(record.value, rows)
