"""A study's view as plain values: real schedules, and figures from a stated formula in place of measurements."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from exeunt.backends.plan import compile_plan
from exeunt.backends.quality.intervals import Distance
from exeunt.backends.schedule import (
    DROP,
    REUSE,
    Action,
    NetworkSignature,
    Noise,
    Sampler,
    Schedule,
    Step,
    block_evaluations,
    depths,
    forecast,
    with_exits,
)
from exeunt.backends.timing.device import environment
from exeunt.backends.timing.samples import environment_digest
from exeunt.reports.view.interval import Interval
from exeunt.reports.view.pareto import Score
from exeunt.reports.view.view import Point, Quality, Spent, StudyView, Throughput
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.records import EvaluationKey, Member, QualityRecord, ThroughputRecord, TimingKey, summarized
from exeunt.studies.store.store import Store, open_store
from exeunt.studies.workers.workers import Worker

BLOCKS, STEPS, BATCH, FLOOR = 12, 20, 64, 366.0
NORMAL, EXITS = "fashion-dit", "fashion-dit-exits"
SIGNATURE = NetworkSignature("DiT", "block", (("residual", BLOCKS),), "ab" * 32)
SAMPLER = Sampler(
    "dpmsolver++", "epsilon", "train-index", Noise("linear", 0.0001, 0.02, 1000), variant="midpoint", order=2
)


def steps(count: int) -> Schedule:
    """The full schedule at a number of steps."""
    times = np.linspace(999.0, 13.0, count).round(1)
    return Schedule((SIGNATURE,), SAMPLER, tuple(Step(float(time), (Action("run"),) * BLOCKS) for time in times))


def reuse_every(interval: int, depth: int, count: int = STEPS) -> Schedule:
    """A whole step every `interval`, and blocks[:depth] with the rest reused between."""
    base = steps(count)
    return with_exits(base, [BLOCKS if s % interval == 0 else depth for s in range(count)], REUSE)


def curve(count: int, start: float, end: float, tail: Action) -> Schedule:
    """Depths from `start` at the noise to `end` at the data; two whole steps come first where caches must be filled."""
    chosen = [round(start + (end - start) * (s / (count - 1)) ** 1.5) for s in range(count)]
    return with_exits(steps(count), [BLOCKS, BLOCKS, *chosen[2:]] if tail != DROP else chosen, tail)


def true_distance(schedule: Schedule, weights: str) -> float:
    """Falls with steps and with depth at the data end; caches cost little, drops cost much on normal weights."""
    runs = depths(schedule)
    few = 900.0 * math.exp(-schedule.num_steps / 3.2)
    missing = sum((1 - depth / BLOCKS) * (0.4 + s / len(runs)) for s, depth in enumerate(runs)) / len(runs)
    dropped = any(action == DROP for step in schedule.steps for action in step.blocks)
    price = (2600.0 if weights == NORMAL else 260.0) if dropped else 110.0
    return FLOOR + 52.0 + (6.0 if weights == EXITS else 0.0) + few + price * missing**2


def seconds(schedule: Schedule) -> float:
    """A batch's: the blocks, the solver and the decoder."""
    return 0.0045 * block_evaluations(schedule) + 0.004 * schedule.num_steps + 0.05


def quality(schedule: Schedule, weights: str, seeds: str, count: int, random: np.random.Generator) -> Quality:
    error = 9.0 if seeds == "search" else 4.0
    value = true_distance(schedule, weights) + float(random.normal(0, error / 2))
    interval = Interval(value, value - 1.96 * error, value + 1.96 * error)
    return Quality(seeds, "fd-efficientnet-lite0", count, interval, FLOOR, to_baseline=0.1)  # type: ignore[arg-type]


def throughput(schedule: Schedule, random: np.random.Generator) -> Throughput:
    drift = 1 + 0.1 * random.random(7)
    own = seconds(schedule) * drift * (1 + 0.01 * random.standard_normal(7))
    return Throughput(
        tuple(map(float, own)),
        BATCH,
        tuple(map(float, seconds(steps(STEPS)) * drift)),
        seconds(schedule) / 40,
        180_000_000,
    )


