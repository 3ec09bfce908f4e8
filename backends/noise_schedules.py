"""Noise schedules: how much signal and noise a sample has at a time, and how steps are spaced between noise and data.

A sample at time t is x = α(t) · x₀ + σ(t) · ε. Everything is worked out in float64 with Python's own arithmetic.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import accumulate, pairwise

from .errors import InputError
from .schedule import Noise

# The VP-SDE has no train indices. It is counted on 1,000 of them all the same: index i is its time (i + 1) / 1000,
# and is what its networks receive (Lu et al. 2022, DPM-Solver, appendix D.2).
VP_LENGTH = 1000


@dataclass(frozen=True)
class Marginal:
    """The distribution of a noisy sample given the data, at one time: N(alpha · x₀, sigma²).

    Attributes:
        alpha: scale of the signal, above 0.
        sigma: scale of the noise, at least 0.
        log_snr: ln(alpha / sigma), half the log signal-to-noise ratio; infinite where sigma is 0.
    """

    alpha: float
    sigma: float
    log_snr: float


CLEAN = Marginal(1.0, 0.0, math.inf)


def marginal_at_sigma(sigma: float) -> Marginal:
    """The variance-preserving marginal whose σ/α is `sigma`, above 0."""
    alpha = 1 / math.hypot(1.0, sigma)
    return Marginal(alpha, sigma * alpha, -math.log(sigma))


def marginal(noise: Noise, time: float) -> Marginal:
    """α, σ and ln(α/σ) at a train index, which may lie between two; log ᾱ is linear there.

    Raises:
        InputError: the time is outside 0 … num_train_timesteps − 1, or the noise schedule is not known.
    """
    return _from_log_alpha_bar(log_alpha_bar(noise, time))


def log_alpha_bar(noise: Noise, time: float) -> float:
    """ln ᾱ = 2 ln α at a time, at most 0. Raises InputError as `marginal` does."""
    last = num_train_timesteps(noise) - 1
    if not 0 <= time <= last:
        raise InputError(f"time: must be between 0 and {last}, but got {time}.")
    if noise.kind == "vp":
        beta_min, slope = _vp(noise)
        u = (time + 1) / VP_LENGTH
        return -u * (beta_min + 0.5 * slope * u)  # Song et al. 2021, eq. 33
    table = log_alpha_bars(noise)
    low = min(int(time), last - 1) if last else 0
    weight = time - low
    return table[low] if weight == 0 else (1 - weight) * table[low] + weight * table[low + 1]


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
    """How many train indices a noise schedule has. Raises InputError if it has none."""
    length = VP_LENGTH if noise.kind == "vp" else noise.num_timesteps
    if length is None:
        raise InputError(f"noise: `{noise.kind}` has no train indices. Known: {', '.join([*BETAS, 'vp'])}.")
    return length


@lru_cache(maxsize=32)
def log_alpha_bars(noise: Noise) -> tuple[float, ...]:
    """ln ᾱ at every train index, falling. Raises InputError if the kind has no betas."""
    return tuple(accumulate(math.log1p(-beta) for beta in betas(noise)))


def betas(noise: Noise) -> tuple[float, ...]:
    """β at every train index: the variance that one step of the forward process adds.

    Raises:
        InputError: the kind of noise is not one of `BETAS`.
    """
    if noise.kind not in BETAS:
        raise InputError(f"noise: `{noise.kind}` has no betas. Known: {', '.join(BETAS)}.")
    return BETAS[noise.kind](noise)


def _linear(noise: Noise) -> tuple[float, ...]:
    start, end = _ends(noise)
    return _ramp(start, end, num_train_timesteps(noise))


def _scaled_linear(noise: Noise) -> tuple[float, ...]:
    start, end = _ends(noise)
    return tuple(root * root for root in _ramp(math.sqrt(start), math.sqrt(end), num_train_timesteps(noise)))


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
    "linear": _linear,
    "scaled-linear": _scaled_linear,
    "cosine": _cosine,
    "betas": _listed,
}


def _ends(noise: Noise) -> tuple[float, float]:
    if noise.beta_start is None or noise.beta_end is None:
        raise InputError(f"noise: kind `{noise.kind}` needs `beta_start` and `beta_end`. Give both.")
    return noise.beta_start, noise.beta_end


def _vp(noise: Noise) -> tuple[float, float]:
    """β_min and β_max − β_min of the VP-SDE."""
    if noise.beta_min is None or noise.beta_max is None:
        raise InputError("noise: kind `vp` needs `beta_min` and `beta_max`. Give both; usual are 0.1 and 20.")
    return noise.beta_min, noise.beta_max - noise.beta_min


def _ramp(start: float, end: float, count: int) -> tuple[float, ...]:
    """`count` equally spaced values from start to end, both included."""
    if count == 1:
        return (start,)
    return tuple(start + (end - start) * i / (count - 1) for i in range(count))


def _from_log_alpha_bar(value: float) -> Marginal:
    variance = -math.expm1(value)
    if variance <= 0:
        return CLEAN
    return Marginal(math.exp(0.5 * value), math.sqrt(variance), 0.5 * (value - math.log(variance)))


def times(
    spacing: str, num_steps: int, noise: Noise, *, include_zero: bool = False, **parameters: float
) -> list[float]:
    """Times of the steps, falling, from the last train index towards the data.

    Args:
        spacing: a name in `SPACINGS`.
        num_steps: how many, 1 … num_train_timesteps.
        noise: the network's noise schedule.
        include_zero: whether the network is evaluated at the spacing's end, train index 0, too, as DDPM and DDIM do by
            custom. Else no step is spent there: the last one goes straight to the data from one spacing before it.
        parameters: what the spacing takes, such as `rho`.

    Raises:
        InputError: an unknown name or parameter, or a number of steps that gives equal times.
    """
    if spacing not in SPACINGS:
        near = get_close_matches(spacing, SPACINGS, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(SPACINGS)}."
        raise InputError(f"spacing: `{spacing}` is not known. {hint}")
    most = num_train_timesteps(noise) - (0 if include_zero else 1)
    if not 1 <= num_steps <= most:
        raise InputError(f"num_steps: must be between 1 and {most} on this noise schedule, but got {num_steps}.")
    function, names = SPACINGS[spacing]
    for name in parameters:
        if name not in names:
            raise InputError(f"spacing: `{spacing}` takes {', '.join(names) or 'no parameters'}, but got `{name}`.")
    result = function(num_steps, num_steps - 1 if include_zero else num_steps, noise, **parameters)
    if any(after >= before for before, after in pairwise(result)):
        raise InputError(f"spacing: {num_steps} steps of `{spacing}` give equal times. Take fewer.")
    return result


def _linspace(count: int, intervals: int, noise: Noise) -> list[float]:
    """Equal steps between train indices N − 1 and 0, rounded (Lin et al. 2024, table 2)."""
    last = num_train_timesteps(noise) - 1
    if not intervals:
        return [float(last)]
    return [float(round((intervals - i) * (last / intervals))) for i in range(count)]


def _leading(count: int, intervals: int, noise: Noise) -> list[float]:
    """Multiples of a whole stride, counted from train index 0 (Lin et al. 2024, table 2); the first is below N − 1."""
    stride = num_train_timesteps(noise) // (intervals + 1)
    return [float((intervals - i) * stride) for i in range(count)]


def _trailing(count: int, intervals: int, noise: Noise) -> list[float]:
    """Equal strides counted down from N, less one (Lin et al. 2024, table 2); the last is above 0."""
    length = num_train_timesteps(noise)
    return [float(round(length - i * (length / count)) - 1) for i in range(count)]


def _quadratic(count: int, intervals: int, noise: Noise) -> list[float]:
    """Times that grow with the square of the step (Song et al. 2021, DDIM, appendix D.2)."""
    return _power(count, intervals, noise, rho=2.0)


def _power(count: int, intervals: int, noise: Noise, rho: float = 2.0) -> list[float]:
    """(N − 1) · (1 − i/n)^ρ: uniform in time at ρ = 1, quadratic at 2, and the denser towards the data the larger ρ."""
    if not rho > 0:
        raise InputError(f"rho: must be above 0, but got {rho}. Try 1 (uniform in time) to 4.")
    last = num_train_timesteps(noise) - 1
    return [last * (1 - i / max(intervals, 1)) ** rho for i in range(count)]


def _log_snr(count: int, intervals: int, noise: Noise) -> list[float]:
    """Equal steps in ln(α/σ) (Lu et al. 2022, DPM-Solver, section 3.4)."""
    last = float(num_train_timesteps(noise) - 1)
    first, end = marginal(noise, last).log_snr, marginal(noise, 0.0).log_snr
    return [last, *(time_at(noise, first + (end - first) * i / intervals) for i in range(1, count))]


def _blend(count: int, intervals: int, noise: Noise, weight: float = 0.5) -> list[float]:
    """(1 − weight) · times uniform in time + weight · times uniform in ln(α/σ), for a search."""
    if not 0 <= weight <= 1:
        raise InputError(f"weight: must be between 0 (uniform in time) and 1 (uniform in log-SNR), but got {weight}.")
    pairs = zip(_power(count, intervals, noise, rho=1.0), _log_snr(count, intervals, noise), strict=True)
    return [uniform + weight * (log_snr - uniform) for uniform, log_snr in pairs]


def _karras(count: int, intervals: int, noise: Noise, rho: float = 7.0) -> list[float]:
    """Equal steps in (σ/α)^(1/ρ) (Karras et al. 2022, eq. 5)."""
    if not rho > 0:
        raise InputError(f"rho: must be above 0, but got {rho}. Karras et al. use 7.")
    last = float(num_train_timesteps(noise) - 1)
    first, end = (math.exp(-marginal(noise, time).log_snr / rho) for time in (last, 0.0))
    return [last, *(time_at(noise, -rho * math.log(first + (end - first) * i / intervals)) for i in range(1, count))]


# Each spacing takes (number of steps, intervals to the end, noise schedule, its parameters).
SPACINGS: dict[str, tuple[Callable[..., list[float]], tuple[str, ...]]] = {
    "linspace": (_linspace, ()),
    "leading": (_leading, ()),
    "trailing": (_trailing, ()),
    "quadratic": (_quadratic, ()),
    "power": (_power, ("rho",)),
    "log-snr": (_log_snr, ()),
    "blend": (_blend, ("weight",)),
    "karras": (_karras, ("rho",)),
}
