"""Reads a study's view from its database, without changing anything."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import optuna

from ..backends.environment import environment_digest
from ..backends.plan import compile_plan
from ..backends.schedule import Schedule
from ..backends.throughput import Timing, predict_seconds
from ..backends.uncertainty import Distance, difference, estimate
from ..studies.config import StudyConfig, to_dict
from ..studies.records import EvaluationKey, EvaluationRecord, Member, QualityRecord, TimingKey
from ..studies.storage import optuna_storage
from ..studies.store import Store
from ..studies.transactions import storage_errors
from .conditions import conditions
from .interval import Interval
from .pareto import Score
from .timings import throughputs
from .view import BEST_RATIO_LEVEL, Key, Point, Quality, Seeds, Spent, StudyView, Throughput


def load_view(store: Store, study: str) -> StudyView:
    """What the database holds of a study at this moment, finished or not.

    Raises:
        InputError: there is no study of that name.
        StorageError: the database is out of reach.
    """
    rows = _Rows.read(store, study)
    config, points = rows.config, rows.points()
    return StudyView(
        name=study,
        storage=store.url,
        state=_state(store, study),
        normal_weights=rows.full.weights_name if rows.full else "",
        batch_size=config.throughput.batch_size,
        level=config.quality.level,
        configuration=to_dict(config),
        conditions=conditions(config, rows.environment),
        points=points,
        differences=_differences(points, rows.influences()),
        spent=_spent(store, rows, points),
        failures=rows.failures(),
    )


def _state(store: Store, study: str) -> str:
    """What the runner says it is doing; Optuna's study may not be there yet."""
    with storage_errors(store.engine):
        found = optuna.get_all_study_summaries(optuna_storage(store.engine), include_best_trial=False)
    attributes = {summary.study_name: summary.user_attrs for summary in found}
    return str(attributes.get(study, {}).get("state", "not started"))


@dataclass(frozen=True)
class _Rows:
    """The rows that concern one study."""

    config: StudyConfig
    members: Sequence[Member]
    schedules: Mapping[str, Schedule]
    evaluations: Mapping[str, EvaluationRecord]
    qualities: Sequence[QualityRecord]
    throughputs: Mapping[Key, Throughput]
    kinds: Mapping[str, Timing]
    environment: Mapping[str, Any]
    pins: Mapping[str, str]

    @classmethod
    def read(cls, store: Store, study: str) -> "_Rows":
        config = store.studies.config(study)
        members = store.studies.members(study)
        environment, names = store.studies.environment(study), {m.weights_sha256: m.weights_name for m in members}
        full = _full(members)
        timed = [r for r in store.measurements.throughputs(study) if r.purpose == "final" and r.study == study]
        pins = store.studies.pins(study)
        own = pins.get("checkpoint.path", "")
        raw = store.measurements.call_timings(_timing_key(config, environment, own)) if environment else {}
        return cls(
            config=config,
            members=members,
            schedules=store.evaluations.schedules(member.schedule_digest for member in members),
            evaluations={record.digest: record for record in store.evaluations.evaluations(study)},
            qualities=store.measurements.qualities(study),
            throughputs=throughputs(timed, names, (full.schedule_digest, full.weights_name)) if full else {},
            kinds={kind: Timing(seconds, config.throughput.batch_size) for kind, seconds in raw.items()},
            environment=environment,
            pins=pins,
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

    def quality(self, key: Key, seeds: Seeds) -> Quality | None:
        """The primary metric at its largest count (the search's count for search values)."""
        if (record := self.primary(key, seeds)) is None:
            return None
        beside = [r for r in self.values[key, seeds] if r.num_images == record.num_images]
        paired = [r.value for r in beside if r.metric.endswith("-to-baseline")]
        kernel = [Interval(r.value, r.lower, r.upper) for r in beside if r.metric.startswith("kid")]
        return Quality(
            seeds=seeds,
            metric=record.metric,
            num_images=record.num_images,
            distance=Interval(record.value, record.lower, record.upper),
            floor=record.floor,
            to_baseline=paired[-1] if paired else None,
            kernel=kernel[-1] if kernel and record.metric != "kid" else None,
        )

    def primary(self, key: Key, seeds: Seeds) -> QualityRecord | None:
        """The record behind `quality`."""
        reference = self.pins.get("quality.reference")
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
        schedule = self.schedules[member.schedule_digest]
        return Point(
            label=label,
            role=cast(Literal["baseline", "trial"], member.role),
            family=member.family if member.role == "baseline" else "",
            weights=member.weights_name,
            schedule=schedule,
            trial=member.trial_number,
            search=self.quality(key, "search"),
            final=self.quality(key, "final"),
            predicted_seconds=self.predicted_seconds(schedule),
            throughput=self.throughputs.get(key),
        )

    def predicted_seconds(self, schedule: Schedule) -> float | None:
        """Of a batch, as the search summed it; None while a kind of call isn't timed."""
        plan = compile_plan(schedule)
        wanted = {call.kind for step in plan.steps for call in step.calls}
        return predict_seconds(plan, [self.kinds]) if wanted and wanted <= self.kinds.keys() else None

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


def _full(members: Iterable[Member]) -> Member | None:
    """The full schedule that everything is stated against: the first one that was added."""
    return next((member for member in members if member.family == "full"), None)


def _timing_key(config: StudyConfig, environment: Mapping[str, Any], weights_sha256: str) -> TimingKey:
    """The conditions under which the search timed kinds of calls."""
    return TimingKey(
        device=environment["device"],
        batch_size=config.throughput.batch_size,
        executor=config.throughput.executor,
        dtype=config.checkpoint.dtype,
        weights_sha256=weights_sha256,
        versions=environment_digest(dict(environment)),
    )


def _differences(points: Sequence[Point], records: Mapping[Key, QualityRecord]) -> dict[tuple[Key, Key], Interval]:
    """Of each baseline and each trial at the same count: distance(baseline) − distance(trial)."""
    baselines, trials = (
        [p.key for p in points if p.role == role and p.key in records] for role in ("baseline", "trial")
    )
    return {
        (a, b): _difference(records[a], records[b])
        for a in baselines
        for b in trials
        if records[a].num_images == records[b].num_images
    }


def _difference(a: QualityRecord, b: QualityRecord) -> Interval:
    """The paired interval of a − b: image i of both came from the same noise."""
    found = estimate(difference(_distance(a), _distance(b)), BEST_RATIO_LEVEL)
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