def proposals() -> list[tuple[str, str, str, Schedule, str]]:
    """(label, role, family, schedule, weights) of every point."""
    rows = [("full", "baseline", "full", steps(STEPS), weights) for weights in (NORMAL, EXITS)]
    rows += [(f"{n} steps", "baseline", "fewer-steps", steps(n), w) for n in (14, 10, 7, 5) for w in (NORMAL, EXITS)]
    rows += [
        (f"exit {d}", "baseline", "uniform-depth", with_exits(steps(STEPS), [d] * STEPS), EXITS) for d in (9, 6, 4)
    ]
    stair = [5 + round(7 * s / (STEPS - 1)) for s in range(STEPS)]
    rows.append(("published staircase", "baseline", "staircase", with_exits(steps(STEPS), stair), EXITS))
    rows += [
        (f"reuse from {d}, every {k}", "baseline", "interval-reuse", reuse_every(k, d), NORMAL)
        for k, d in ((2, 3), (3, 3), (4, 3))
    ]
    tails = (DROP, REUSE, forecast(1))
    made = [
        curve(n, a, b, tails[(n + a + b) % 3]) for n in (6, 8, 10, 13, 16, 20) for a in (2, 4, 7) for b in (6, 9, 12)
    ]
    return rows + [(f"trial {i}", "trial", "", schedule, EXITS) for i, schedule in enumerate(made)]


def build(promoted: int = 16) -> StudyView:
    """A finished study whose `promoted` best trials were measured again on final seeds."""
    random = np.random.default_rng(0)
    points = [
        Point(
            label if weights == EXITS or role == "trial" else f"{label} · {weights}",
            role,  # type: ignore[arg-type]
            family,
            weights,
            summarized(schedule),
            int(label.split()[1]) if role == "trial" else None,
            search=quality(schedule, weights, "search", 256, random),
            predicted_seconds=seconds(schedule) * 0.985,
            flops=block_evaluations(schedule) * 14_000_000,
        )
        for label, role, family, schedule, weights in proposals()
    ]
    spent = tuple(
        Spent(256, seconds(point.schedule) * 4, Score(point.search.distance.value, BATCH / point.predicted_seconds))
        for point in points
        if point.search and point.predicted_seconds
    )
    ranked = sorted((point for point in points if point.role == "trial"), key=promise)
    chosen = {point.key for point in ranked[:promoted]} | {point.key for point in points if point.role == "baseline"}
    finals = tuple(
        replace(
            point,
            final=quality(point.schedule, point.weights, "final", 1024, random),
            throughput=throughput(point.schedule, random),
        )
        if promoted and point.key in chosen
        else point
        for point in points
    )
    return StudyView(
        name="fashion",
        storage="sqlite:///exeunt.db",
        state="finished",
        normal_weights=NORMAL,
        batch_size=BATCH,
        level=0.9,
        configuration={"name": "fashion", "quality": {"num_images": 256, "metric": "fd-efficientnet-lite0"}},
        conditions={"device": "two cores", "dtype": "float32", "executor": "eager", "torch": "2.15.0"},
        points=finals,
        differences=differences(finals),
        spent=spent,
    )


def promise(point: Point) -> float:
    """Ranks trials by their weighted search objectives."""
    assert point.search is not None
    return math.log(point.search.excess.value) + 0.9 * math.log(seconds(point.schedule))


def differences(points: tuple[Point, ...]) -> dict[tuple[tuple[str, str], tuple[str, str]], Interval]:
    finals = [(point.key, point.final.distance.value) for point in points if point.final]
    return {
        (a, b): Interval(first - second, first - second - 2.0, first - second + 2.0)
        for a, first in finals
        for b, second in finals
    }


@pytest.fixture(scope="session")
def view() -> StudyView:
    """A finished study."""
    return build()


@pytest.fixture(scope="session")
def build_view() -> Callable[[int], StudyView]:
    """Builds a study with a number of promoted trials."""
    return build


def images(count: int, seed: int) -> np.ndarray:
    """Features (count, 2) that a seed decides."""
    return np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)


