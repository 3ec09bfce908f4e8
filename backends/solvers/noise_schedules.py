"""Noise schedules: how much signal and noise a sample has at a time.

A sample at time t is x = α(t) · x₀ + σ(t) · ε. With betas and on the VP-SDE α² + σ² = 1; EDM has α = 1; flow matching
has α = 1 − t and σ = t. Everything is worked out in float64 with Python's own arithmetic.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from ..errors import InputError
from ..schedule import MAX_TRAIN_TIMESTEPS, Noise

# The VP-SDE has no train indices. It is still counted on 1,000 of them: index i is its time (i + 1) / 1000,
# and is what its networks receive (Lu et al. 2022, DPM-Solver, appendix D.2).
VP_LENGTH = 1000
# What EDM's networks are sampled between where the noise does not say (Karras et al. 2022, table 1).
EDM_RANGE = (0.002, 80.0)


@dataclass(frozen=True)
class Marginal:
    """The distribution of a noisy sample given the data, at one time: N(alpha · x₀, sigma²).

    Attributes:
        alpha: scale of the signal, at least 0.
        sigma: scale of the noise, at least 0.
        log_snr: ln(alpha / sigma), half the log signal-to-noise ratio; infinite where one of them is 0.
    """

    alpha: float
    sigma: float
    log_snr: float


CLEAN = Marginal(1.0, 0.0, math.inf)


def marginal_at_flow(time: float) -> Marginal:
    """The marginal of flow matching at a time, 1 (noise) to above 0 (data): (1 − t) · x₀ + t · ε."""
    return Marginal(1 - time, time, math.log((1 - time) / time) if time < 1 else -math.inf)


def marginal_at(noise: Noise, unit: str, time: float) -> Marginal:
    """The marginal at a step's time.

    Args:
        noise: the forward process.
        unit: what the time is, one of the format's `TIMES`.
        time: inside its unit's range.

    Raises:
        InputError: as `marginal` does.
    """
    if unit == "flow":
        return marginal_at_flow(time)
    if unit == "train-index":
        return marginal(noise, time)
    alpha = 1.0 if noise.kind == "edm" else 1 / math.hypot(1.0, time)  # elsewhere variance-preserving, σ/α the time
    return Marginal(alpha, time * alpha, -math.log(time))


def edm_range(noise: Noise) -> tuple[float, float]:
    """The smallest and the largest σ that EDM's networks are sampled at."""
    low, high = EDM_RANGE
    return noise.sigma_min or low, noise.sigma_max or high


def marginal(noise: Noise, time: float) -> Marginal:
    """α, σ and ln(α/σ) at a train index, which may lie between two; log ᾱ is linear there.

    Raises:
        InputError: the time is outside 0 … num_train_timesteps − 1, or the noise schedule is not known.
    """
    value = log_alpha_bar(noise, time)
    variance = -math.expm1(value)
    return (
        Marginal(math.exp(0.5 * value), math.sqrt(variance), 0.5 * (value - math.log(variance)))
        if variance > 0
        else CLEAN
    )


def log_alpha_bar(noise: Noise, time: float) -> float:
    """ln ᾱ = 2 ln α at a time, at most 0. Raises InputError as `marginal` does."""
    last = num_train_timesteps(noise) - 1
    if not 0 <= time <= last:
        raise InputError(f"time: must be between 0 and {last}, but got {time}. Use a time in that range.")
    if noise.kind == "vp":
        beta_min, slope = _vp(noise)
        u = (time + 1) / VP_LENGTH
        return -u * (beta_min + 0.5 * slope * u)  # Song et al. 2021, eq. 33
    table = log_alpha_bars(noise)
    low = min(int(time), last - 1) if last else 0
    weight = time - low
    return table[low] if weight == 0 else (1 - weight) * table[low] + weight * table[low + 1]


def decay_rate(noise: Noise, time: float) -> float:
    """−d ln ᾱ/dt at a time, per train index: the β(t) of the variance-preserving SDE (Song et al. 2021, eq. 11).

    Between train indices ln ᾱ is linear, so the rate is that of the stretch that ends at `time`,
    which must be a train index of this noise or lie between two.
    """
    if noise.kind == "vp":
        beta_min, slope = _vp(noise)
        return (beta_min + slope * (time + 1) / VP_LENGTH) / VP_LENGTH
    table = log_alpha_bars(noise)
    high = math.ceil(time)
    return (table[high - 1] if high else 0.0) - table[high]


