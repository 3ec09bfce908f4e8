"""One schedule measured without a database: its quality with an interval, and its speed beside the full schedule.

It also warns when a schedule runs on another network than it was made for, which is allowed but may be a mistake.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.errors import printable
from ...backends.network import Network
from ...backends.networks.registry import BUNDLED, load_network
from ...backends.quality.extractors import FeatureArray
from ...backends.sampling.compatibility import as_scheduled
from ...backends.sampling.loop import check_schedule, sample
from ...backends.schedule import NetworkSignature, Schedule, as_schedule, block_evaluations
from ...backends.timing.device import peak_memory
from ...backends.timing.pieces import trajectory
from ...backends.timing.throughput import TimedSchedule, flops, speedup, time_schedules
from ...reports.files.export import NETWORK_ARGS
from ...reports.view.interval import Interval
from ...reports.view.standard import Standard, standard_of
from ...studies.config.keywords import configured
from ...studies.config.study import StudyConfig
from ...studies.store.records import QualityRecord
from ..monitoring.progress import ProgressListener
from .metric import Answer
from .setup import StudySetup, load_setup


def remarks(schedule: Schedule, networks: Sequence[Network], arguments: str = "") -> list[str]:
    """Warnings for running this schedule on these networks; none if it was made for them.

    `arguments` are what the first one's constructor was given besides, as `CheckpointConfig.option_words` says it.
    """
    flags = ("--checkpoint", "--network small=FILE")
    notes = [_on_weights(*each) for each in zip(schedule.networks, networks, flags, strict=False)]
    return [note for note in (*notes, _on_arguments(schedule, arguments)) if note]


def _on_weights(made_for: NetworkSignature, network: Network, flag: str) -> str | None:
    """A schedule for weights with trained exits drops blocks that other weights of the network can't do without."""
    wanted, have = made_for.weights_sha256, network.signature.weights_sha256
    if wanted is None or have is None or wanted == have:
        return None
    own = BUNDLED if network.name in BUNDLED else ()
    bundled = [name for name in own if load_network(name).signature.weights_sha256 == wanted]
    fix = (
        f"Did you mean --checkpoint {bundled[0]}?"
        if bundled
        else f"If this is a mistake, give those weights with {flag}."
    )
    return f"Note: the schedule was made for other weights ({wanted[:12]}…) than `{network.name}` has. {fix}"


def _on_arguments(schedule: Schedule, have: str) -> str | None:
    """The same weights give other images with, say, another number of heads, and no digest shows it."""
    origin = schedule.provenance
    if origin is None or origin.study is None:
        return None
    wanted = printable(str(json.loads(dict(origin.extras).get(NETWORK_ARGS, '""'))))
    if wanted == have:
        return None
    was, fix = (f"with --network-arg {wanted}", "Add them") if wanted else ("without --network-arg", "Omit them")
    now = f"with {have}" if have else "without them"
    return f"Note: the schedule was found {was}, but runs {now} here, so images may differ. {fix} if this is a mistake."


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
    """The quality and speed of a schedule, and the conditions under which they were measured.

    Attributes:
        standard: what quality is compared with, and with which sign people know it.
        full_steps: those of the full schedule.
        text_seconds: what encoding one prompt took, which no figure of speed includes; None without prompts.
    """

    schedule_digest: str
    weights: str
    quality: QualityRecord
    standard: Standard
    speed: Speed
    full_steps: int
    device: str
    dtype: str
    executor: str
    text_seconds: float | None = None