class Recorder:
    """Writes a view's points into a store through its public functions, as a runner does."""

    def __init__(self, store: Store, config: StudyConfig) -> None:
        self.store, self.config = store, config
        self.environment = environment("cpu")
        self.pins = {
            "checkpoint.path": f"sha-{EXITS}",
            "quality.conditions": "c" * 64,
            "quality.reference": "r" * 64,
            "quality.metric": "e" * 64,
        }
        store.studies.put_config(config, self.pins)

    def timing_key(self, weights: str) -> TimingKey:
        return TimingKey(
            device=str(self.environment["device"]),
            batch_size=BATCH,
            executor="eager",
            dtype="float32",
            weights_sha256=f"sha-{weights}",
            versions=environment_digest(self.environment),
        )

    def add(self, point: Point) -> None:
        self.store.studies.add_member(
            self.config.name,
            Member(
                label=point.label,
                role=point.role,
                family=point.family or "mixed",
                schedule_digest=point.schedule.digest,
                weights_sha256=f"sha-{point.weights}",
                weights_name=point.weights,
                trial_number=point.trial,
            ),
            point.schedule,
        )

    def score(self, point: Point, quality: Quality, seed: int, worker: Worker, metric: str | None = None) -> None:
        """Commits features of the evaluation and stores its value with influences."""
        key = EvaluationKey(point.schedule.digest, f"sha-{point.weights}", "c" * 64, seed, "e" * 64, "float32", "eager")
        if self.store.evaluations.missing(key, range(4)):
            claim = self.store.evaluations.claim(key, worker.owner, 60.0, self.config.name)
            assert claim is not None
            self.store.evaluations.commit_chunk(claim, 0, images(4, seed), 0.5)
            self.store.evaluations.release(claim)
        influences = np.random.default_rng(7).standard_normal(quality.num_images)
        distance = Distance(quality.distance.value, influences, np.zeros((0, quality.num_images)))
        self.store.measurements.put_qualities(
            QualityRecord(
                evaluation=key.digest,
                metric=metric or quality.metric,
                reference="r" * 64,
                first_image=0,
                num_images=quality.num_images,
                value=quality.distance.value,
                lower=quality.distance.lower,
                upper=quality.distance.upper,
                standard_error=1.0,
                level=0.9,
                floor=quality.floor,
                influence=tuple(distance.pack().ravel().tolist()) if quality.seeds == "final" else (),
            )
        )

    def time_kinds(self, schedules: list[Schedule]) -> None:
        kinds = {call.kind for schedule in schedules for step in compile_plan(schedule).steps for call in step.calls}
        raw = {kind: [0.01, 0.02, 0.03] for kind in kinds} | {"decode": [0.05], "solver-step": [0.004]}
        self.store.measurements.put_call_timings(self.timing_key(EXITS), raw)

    def time(self, point: Point, full: Point) -> None:
        assert point.throughput is not None
        self.store.measurements.put_throughput(
            ThroughputRecord(
                schedule_digest=point.schedule.digest,
                key=self.timing_key(point.weights),
                baseline_digest=full.schedule.digest,
                baseline_weights_sha256=f"sha-{full.weights}",
                purpose="final",
                seconds=point.throughput.seconds,
                baseline_seconds=point.throughput.neighbours,
                latency_seconds=(0.03, 0.01, 0.02),
                peak_memory_bytes=2**20,
                study=self.config.name,
            )
        )


def study_config() -> StudyConfig:
    """A study's configuration as it is stored, with nothing left to the network."""
    fitted = {
        "checkpoint.dtype": "float32",
        "baseline.solver": "dpmsolver++",
        "baseline.spacing": "log-snr",
        "baseline.guidance": None,
        "quality.metric": "fd-efficientnet-lite0",
        "quality.reference": "fashion-mnist",
        "quality.conditions": "uniform",
        "throughput.executor": "eager",
    }
    return override(StudyConfig(), {"name": "fashion", "throughput.device": "cpu", **fitted})


def record(store: Store, view: StudyView, config: StudyConfig) -> Recorder:
    """Puts everything that a view shows into a store."""
    recorder = Recorder(store, config)
    full = view.full
    assert full is not None
    with Worker(store, config.name, 60.0, recorder.environment) as worker:
        for point in view.points:
            recorder.add(point)
            for quality, seed in ((point.search, config.quality.search_seed), (point.final, config.quality.final_seed)):
                if quality is not None:
                    recorder.score(point, quality, seed, worker)
        recorder.time_kinds([point.schedule for point in view.points])
        for point in view.points:
            if point.throughput is not None:
                recorder.time(point, full)
    return recorder


@pytest.fixture(scope="session")
def recorded(view: StudyView, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database that holds a few of the view's points, each weights' full schedule among them."""
    some = replace(view, points=tuple(point for index, point in enumerate(view.points) if index < 5 or index % 9 == 0))
    url = f"sqlite:///{tmp_path_factory.mktemp('reports') / 'exeunt.db'}"
    with open_store(url) as store:
        record(store, some, study_config())
    return url
