"""Reads a study's view from its database, without changing anything.

End-to-end timings as the view has them: the newest of each schedule, with the sitting that it belongs to.

What a study's figures hold for, as names and texts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any, Literal, cast

import numpy as np
from exeunt import __version__

from ...backends.errors import printable
from ...backends.quality.intervals import Distance, estimate_distance, paired_difference
from ...backends.quality.names import TO_BASELINE
from ...backends.timing.samples import Timing, environment_digest
from ...studies.config.reading import config_to_dict
from ...studies.config.study import QualityConfig, StudyConfig
from ...studies.database.foreign import corrupt_rows
from ...studies.database.optuna.queries import study_attributes
from ...studies.database.transactions import reading
from ...studies.store.outlines import ScheduleSummary, batch_seconds, kind_key
from ...studies.store.records import (
    TEXT_ENCODING,
    EvaluationKey,
    EvaluationRecord,
    Member,
    QualityRecord,
    ThroughputRecord,
    TimingKey,
)
from ...studies.store.store import Store
from ..uncollected import uncollected
from .interval import Interval
from .operations import Operations, kept_operations
from .pareto import Score
from .standard import Standard, standard_of
from .view import BEST_RATIO_LEVEL, Key, Point, Quality, Seeds, Spent, StudyView, Throughput

WeightsKey = tuple[str, str]  # schedule digest, digest of the weights


def throughputs(records: Sequence[ThroughputRecord], names: Mapping[str, str], full: Key) -> dict[Key, Throughput]:
    """The newest timing of each schedule beside the full one, by the points' keys.

    `records` stand oldest first, `names` gives each weights digest its name. Timings beside another baseline are left
    out.
    """
    found: dict[Key, Throughput] = {}
    sittings = _sittings(records)
    for record in records:
        if record.key.weights_sha256 in names and _baseline(record, names) == full:
            key = record.schedule_digest, names[record.key.weights_sha256]
            found[key] = _throughput(record, sittings)
    return found


def _baseline(record: ThroughputRecord, names: Mapping[str, str]) -> Key:
    return record.baseline_digest, names.get(record.baseline_weights_sha256, "")


def _throughput(record: ThroughputRecord, sittings: Sequence[frozenset[float]]) -> Throughput:
    return Throughput(
        batch_size=record.key.batch_size,
        seconds=record.seconds,
        neighbours=record.baseline_seconds,
        latency_seconds=median(record.latency_seconds) if record.latency_seconds else None,
        peak_memory_bytes=record.peak_memory_bytes,
        sitting=_sitting(record.baseline_seconds, sittings),
    )


def _sittings(records: Iterable[ThroughputRecord]) -> list[frozenset[float]]:
    """The baseline's own seconds of each timing session, which are the neighbours of all others."""
    return [
        frozenset(record.seconds)
        for record in records
        if (record.schedule_digest, record.key.weights_sha256)
        == (record.baseline_digest, record.baseline_weights_sha256)
    ]


def _sitting(neighbours: Sequence[float], sittings: Sequence[frozenset[float]]) -> int | None:
    return next((index for index, seconds in enumerate(sittings) if seconds.issuperset(neighbours)), None)


ENVIRONMENT = ("processor", "torch", "torch_threads", "cuda", "cudnn", "driver", "python")


