"""The full trajectories that a schedule's steps are fitted to, known at every time.

A trajectory is kept at the times of a full schedule with many steps, and interpolated between them over the angle
θ = atan(σ/α), which is finite at pure noise and at the data: x/√(α² + σ²) = cos θ · x₀ + sin θ · ε.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import InputError
from ...network import Network
from ...schedule import Noise, Schedule
from ...solvers.noise_schedules import Marginal
from ...solvers.tables import SIGMA_DATA, make_schedule, path
from ..conditions import Conditions
from ..loop import StepValues, num_draws, sample

FULL_STEPS = 100
FULL_SOLVER, FULL_ORDER = "unipc", 3
BATCH_SIZE = 64
_NODES = 4  # of the interpolation: a cubic through the two states on either side


def full_schedule(schedule: Schedule, num_steps: int = FULL_STEPS) -> Schedule:
    """Every block at many steps, with the network, noise and guidance of a schedule: what its rows are fitted to.

    Raises:
        InputError: the schedule has several networks, or nothing says what its network predicts.
    """
    network, *others = schedule.networks
    if others:
        raise InputError(
            f"networks: a full schedule has one network, but this one has {len(schedule.networks)}. Give the full "
            "schedule that it is to be fitted to."
        )
    sampler = schedule.sampler
    return make_schedule(
        network,
        sampler.noise,
        sampler.prediction,
        solver=FULL_SOLVER,
        order=FULL_ORDER,
        num_steps=num_steps,
        spacing="log-snr",
        include_zero=True,
        guidance=schedule.guidance,
        clip=sampler.clip,
        sigma_data=SIGMA_DATA if sampler.sigma_data is None else sampler.sigma_data,
    )


@dataclass(frozen=True, eq=False)
class TeacherTrajectories:
    """K images on their way from noise to data, each from its own noise.

    Attributes:
        noise: the forward process.
        seed, images, conditions: whose noises and conditions, as `sample` takes them.
        angles: (S + 1,) atan(σ/α) of the states, falling; the last one is the end.
        states: (S + 1, K, C, H, W) x/√(α² + σ²), on the CPU; the last ones are the finished latents.
    """

    noise: Noise
    seed: int
    images: range
    conditions: Conditions
    angles: tuple[float, ...]
    states: Tensor

    def at(self, point: Marginal) -> Tensor:
        """(K, C, H, W) x at a time, in the type of the states."""
        angle, size = math.atan2(point.sigma, point.alpha), math.hypot(point.sigma, point.alpha)
        after = bisect_left(self.angles, -angle, key=lambda value: -value)
        first = min(max(after - _NODES // 2, 0), max(len(self.angles) - _NODES, 0))
        nodes = self.angles[first : first + _NODES]
        weights = torch.tensor([size * weight for weight in _lagrange(nodes, angle)], dtype=torch.float64)
        return torch.einsum("s,s...->...", weights.to(self.states.dtype), self.states[first : first + len(nodes)])


def _lagrange(nodes: Sequence[float], at: float) -> list[float]:
    """The weights of the values at some nodes in the polynomial through them."""
    return [math.prod((at - other) / (node - other) for other in nodes if other != node) for node in nodes]


def teacher_states(
    networks: Sequence[Network],
    full: Schedule,
    *,
    seed: int,
    images: range,
    conditions: Conditions,
    batch_size: int = BATCH_SIZE,
    check: Callable[[], None] = lambda: None,
) -> TeacherTrajectories:
    """Run a full schedule and keep its states: (steps + 1) · K samples of the networks' shape in float32.

    Args:
        networks: those that the schedule names, in its order.
        full: such as `full_schedule` makes it.
        seed, images, conditions, batch_size: as `sample` takes them.
        check: raises to stop; called at every step.

    Raises:
        InputError: the schedule adds noise or evaluates twice at a time; also as `sample` does.
        NonFiniteSamples: its samples are not finite.
    """
    points = path(full.sampler, [step.time for step in full.steps]).points
    angles = [math.atan2(point.sigma, point.alpha) for point in points]
    if num_draws(full) > 1 or any(after >= before for before, after in pairwise(angles)):
        raise InputError(
            f"teacher: must be a solver that adds no noise and evaluates once at a time, but got "
            f"`{full.sampler.name}`. Use `{FULL_SOLVER}`."
        )
    states = torch.empty(len(angles), len(images), *networks[0].sample_shape)
    done = 0

    def keep(s: int, values: StepValues) -> None:
        check()
        rows = slice(done, done + len(values.x))
        if s == 0:
            states[0, rows] = values.x.float().cpu()
        states[s + 1, rows] = values.x_next.float().cpu()

    for batch in sample(
        networks, full, seed=seed, images=images, conditions=conditions, batch_size=batch_size, observe=keep
    ):
        done += len(batch.latents)
    sizes = torch.tensor([math.hypot(point.sigma, point.alpha) for point in points])
    states /= sizes.reshape(-1, *[1] * (states.dim() - 1))
    return TeacherTrajectories(full.sampler.noise, seed, images, conditions, tuple(angles), states)
