"""What a schedule makes of noise if the network is linear, worked out exactly instead of sampled.

Every x is then a weighted sum of independent noises and a constant, separately in each of D dimensions. This follows
the format's definitions of actions, guidance and coefficients step by step and shares no code with plans and the
sampling loop, so that the two check each other.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.networks.closed_form import (
    EXPONENTS,
    ClosedFormNetwork,
    Mixture,
    predicted,
    signal_levels,
    unscaled,
)
from exeunt.backends.schedule import Action, Branch, Schedule, branches_at, guidance_at
from exeunt.backends.solvers.tables import solver_rows
from numpy.typing import NDArray

Array = NDArray[np.float64]
Blocks = Callable[[float, Array], Array]


def exact_moments(network: ClosedFormNetwork, schedule: Schedule) -> tuple[Array, Array]:
    """Mean (D,) and covariance (D, D) of what the schedule samples, exact, for one component.

    Raises:
        InputError: sampling is not linear: several components, clipping or a learned variance.
    """
    mean, deviations = _outcome(network, schedule)
    basis = network.mixture.basis
    return basis @ mean, (basis * (deviations**2).sum(axis=1)) @ basis.T


def exact_frechet(network: ClosedFormNetwork, schedule: Schedule) -> float:
    """The Fréchet distance between what the schedule samples and the data, exact, for one component.

    Raises:
        InputError: as `exact_moments` does.
    """
    vector = exact_vector(network, schedule)
    return float(vector @ vector)


def exact_vector(network: ClosedFormNetwork, schedule: Schedule) -> Array:
    """(2 D,) the error of the mean and of the deviation along each axis: its squared length is the Fréchet distance.

    Raises:
        InputError: as `exact_moments` does.
    """
    mean, deviations = _outcome(network, schedule)
    spread = np.sqrt((deviations**2).sum(axis=1)) - np.sqrt(network.mixture.variances)
    return np.concatenate([mean - network.mixture.means[0], spread])


def exact_images(network: ClosedFormNetwork, schedule: Schedule) -> Array:
    """(D (1 + num_draws),) what images are made of: the constant, and the weight of each noise.

    The squared distance of two schedules' is the mean squared distance of their images of the same noise.

    Raises:
        InputError: as `exact_moments` does.
    """
    mean, weights = _outcome(network, schedule)
    return np.concatenate([mean, weights.ravel()])


def moments(mixture: Mixture) -> tuple[Array, Array]:
    """Mean (D,) and covariance (D, D) of the data."""
    between = np.cov(mixture.means, rowvar=False, bias=True).reshape(mixture.variances.size, -1)
    covariance = mixture.basis @ (between + np.diag(mixture.variances)) @ mixture.basis.T
    return mixture.basis @ mixture.means.mean(axis=0), covariance


def shares(num_blocks: int, noisiness: float) -> Array:
    """(num_blocks,) each block's share of the prediction; they sum to 1. Noisiness is 0 at the data, 1 at noise."""
    exponent = EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * noisiness
    return -np.diff((1 - np.arange(num_blocks + 1) / num_blocks) ** exponent)


def _outcome(network: ClosedFormNetwork, schedule: Schedule) -> tuple[Array, Array]:
    """Along the principal axes: the mean (D,), and how much of each noise ends up in the sample (D, num_draws)."""
    mixture = network.mixture
    if len(mixture.means) > 1:
        raise InputError(f"components: sampling is linear for 1 alone, but this mixture has {len(mixture.means)}.")
    levels = signal_levels(network.noise, network.device)
    variances, mean = (torch.from_numpy(value) for value in (mixture.variances, mixture.means[0]))

    def blocks(time: float, x: Array) -> Array:
        """(num_blocks, D, …) what each block adds for the input x, whose last column is the constant."""
        times = torch.tensor([time], dtype=torch.float64, device=network.device)
        alpha, sigma, noisiness = (value.cpu() for value in levels(times))
        given = unscaled(network.prediction, torch.from_numpy(x), sigma)
        centred = given.clone()
        centred[:, -1] -= alpha * mean
        scaled = centred / (alpha**2 * variances + sigma**2)[:, None]
        data = alpha * variances[:, None] * scaled
        data[:, -1] += mean
        exact = predicted(network.prediction, given, data, sigma * scaled, alpha, sigma)
        return shares(network.num_blocks, float(noisiness))[:, None, None] * exact.numpy()

    return linear_outcome(schedule, mixture.variances.size, blocks)


def linear_outcome(schedule: Schedule, dim: int, predict_blocks: Blocks) -> tuple[Array, Array]:
    """The mean (D,) of what the schedule samples, and the weight of each noise in it (D, num_draws).

    Args:
        schedule: of one network.
        dim: D.
        predict_blocks: (network time, x (D, num_draws + 1), its last column the constant) -> (num_blocks, D,
            num_draws + 1) what each block adds to the prediction.

    Raises:
        InputError: the schedule clips or learns its variance, which is not linear.
    """
    if schedule.sampler.clip is not None or schedule.sampler.variance == "learned-range":
        raise InputError("sampler: sampling is linear without clip and without learned variance. Take them away.")
    table = solver_rows(schedule)
    column = iter(range(1, 1 + sum(row.c != 0 for row in table)))  # of the next step's noise
    x = np.zeros((dim, 2 + sum(row.c != 0 for row in table)))
    x[:, 0] = schedule.sampler.initial_scale
    caches: dict[Branch, list[list[tuple[int, Array]]]] = {
        branch: [[] for _ in schedule.steps[0].blocks] for branch in ("conditional", "unconditional")
    }
    history: list[Array] = []  # of m, newest first
    unconditional = np.zeros_like(x)
    for s, (step, row) in enumerate(zip(schedule.steps, table, strict=True)):
        time = step.time if step.network_time is None else step.network_time
        parts = predict_blocks(time, row.input_scale * x)
        outputs = {branch: _output(s, step.blocks, parts, caches[branch]) for branch in branches_at(schedule, s)}
        output, scale = outputs["conditional"], guidance_at(schedule, s)
        unconditional = outputs.get("unconditional", unconditional)
        if scale is not None and step.unconditional != "skip":
            output = unconditional + scale * (output - unconditional)
        history.insert(0, row.model_x * x + row.model_f * output)
        x = row.a * x + sum(weight * m for weight, m in zip(row.b, history, strict=False))
        if row.c:
            x[:, next(column)] += row.c
    return x[:, -1], x[:, :-1]


def _output(s: int, blocks: Sequence[Action], parts: Array, cache: list[list[tuple[int, Array]]]) -> Array:
    """The sum of what blocks add at step s, straight from the format's definitions of the actions."""
    total = np.zeros_like(parts[0])
    for part, action, stored in zip(parts, blocks, cache, strict=True):
        if action.kind == "run":
            stored.insert(0, (s, part))
            total += part
        elif action.kind != "drop":
            total += _extrapolate(s, stored[: action.order + 1])
    return total


def _extrapolate(s: int, stored: Sequence[tuple[int, Array]]) -> Array:
    """Taylor forecast from the last one, two or three (step, value), newest first."""
    (r0, y0), k = stored[0], s - stored[0][0]
    if len(stored) == 1:
        return y0
    (r1, y1) = stored[1]
    slope = (y0 - y1) / (r0 - r1)
    if len(stored) == 2:
        return y0 + k * slope
    (r2, y2) = stored[2]
    return y0 + k * slope + 0.5 * k * k * (slope - (y1 - y2) / (r1 - r2)) / (r0 - r1)