def conditions(
    config: StudyConfig, environment: Mapping[str, object], text_seconds: float | None = None
) -> dict[str, str]:
    """Device, types, versions, sampler, metric, reference, seeds and counts; what isn't known is left out."""
    quality, baseline, throughput = config.quality, config.baseline, config.throughput
    order = f" of order {baseline.order}" if baseline.order else ""
    steps = f"{baseline.num_steps} steps, {baseline.spacing_words} spacing"
    sampler = f"{baseline.solver}{order}, {steps}, {baseline.guidance_words}"
    known: dict[str, object] = {
        "checkpoint": config.checkpoint.path,
        "network_args": config.checkpoint.option_words or None,
        "full_schedule": sampler,
        "conditions": quality.conditions,
        "metric": quality.metric,
        "reference": _reference(quality),
        "search_seed": f"{quality.search_seed}, {quality.num_images} images a schedule",
        "final_seed": f"{quality.final_seed}, up to {quality.final_images} images a schedule",
        "device": environment.get("device", throughput.device),
        "dtype": config.checkpoint.dtype,
        "executor": throughput.executor,
        "batch_size": throughput.batch_size,
        "text_encoding": None if text_seconds is None else f"{1000 * text_seconds:.3g} ms a prompt, not in images/s",
        "timing_repeats": f"{throughput.repeats} rounds, interleaved with the full schedule",
        **{name: environment.get(name) for name in ENVIRONMENT},
        "search": f"{config.search.sampler} in the space {config.search.space}, seed {config.search.seed}",
        "exeunt": __version__,
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def _reference(quality: QualityConfig) -> str:
    if quality.reference is None:
        return "the full schedule's images of the same noises"
    return f"{quality.reference}, crop {quality.crop}, resize {quality.resize_filter}"


# The pins that tell a study's own weights apart: what its timings and its own members are kept under, joined with +.
OWN_WEIGHTS = ("checkpoint.path", "checkpoint.vae", "checkpoint.network")


def load_view(store: Store, study: str) -> StudyView:
    """What the database holds of a study at this moment, finished or not.

    Raises:
        InputError: there is no study of that name.
        StorageError: the database is out of reach, or holds what no Exeunt wrote.
    """
    with corrupt_rows(store.url), uncollected():
        return _view(store, study, _Rows.read(store, study))


def _view(store: Store, study: str, rows: "_Rows") -> StudyView:
    config, points = rows.config, rows.points()
    return StudyView(
        name=study,
        storage=store.url,
        state=printable(_state(store, study)),
        normal_weights=rows.full.weights_name if rows.full else "",
        batch_size=config.throughput.batch_size,
        level=config.quality.level,
        configuration=config_to_dict(config),
        conditions={
            name: printable(text) for name, text in conditions(config, rows.environment, rows.text_seconds).items()
        },
        points=points,
        differences=_differences(points, rows.influences()),
        spent=_spent(store, rows, points),
        failures=tuple(map(printable, rows.failures())),
        standard=rows.standard,
        text_seconds=rows.text_seconds,
    )


def _state(store: Store, study: str) -> str:
    """What the runner says it is doing; Optuna's study may not be there yet."""
    with reading(store.engine) as connection:
        return str(study_attributes(connection, "state", study).get(study, "not started"))


@dataclass(frozen=True)
class _Rows:
    """The rows that concern one study."""

    config: StudyConfig
    members: Sequence[Member]
    schedules: Mapping[str, ScheduleSummary]
    evaluations: Mapping[str, EvaluationRecord]
    qualities: Sequence[QualityRecord]
    throughputs: Mapping[Key, Throughput]
    kinds: Mapping[str, Timing]
    environment: Mapping[str, Any]
    pins: Mapping[str, str]
    operations: Mapping[str, Operations]

    @classmethod
    def read(cls, store: Store, study: str) -> "_Rows":
        config = store.studies.config(study)
        members = [_shown(member) for member in store.studies.members(study)]
        environment, names = store.studies.environment(study), {m.weights_sha256: m.weights_name for m in members}
        full = _full(members)
        timed = [r for r in store.measurements.throughputs(study) if r.purpose == "final" and r.study == study]
        pins = store.studies.pins(study)
        raw = timed_kinds(store, config, environment, pins)
        return cls(
            config=config,
            members=members,
            schedules=store.evaluations.stored_schedules(study),
            evaluations={record.digest: record for record in store.evaluations.evaluations(study)},
            qualities=store.measurements.qualities(study),
            throughputs=throughputs(timed, names, (full.schedule_digest, full.weights_name)) if full else {},
            kinds={kind: Timing(seconds, config.throughput.batch_size) for kind, seconds in raw.items()},
            environment=environment,
            pins=pins,
            operations=kept_operations(store, study),
        )

    @property
    def full(self) -> Member | None:
        return _full(self.members)

    def seeds(self, key: EvaluationKey) -> Seeds | None:
        """Which of the study's noises an evaluation is on; None if it isn't one of this study's questions."""
        quality = self.config.quality
        asked = (self.config.checkpoint.dtype, self.config.throughput.executor)
        pinned = {"quality.conditions": key.conditions_digest, "quality.metric": key.extractor}
        if (key.dtype, key.executor) != asked or any(self.pins.get(name, pin) != pin for name, pin in pinned.items()):
            return None
        return {quality.search_seed: "search", quality.final_seed: "final"}.get(key.seed)  # type: ignore[return-value]

    @cached_property
    def values(self) -> dict[tuple[Key, Seeds], list[QualityRecord]]:
        """The study's own quality values, of every metric."""
        found: dict[tuple[Key, Seeds], list[QualityRecord]] = defaultdict(list)
        names = {member.weights_sha256: member.weights_name for member in self.members}
        for record in self.qualities:
            key = self.evaluations[record.evaluation].key
            if seeds := self.seeds(key):
                found[(key.schedule_digest, names[key.weights_sha256]), seeds].append(record)
        return found

    @property
    def against_baseline(self) -> bool:
        """Whether values are stated against the full schedule's images."""
        return standard_of(self.config.quality, None).kind != "reference"

    @cached_property
    def questions(self) -> dict[Seeds, str]:
        """The digests of the questions that the full schedule's images answer."""
        full = self.full
        wanted = (full.schedule_digest, full.weights_sha256) if full else None
        asked = {digest: each.key for digest, each in self.evaluations.items()}
        found = {digest: key for digest, key in asked.items() if (key.schedule_digest, key.weights_sha256) == wanted}
        return {seeds: digest for digest, key in found.items() if (seeds := self.seeds(key))}

    @cached_property
    def standard(self) -> Standard:
        """What quality is compared with."""
        between = (self.questions.get("final"), self.config.quality.metric, self.questions.get("search"))
        found = [r for r in self.qualities if (r.evaluation, r.metric, r.reference) == between]
        noise = Interval(found[-1].value, found[-1].lower, found[-1].upper) if found else None
        return standard_of(self.config.quality, noise)

    @property
    def text_seconds(self) -> float | None:
        """What encoding one prompt took, if prompts were encoded."""
        timing = self.kinds.get(TEXT_ENCODING)
        return timing.median if timing else None

    def quality(self, key: Key, seeds: Seeds) -> Quality | None:
        """The primary metric at its largest count (the search's count for search values)."""
        if (record := self.primary(key, seeds)) is None:
            return None
        beside = [r for r in self.values[key, seeds] if r.num_images == record.num_images]
        to_baseline = [r.value for r in beside if r.metric.endswith(TO_BASELINE) and r.metric != record.metric]
        kernel = [Interval(r.value, r.lower, r.upper) for r in beside if r.metric.startswith("kid")]
        return Quality(
            seeds=seeds,
            metric=record.metric,
            num_images=record.num_images,
            distance=Interval(record.value, record.lower, record.upper),
            floor=record.floor,
            to_baseline=to_baseline[-1] if to_baseline else None,
            kernel=kernel[-1] if kernel and record.metric != "kid" else None,
            paired=self.lost(record, seeds) if self.standard.kind == "score" else None,
        )

    def lost(self, record: QualityRecord, seeds: Seeds) -> Interval | None:
        """What a score's record has beyond the full schedule's, with a paired interval."""
        full = self.full
        base = self.primary((full.schedule_digest, full.weights_name), seeds) if full else None
        if base is None or base.num_images != record.num_images:
            return None
        return _difference(record, base, self.config.quality.level)

    def primary(self, key: Key, seeds: Seeds) -> QualityRecord | None:
        """The record behind `quality`."""
        reference = self.questions.get(seeds) if self.against_baseline else self.pins.get("quality.reference")
        records = [
            record
            for record in self.values.get((key, seeds), [])
            if record.metric == self.config.quality.metric and reference in (None, record.reference)
        ]
        return max(records, key=lambda record: record.num_images, default=None)

    def points(self) -> tuple[Point, ...]:
        labels: set[str] = set()
        return tuple(self.point(member, labels) for member in self.members)

    def point(self, member: Member, labels: set[str]) -> Point:
        """A member as a point; a label that another has on other weights gets the weights' name."""
        key = member.schedule_digest, member.weights_name
        label = member.label if member.label not in labels else f"{member.label} · {member.weights_name}"
        labels.add(label)
        stored, operations = self.schedules[member.schedule_digest], self.operations.get(member.weights_name)
        return Point(
            label=label,
            role=cast(Literal["baseline", "trial"], member.role),
            family=member.family if member.role == "baseline" else "",
            weights=member.weights_name,
            stored=stored,
            trial=member.trial_number,
            search=self.quality(key, "search"),
            final=self.quality(key, "final"),
            predicted_seconds=batch_seconds(stored, self.medians),
            throughput=self.throughputs.get(key),
            flops=operations.of(stored) if operations else None,
        )

    @cached_property
    def medians(self) -> dict[str, float]:
        """Seconds of each timed kind of call, by its key."""
        return {kind_key(kind): timing.median for kind, timing in self.kinds.items()}

    def influences(self) -> dict[Key, QualityRecord]:
        keys = [(member.schedule_digest, member.weights_name) for member in self.members]
        records = {key: self.primary(key, "final") for key in keys}
        return {key: record for key, record in records.items() if record and record.influence}

    def failures(self) -> tuple[str, ...]:
        labels = {(m.schedule_digest, m.weights_sha256): m.label for m in self.members}
        return tuple(
            f"{labels[record.key.schedule_digest, record.key.weights_sha256]}: {reason}"
            for record in self.evaluations.values()
            for reason in record.failures
        )


def _shown(member: Member) -> Member:
    """A member whose names steer neither a terminal nor a page."""
    return replace(member, label=printable(member.label), weights_name=printable(member.weights_name))


def _full(members: Iterable[Member]) -> Member | None:
    """The full schedule that everything is stated against: the first one that was added."""
    return next((member for member in members if member.family == "full"), None)


def timed_kinds(
    store: Store, config: StudyConfig, environment: Mapping[str, Any], pins: Mapping[str, str]
) -> dict[str, tuple[float, ...]]:
    """The raw seconds of each kind of call that the search timed; none before its first worker."""
    if not environment:
        return {}
    key = TimingKey(
        device=environment["device"],
        batch_size=config.throughput.batch_size,
        executor=config.throughput.executor,
        dtype=config.checkpoint.dtype,
        weights_sha256="+".join(pin for name in OWN_WEIGHTS if (pin := pins.get(name))),
        versions=environment_digest(dict(environment)),
    )
    return store.measurements.call_timings(key)


def _differences(points: Sequence[Point], records: Mapping[Key, QualityRecord]) -> dict[tuple[Key, Key], Interval]:
    """Of each baseline and each trial at the same count: distance(baseline) − distance(trial)."""
    baselines, trials = (
        [p.key for p in points if p.role == role and p.key in records] for role in ("baseline", "trial")
    )
    return {
        (a, b): _difference(records[a], records[b], BEST_RATIO_LEVEL)
        for a in baselines
        for b in trials
        if records[a].num_images == records[b].num_images
    }


def _difference(a: QualityRecord, b: QualityRecord, level: float) -> Interval:
    """The paired interval of a − b: image i of both came from the same noise."""
    found = estimate_distance(paired_difference(_distance(a), _distance(b)), level)
    return Interval(found.value, found.lower, found.upper)


def _distance(record: QualityRecord) -> Distance:
    rows = np.reshape(np.asarray(record.influence, np.float32), (-1, record.num_images))
    return Distance.unpack(record.value, rows)


def _spent(store: Store, rows: _Rows, points: Sequence[Point]) -> tuple[Spent, ...]:
    """What the study paid for on search seeds, evaluation by evaluation, in the order in which they began."""
    images, seconds = defaultdict[str, int](int), defaultdict[str, float](float)
    for chunk in store.evaluations.chunks(rows.config.name):
        if chunk.evaluation in rows.evaluations and rows.seeds(rows.evaluations[chunk.evaluation].key) == "search":
            images[chunk.evaluation] += chunk.num_images
            seconds[chunk.evaluation] += chunk.seconds
    names = {member.weights_sha256: member.weights_name for member in rows.members}
    scores = {point.key: _score(point, rows.config.throughput.batch_size) for point in points}
    keys = {digest: rows.evaluations[digest].key for digest in images}
    return tuple(
        Spent(images[digest], seconds[digest], scores.get((key.schedule_digest, names[key.weights_sha256])))
        for digest, key in keys.items()
    )


def _score(point: Point, batch_size: int) -> Score | None:
    if point.search is None or point.predicted_seconds is None:
        return None
    return Score(point.search.distance.value, batch_size / point.predicted_seconds)