def evaluate(
    schedule: Schedule | str | os.PathLike[str],
    config: StudyConfig | str | os.PathLike[str] | None = None,
    *,
    seed: int | None = None,
    repeats: int = 5,
    watch: ProgressListener | None = None,
    check_interruption: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Evaluation:
    """Measure a schedule on `config.quality.num_images` images and time it beside the full schedule.

    Args:
        schedule: for the network of `config`, or its file; its weights may be other ones than the schedule names.
        config: checkpoint, baseline, quality and throughput, or a study's file; the rest is not looked at.
        seed: of the noises; those of final values if not given.
        repeats: of each timing, 2 or more.
        watch: who is told what goes on.
        check_interruption: raises to stop; called at each step of sampling.
        settings: what goes over the configuration, by the names of flags.

    Raises:
        InputError: an input is wrong; nothing was sampled.
        NonFiniteSamples: the schedule's samples are not finite.
    """
    schedule, config = as_schedule(schedule), configured(config, settings)
    study_setup = load_setup(config, lambda networks: check_schedule(as_scheduled(networks, schedule), schedule))
    watch = watch or ProgressListener()
    networks = as_scheduled(study_setup.networks_of(study_setup.weights), schedule)
    for note in remarks(schedule, networks, study_setup.config.checkpoint.option_words):
        watch.say(note)
    seed = study_setup.config.quality.final_seed if seed is None else seed
    quality, standard = _Sampler(study_setup, watch, check_interruption).quality(networks, schedule, seed)
    return Evaluation(
        schedule_digest=schedule.digest,
        weights=study_setup.weights,
        quality=quality,
        standard=standard,
        speed=_speed(study_setup, networks, schedule, repeats, watch),
        full_steps=study_setup.frame.num_steps,
        device=study_setup.environment["device"],
        dtype=study_setup.config.checkpoint.dtype,
        executor=study_setup.config.throughput.executor,
        text_seconds=study_setup.network.text_seconds,
    )


@dataclass(frozen=True)
class _Sampler:
    """Samples images, turns them into features and reports progress."""

    study_setup: StudySetup
    watch: ProgressListener
    check_interruption: Callable[[], None]

    def answer(self, networks: Sequence[Network], schedule: Schedule, seed: int, label: str) -> Answer:
        """The features of a schedule's first images."""
        quality, found = self.study_setup.config.quality, list[FeatureArray]()
        self.watch.phase(f"sampling {label}", quality.num_images)
        with self.study_setup.lock.shared():
            for batch in sample(
                networks,
                schedule,
                seed=seed,
                images=range(quality.num_images),
                conditions=self.study_setup.conditions,
                batch_size=quality.batch_size,
                observe=lambda _step, _values: self.check_interruption(),
            ):
                found.append(self.study_setup.features([batch], seed))
                self.watch.advance(batch.first + len(batch.images), len(batch.images))
        return Answer(label, np.concatenate(found))

    def quality(self, networks: Sequence[Network], schedule: Schedule, seed: int) -> tuple[QualityRecord, Standard]:
        """The value, and what it is compared with: the full schedule's images where there are no real ones."""
        setup, quality = self.study_setup, self.study_setup.config.quality
        answer = self.answer(networks, schedule, seed, "the schedule")
        if not setup.metric.needs_baseline:
            return setup.metric.score(answer, None), standard_of(quality, None)
        full = setup.baseline.schedule
        own = setup.networks_of(setup.baseline.weights, full)
        baseline = self.answer(own, full, seed, "the full schedule")
        other = quality.search_seed if seed != quality.search_seed else quality.final_seed
        noise = setup.metric.noise(self.answer(own, full, other, "the full schedule on other noises"), baseline)
        assert noise is not None, "needs_baseline"
        standard = standard_of(quality, Interval(noise.value, noise.lower, noise.upper))
        return setup.metric.score(answer, baseline), standard


def _speed(
    study_setup: StudySetup, networks: Sequence[Network], schedule: Schedule, repeats: int, watch: ProgressListener
) -> Speed:
    batch_size = study_setup.config.throughput.batch_size
    watch.phase("timing", 1.0)
    whole = study_setup.frame.full
    full = TimedSchedule(tuple(study_setup.networks_of(study_setup.weights, whole)), whole)
    subjects = {"own": TimedSchedule(tuple(networks), schedule), "full": full}
    timing = time_schedules(subjects, "full", batch_size=batch_size, repeats=repeats)["own"]
    latency = time_schedules(subjects, "full", batch_size=1, repeats=repeats)["own"]
    with study_setup.lock.exclusive():
        memory = peak_memory(trajectory(networks, schedule, batch_size), networks[0].device)
    ratio = speedup(timing)
    return Speed(
        images_per_second=timing.images_per_second,
        batch_size=batch_size,
        speedup=ratio.value,
        speedup_interval=(ratio.lower, ratio.upper),
        latency_seconds=latency.median,
        block_evaluations=block_evaluations(schedule),
        flops=flops(networks, schedule),
        peak_memory_bytes=memory.num_bytes,
        peak_memory_counts=memory.counted,
        seconds=timing.seconds,
        full_seconds=timing.neighbours,
    )
