"""One schedule measured without a database: its quality with an interval, and its speed beside the full schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..backends.compatibility import as_scheduled
from ..backends.features import FeatureArray
from ..backends.network import Network
from ..backends.peak_memory import peak_memory
from ..backends.pieces import trajectory
from ..backends.sampling import check, sample
from ..backends.schedule import Schedule, block_evaluations
from ..backends.throughput import Subject, flops, speedup, time_schedules
from ..studies.config import StudyConfig
from ..studies.records import QualityRecord
from .laboratory import Laboratory, set_up
from .other_weights import remark
from .progress import Silent, Watch


@dataclass(frozen=True)
class Speed:
    """End-to-end figures of one schedule (network, solver, decoder).

    Attributes:
        images_per_second: of the median repeat.
        batch_size: images a batch.
        speedup: over the full schedule, with its interval; repeats of both are interleaved.
        latency_seconds: of one image alone.
        block_evaluations, flops: of one image, guidance branches counted; flops with the decoder.
        peak_memory_bytes: of one batch, and `peak_memory_counts` says of what.
        seconds, full_seconds: raw repeats, and the full schedule's beside each.
    """

    images_per_second: float
    batch_size: int
    speedup: float
    speedup_interval: tuple[float, float]
    latency_seconds: float
    block_evaluations: int
    flops: int
    peak_memory_bytes: int
    peak_memory_counts: str
    seconds: tuple[float, ...]
    full_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """What a schedule is worth, and what the figures hold for; `full_steps` are those of the full schedule."""

    schedule_digest: str
    weights: str
    quality: QualityRecord
    speed: Speed
    full_steps: int
    device: str
    dtype: str
    executor: str


def evaluate(
    schedule: Schedule,
    config: StudyConfig,
    *,
    seed: int | None = None,
    repeats: int = 5,
    watch: Watch | None = None,
    check_interruption: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Measure a schedule on `config.quality.num_images` images and time it beside the full schedule.

    Args:
        schedule: for the network of `config`; its weights may be other ones than the schedule names.
        config: checkpoint, baseline, quality and throughput; the rest is not looked at.
        seed: of the noises; those of final values if not given.
        repeats: of each timing, 2 or more.
        watch: who is told what goes on.
        check_interruption: raises to stop; called at each step of sampling.

    Raises:
        InputError: an input is wrong; nothing was sampled.
        NonFiniteSamples: the schedule's samples are not finite.
    """
    laboratory, watch = set_up(config), watch or Silent()
    network = as_scheduled(laboratory.network, schedule)
    check([network], schedule)
    if note := remark(schedule, network):
        watch.say(note)
    seed = laboratory.config.quality.final_seed if seed is None else seed
    features = _features(laboratory, network, schedule, seed, watch, check_interruption)
    return Evaluation(
        schedule_digest=schedule.digest,
        weights=laboratory.weights,
        quality=laboratory.metric.score("", features),
        speed=_speed(laboratory, network, schedule, repeats, watch),
        full_steps=laboratory.frame.num_steps,
        device=laboratory.environment["device"],
        dtype=laboratory.config.checkpoint.dtype,
        executor=laboratory.config.throughput.executor,
    )


def _features(
    laboratory: Laboratory,
    network: Network,
    schedule: Schedule,
    seed: int,
    watch: Watch,
    check_interruption: Callable[[], None],
) -> FeatureArray:
    """(num_images, D) of the schedule's first images."""
    quality = laboratory.config.quality
    watch.phase("sampling", quality.num_images)
    found: list[FeatureArray] = []
    with laboratory.lock.shared():
        for batch in sample(
            [network],
            schedule,
            seed=seed,
            images=range(quality.num_images),
            conditions=laboratory.conditions,
            batch_size=quality.batch_size,
            observe=lambda _step, _values: check_interruption(),
        ):
            found.append(laboratory.metric.features([batch.images]))
            watch.advance(batch.first + len(batch.images), len(batch.images))
    return np.concatenate(found)


def _speed(laboratory: Laboratory, network: Network, schedule: Schedule, repeats: int, watch: Watch) -> Speed:
    batch_size = laboratory.config.throughput.batch_size
    watch.phase("timing", 1.0)
    full = Subject((laboratory.network,), laboratory.frame.full)
    subjects = {"own": Subject((network,), schedule), "full": full}
    timing = time_schedules(subjects, "full", batch_size=batch_size, repeats=repeats)["own"]
    latency = time_schedules(subjects, "full", batch_size=1, repeats=repeats)["own"]
    with laboratory.lock.exclusive():
        memory = peak_memory(trajectory([network], schedule, batch_size), network.device)
    ratio = speedup(timing)
    return Speed(
        images_per_second=timing.images_per_second,
        batch_size=batch_size,
        speedup=ratio.value,
        speedup_interval=(ratio.lower, ratio.upper),
        latency_seconds=latency.median,
        block_evaluations=block_evaluations(schedule),
        flops=flops([network], schedule),
        peak_memory_bytes=memory.num_bytes,
        peak_memory_counts=memory.counted,
        seconds=timing.seconds,
        full_seconds=timing.neighbours,
    )