def time_at(noise: Noise, log_snr: float) -> float:
    """The time, 0 … num_train_timesteps − 1, at which ln(α/σ) has a value; the nearest end where it lies outside."""
    target = -math.log1p(math.exp(-2 * log_snr)) if log_snr > -300 else 2 * log_snr  # ᾱ = 1 / (1 + exp(−2λ))
    last = num_train_timesteps(noise) - 1
    if noise.kind == "vp":
        beta_min, slope = _vp(noise)
        root = math.sqrt(beta_min * beta_min - 2 * slope * target)
        return min(max(VP_LENGTH * -2 * target / (beta_min + root) - 1, 0.0), float(last))
    table = log_alpha_bars(noise)
    if target >= table[0] or last == 0:
        return 0.0
    if target <= table[-1]:
        return float(last)
    high = bisect_right(table, -target, key=lambda value: -value)
    return high - 1 + (table[high - 1] - target) / (table[high - 1] - table[high])


def num_train_timesteps(noise: Noise) -> int:
    """How many train indices a noise schedule has. Raises InputError if it has none, or more than any."""
    length = VP_LENGTH if noise.kind == "vp" else noise.num_timesteps
    if length is None:
        raise InputError(f"noise: `{noise.kind}` has no train indices. Known: {', '.join([*BETAS, 'vp'])}.")
    if not 1 <= length <= MAX_TRAIN_TIMESTEPS:  # a file may say anything, and a list is made of that length
        raise InputError(
            f"noise: num_train_timesteps must be from 1 to {MAX_TRAIN_TIMESTEPS}, but got {length}. Correct the file."
        )
    return length


@lru_cache(maxsize=32)
def log_alpha_bars(noise: Noise) -> tuple[float, ...]:
    """ln ᾱ at every train index, falling. Raises InputError if the kind has no betas, or betas of no such process."""
    steps = betas(noise)
    if not (steps[0] > 0 and all(0 <= beta < 1 for beta in steps)):
        got = next((beta for beta in steps if not 0 <= beta < 1), steps[0])
        raise InputError(
            f"noise: every beta must be at least 0 and below 1, and the first above 0, but got {got:g}. Correct the "
            "file."
        )
    return tuple(accumulate(math.log1p(-beta) for beta in steps))


def betas(noise: Noise) -> tuple[float, ...]:
    """β at every train index: the variance that one step of the forward process adds.

    Raises:
        InputError: the kind of noise is not one of `BETAS`.
    """
    if noise.kind not in BETAS:
        raise InputError(f"noise: `{noise.kind}` has no betas. Known: {', '.join(BETAS)}.")
    return BETAS[noise.kind](noise)


def _cosine(noise: Noise) -> tuple[float, ...]:
    """Nichol & Dhariwal 2021, eq. 17, with β at most 0.999."""
    count = num_train_timesteps(noise)
    levels = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return tuple(min(1 - after / before, 0.999) for before, after in pairwise(levels))


def _listed(noise: Noise) -> tuple[float, ...]:
    if not noise.betas:
        raise InputError("noise: kind `betas` needs a list `betas`. Give one β a train index.")
    return tuple(noise.betas)


BETAS: dict[str, Callable[[Noise], tuple[float, ...]]] = {
    "linear": lambda noise: _ramp(noise),
    "scaled-linear": lambda noise: tuple(root * root for root in _ramp(noise, math.sqrt)),
    "cosine": _cosine,
    "betas": _listed,
}


def _vp(noise: Noise) -> tuple[float, float]:
    """β_min and β_max − β_min of the VP-SDE."""
    if noise.beta_min is None or noise.beta_max is None:
        raise InputError("noise: kind `vp` needs `beta_min` and `beta_max`. Give both; usual are 0.1 and 20.")
    return noise.beta_min, noise.beta_max - noise.beta_min


def _ramp(noise: Noise, scale: Callable[[float], float] = float) -> tuple[float, ...]:
    """Equally spaced values, one a train index, from `beta_start` to `beta_end`, both included, on a scale."""
    if noise.beta_start is None or noise.beta_end is None:
        raise InputError(f"noise: kind `{noise.kind}` needs `beta_start` and `beta_end`. Give both.")
    start, end, count = scale(noise.beta_start), scale(noise.beta_end), num_train_timesteps(noise)
    return tuple(start + (end - start) * i / max(count - 1, 1) for i in range(count))
