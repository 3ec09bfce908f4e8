"""One schedule's rows fitted without a database: to full trajectories, and by the metric that a study would use."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from exeunt import __version__
from numpy.typing import NDArray

from ...backends.errors import InputError
from ...backends.network import Network, in_turns
from ...backends.quality.guards.checks import PixelRange, pixel_deviation, strays
from ...backends.quality.guards.pixels import are_pictures, image_statistics
from ...backends.sampling.compatibility import as_scheduled
from ...backends.sampling.conditions import Conditions
from ...backends.sampling.fitting.refinement import TRIES, Loss, end_error, refine
from ...backends.sampling.fitting.rows import Fit, fit
from ...backends.sampling.fitting.teacher import FULL_STEPS, TeacherTrajectories, full_schedule, teacher_states
from ...backends.sampling.loop import NonFiniteSamples, Samples, check_schedule
from ...backends.schedule import Provenance, Schedule
from ...reports.view.guards import MOST_STRAYS, SLACK
from ...studies.config.study import StudyConfig
from ..monitoring.progress import ProgressListener
from ..spaces.frame import Turn
from .metric import Answer
from .setup import StudySetup, load_named, load_setup, make_conditions, resolve_device

Objective = Literal["metric", "trajectory"]
IMAGES: dict[Objective, int] = {"metric": 256, "trajectory": 48}
DISTANCE = "distance from the full trajectories"
FEW, FEW_STEPS = 64, 50  # images and steps of the full trajectories that a search fits rows to
SHARES = (0.25, 0.5, 0.75)  # of the way from a schedule's own rows to the fitted ones, which a search tries
SEED = 2  # noises of neither the search (0) nor the final values (1)


@dataclass(frozen=True)
class FittedSchedule:
    """A schedule with fitted rows, and what they are worth on the noises that they were fitted on.

    Attributes:
        schedule: its provenance says how it was fitted.
        loss: by name: the metric, or the relative distance from the full trajectories.
        before, after: that loss.
        images: how many it was fitted on.
    """

    schedule: Schedule
    loss: str
    before: float
    after: float
    images: int


def fit_schedule(
    schedule: Schedule,
    config: StudyConfig,
    *,
    objective: Objective = "metric",
    times: bool = False,
    images: int | None = None,
    seed: int = SEED,
    full_steps: int = FULL_STEPS,
    tries: int = TRIES,
    watch: ProgressListener | None = None,
    check_interruption: Callable[[], None] = lambda: None,
) -> FittedSchedule:
    """Fit a schedule's rows, and move its times if wanted.

    Args:
        schedule: deterministic, for the network of `config`.
        config: checkpoint, conditions and metric; the rest is not looked at.
        objective: what is lowest in the end: the metric of the images (it also chooses how far rows go towards the
            full trajectories, and their gain), or the distance from the full trajectories.
        images: that are fitted on; 256 for the metric and 48 for trajectories if not given.
        full_steps: of the full trajectories.
        times, tries: as `refine` takes them.
        watch: who is told what goes on.
        check_interruption: raises to stop; called at each step of sampling.

    Raises:
        InputError: an input is wrong.
        NonFiniteSamples: the schedule's samples are not finite.
    """
    watch = watch or ProgressListener()
    networks, conditions, setup = _load(schedule, config, objective)
    count, batch_size = images or IMAGES[objective], config.quality.batch_size
    full = _full_schedule(networks[0], schedule, full_steps)
    teacher = _teacher(networks[0], full, seed, range(count), conditions, batch_size, watch, check_interruption)
    watch.phase("fitting", tries)
    own = fit(networks, schedule, teacher, share=0.0, batch_size=batch_size, check=check_interruption)
    loss = end_error if setup is None else metric_loss(setup, teacher, own)
    found = refine(
        networks,
        schedule,
        teacher,
        loss=None if setup is None else loss,
        times=times,
        tries=tries,
        batch_size=batch_size,
        check=check_interruption,
        observe=lambda tried, _lowest: watch.advance(tried, count),
    )
    before, after = loss(own), loss(found)
    best = found if after < before else own
    said = {"objective": objective, "images": count, "seed": seed, "full_steps": full_steps, "times": times}
    made = replace(best.schedule, provenance=Provenance(exeunt=__version__, extras=(("x-fit", json.dumps(said)),)))
    name = DISTANCE if setup is None else setup.config.quality.metric
    return FittedSchedule(made, name, before, min(before, after), count)


class RowFitter:
    """Fits the rows of a study's schedules while it searches: on few images, by the study's metric.

    Args:
        setup: the study's.
        check: raises to stop; called at each step of sampling.
    """

    def __init__(self, setup: StudySetup, check: Callable[[], None]) -> None:
        self._setup, self._check = setup, check

    @cached_property
    def _teacher(self) -> TeacherTrajectories:
        setup = self._setup
        full = _full_schedule(setup.network, setup.frame.full, FEW_STEPS)
        return teacher_states(
            in_turns(setup.network, full),
            full,
            seed=SEED,
            images=range(FEW),
            conditions=setup.conditions,
            check=self._check,
        )

    def fitted(self, schedule: Schedule) -> Schedule | None:
        """The schedule with fitted rows; None where its own are as good on the fit's noises, or it can't be fitted."""
        networks = self._setup.networks_of(self._setup.weights, schedule)
        try:
            own, *found = (
                fit(networks, schedule, self._teacher, share=share, check=self._check) for share in (0.0, *SHARES)
            )
        except (InputError, NonFiniteSamples):
            return None
        loss = metric_loss(self._setup, self._teacher, own)
        best = min(found, key=loss)
        return best.schedule if loss(best) < loss(own) else None


def _load(
    schedule: Schedule, config: StudyConfig, objective: Objective
) -> tuple[list[Network], Conditions, StudySetup | None]:
    """Networks and conditions, and all that a study measures with where a metric is asked for."""
    if objective == "metric":
        setup = load_setup(config, lambda networks: check_schedule(as_scheduled(networks, schedule), schedule))
        return as_scheduled(setup.networks_of(setup.weights), schedule), setup.conditions, setup
    config = resolve_device(config)
    networks = as_scheduled(load_named(config, schedule), schedule)
    check_schedule(networks, schedule)
    return networks, make_conditions(config, networks), None


def _full_schedule(network: Network, schedule: Schedule, num_steps: int) -> Schedule:
    """What the rows of a schedule are fitted to: its first network at all steps, but for those of its successor."""
    full = full_schedule(replace(schedule, networks=schedule.networks[:1]), num_steps)
    later = network.successor
    return full if later is None else Turn(later.network.signature, later.below).taken(full)


def _teacher(
    network: Network,
    full: Schedule,
    seed: int,
    images: range,
    conditions: Conditions,
    batch_size: int,
    watch: ProgressListener,
    check_interruption: Callable[[], None],
) -> TeacherTrajectories:
    """Full trajectories, while it is told how far they are."""
    done = 0

    def step() -> None:
        nonlocal done
        check_interruption()
        done += 1
        watch.advance(done)

    watch.phase("full trajectories", full.num_steps * -(-len(images) // batch_size))
    return teacher_states(
        in_turns(network, full),
        full,
        seed=seed,
        images=images,
        conditions=conditions,
        batch_size=batch_size,
        check=step,
    )


def metric_loss(setup: StudySetup, teacher: TeacherTrajectories, own: Fit) -> Loss:
    """The study's metric of a fit's images, and infinity where their pixels are not normal.

    A metric can be fooled by contrast and sharpness, so pixels are held to the range of the full trajectories' images,
    as guards do; where the schedule that is fitted leaves it itself, the fit may go as far. A metric that needs a full
    schedule's images takes the full trajectories'.
    """
    ends = _finished(setup, teacher, teacher.states[-1])
    full = Answer("the full trajectories", setup.features(ends, teacher.seed)) if setup.metric.needs_baseline else None
    normal = PixelRange.of(_statistics(ends)) if are_pictures(ends[0].images) else None
    most = None if normal is None else _most(normal, ends, _finished(setup, teacher, own.latents))

    def loss(found: Fit) -> float:
        batches = _finished(setup, teacher, found.latents)
        if normal is not None and most is not None:
            pairs = zip(_figures(normal, batches), most, strict=True)
            if any(figure > limit for figure, limit in pairs):
                return math.inf
        return setup.metric.score(Answer("the fit", setup.features(batches, teacher.seed)), full).value

    return loss


@torch.inference_mode()
def _finished(setup: StudySetup, teacher: TeacherTrajectories, latents: torch.Tensor) -> list[Samples]:
    """Latents of the teacher's images (K, C, H, W), decoded in batches."""
    network, size = setup.network, setup.config.quality.batch_size
    firsts = range(teacher.images.start, teacher.images.stop, size)
    return [
        Samples(first, part, network.decode(part.to(network.device, network.dtype)))
        for first, part in zip(firsts, latents.split(size), strict=True)
    ]


def _statistics(batches: Sequence[Samples]) -> NDArray[np.float32]:
    return np.concatenate([image_statistics(batch.images) for batch in batches])


def _figures(normal: PixelRange, batches: Sequence[Samples]) -> tuple[float, float]:
    """The deviation of pixels, and the share of images that stray."""
    statistics = _statistics(batches)
    return pixel_deviation(statistics, normal)[0].value, strays(statistics, normal).value


def _most(normal: PixelRange, ends: Sequence[Samples], own: Sequence[Samples]) -> tuple[float, float]:
    """What both figures may be at most."""
    deviation, share = _figures(normal, own)
    return max(deviation, SLACK * _figures(normal, ends)[0]), max(share, MOST_STRAYS)
