"""Spacings: where the steps stand between noise and data, by name.

Everything is counted in the noise's own times: train indices with betas and on the VP-SDE, σ for EDM, and t from 1 to 0
for flow matching. Any other list of times is given by hand in place of a name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError, nearest
from ..schedule import Noise
from .noise_schedules import BETAS, edm_range, marginal, marginal_at_flow, num_train_timesteps, time_at

# Flow matching is trained on 1,000 times, of which this one is next to the data (as in diffusers).
FLOW_END = 1 / 1000
MOST_STEPS = 10_000  # where time is continuous

INDEXED = (*BETAS, "vp")
ALL = (*INDEXED, "edm", "flow")


@dataclass(frozen=True)
class Stretch:
    """The times that a spacing fills on one noise.

    Attributes:
        noise: the forward process.
        first: the time of the first step, next to pure noise.
        end: the last time at which the network may be evaluated, next to the data.
    """

    noise: Noise
    first: float
    end: float

    @property
    def log_snrs(self) -> tuple[float, float]:
        """ln(α/σ) at both ends. That of flow matching's pure noise is infinite; its last but one time stands in."""
        if self.noise.kind == "flow":
            return marginal_at_flow(1 - FLOW_END).log_snr, marginal_at_flow(self.end).log_snr
        if self.noise.kind == "edm":
            return -math.log(self.first), -math.log(self.end)
        return marginal(self.noise, self.first).log_snr, marginal(self.noise, self.end).log_snr

    def time_at(self, log_snr: float) -> float:
        """The time at which ln(α/σ) has a value."""
        if self.noise.kind == "flow":
            return 1 / (1 + math.exp(log_snr))
        return math.exp(-log_snr) if self.noise.kind == "edm" else time_at(self.noise, log_snr)


def stretch(noise: Noise) -> Stretch:
    """From the last train index to the first, from σ_max to σ_min, or from t = 1 to 1/1000."""
    if noise.kind == "flow":
        return Stretch(noise, 1.0, FLOW_END)
    if noise.kind == "edm":
        low, high = edm_range(noise)
        return Stretch(noise, high, low)
    return Stretch(noise, float(num_train_timesteps(noise) - 1), 0.0)


def most_steps(noise: Noise, *, include_zero: bool) -> int:
    """The most steps that a spacing can have on this noise."""
    if noise.kind in ("edm", "flow"):
        return MOST_STEPS
    return num_train_timesteps(noise) - (0 if include_zero else 1)


def times(
    spacing: str, num_steps: int, noise: Noise, *, include_zero: bool = False, **parameters: float
) -> list[float]:
    """Times of the steps, falling, from the noise's first time towards the data.

    Args:
        spacing: a name in `SPACINGS`.
        num_steps: how many, 1 … `most_steps`.
        noise: the network's noise schedule.
        include_zero: whether the network is evaluated at the spacing's end too (train index 0, σ_min), as DDPM and
            DDIM do by default. Else no step is spent there: the last one goes straight to the data from one spacing
            before it.
        parameters: what the spacing takes, such as `rho`.

    Raises:
        InputError: an unknown name or parameter, another noise, or a number of steps that gives equal times.
    """
    kind = find_spacing(spacing, noise)
    most = most_steps(noise, include_zero=include_zero)
    if not 1 <= num_steps <= most:
        nearest_count = min(max(num_steps, 1), most)
        raise InputError(
            f"num_steps: must be between 1 and {most} on this noise schedule, but got {num_steps}. Use {nearest_count}."
        )
    for name in parameters:
        if name not in kind.parameters:
            takes = ", ".join(kind.parameters) or "no parameters"
            raise InputError(f"spacing: `{spacing}` takes {takes}, but got `{name}`. Omit it.")
    intervals = num_steps - 1 if include_zero else num_steps
    result = kind.times(num_steps, intervals, stretch(noise), **parameters)
    if any(after >= before for before, after in pairwise(result)):
        raise InputError(f"spacing: {num_steps} steps of `{spacing}` give equal times. Use fewer.")
    return result


def _linspace(count: int, intervals: int, over: Stretch) -> list[float]:
    """Equal steps between both ends; train indices are rounded (Lin et al. 2024, table 2)."""
    if over.noise.kind not in INDEXED:
        return _power(count, intervals, over, rho=1.0)
    if not intervals:
        return [over.first]
    return [float(round((intervals - i) * (over.first / intervals))) for i in range(count)]


def _leading(count: int, intervals: int, over: Stretch, offset: float = 0.0) -> list[float]:
    """Multiples of a whole stride, counted from train index 0 (Lin et al. 2024, table 2); the first is below N − 1.

    `offset` is added to each: diffusers' `steps_offset`, which is 1 for Stable Diffusion.
    """
    stride = (int(over.first) + 1) // (intervals + 1)
    result = [float((intervals - i) * stride) + offset for i in range(count)]
    if not 0 <= result[-1] <= result[0] <= over.first:
        raise InputError(f"offset: times must stay between 0 and {over.first:g}, but {offset:g} does not. Use 0 or 1.")
    return result


def _trailing(count: int, intervals: int, over: Stretch) -> list[float]:
    """Equal strides counted down from N, less one (Lin et al. 2024, table 2); the last is above 0."""
    length = over.first + 1
    return [float(round(length - i * (length / count)) - 1) for i in range(count)]


def _power(count: int, intervals: int, over: Stretch, rho: float = 2.0) -> list[float]:
    """end + (first − end) · (1 − i/n)^ρ: uniform at ρ = 1, quadratic at 2, and denser at the data the larger ρ."""
    if not rho > 0:
        raise InputError(f"rho: must be above 0, but got {rho}. Try 1 (uniform in time) to 4.")
    return [over.end + (over.first - over.end) * (1 - i / max(intervals, 1)) ** rho for i in range(count)]


def _log_snr(count: int, intervals: int, over: Stretch) -> list[float]:
    """Equal steps in ln(α/σ) (Lu et al. 2022, DPM-Solver, section 3.4)."""
    first, end = over.log_snrs
    inner = [over.time_at(first + (end - first) * i / intervals) for i in range(1, count)]
    return _exact_ends([over.first, *inner], intervals, over)


def _blend(count: int, intervals: int, over: Stretch, weight: float = 0.5) -> list[float]:
    """(1 − weight) · times uniform in time + weight · times uniform in ln(α/σ), for a search."""
    if not 0 <= weight <= 1:
        rule = "must be between 0 (uniform in time) and 1 (uniform in log-SNR)"
        raise InputError(f"weight: {rule}, but got {weight}. Try 0.5.")
    pairs = zip(_power(count, intervals, over, rho=1.0), _log_snr(count, intervals, over), strict=True)
    return [uniform + weight * (log_snr - uniform) for uniform, log_snr in pairs]


def _karras(count: int, intervals: int, over: Stretch, rho: float = 7.0) -> list[float]:
    """Equal steps in (σ/α)^(1/ρ) (Karras et al. 2022, eq. 5)."""
    if not rho > 0:
        raise InputError(f"rho: must be above 0, but got {rho}. Karras et al. use 7.")
    first, end = (math.exp(-log_snr / rho) for log_snr in over.log_snrs)
    inner = [over.time_at(-rho * math.log(first + (end - first) * i / intervals)) for i in range(1, count)]
    return _exact_ends([over.first, *inner], intervals, over)


def _exact_ends(result: list[float], intervals: int, over: Stretch) -> list[float]:
    """The times, where the last one is the end itself and not what rounding makes of it."""
    return [*result[:-1], over.end] if 0 < intervals < len(result) else result


def _flow(
    count: int, intervals: int, over: Stretch, shift: float = 1.0, start: float = 1.0, end: float | None = None
) -> list[float]:
    """u in equal steps from `start` to `end`, and t = shift · u / (1 + (shift − 1) · u) (Esser et al. 2024, eq. 23).

    `end` is 0 where no step is spent there (FLUX: u = 1 − i/n); where one is, it is 1/1000, itself shifted, as in SD3's
    own code and in diffusers.
    """
    if not shift > 0:
        raise InputError(f"shift: must be above 0, but got {shift}. Use 1 for no shift, or 3 as SD3.")
    spent = intervals < count
    last = end if end is not None else _shifted(over.end, shift) if spent else 0.0
    if not 0 <= last < start <= 1 or (spent and last == 0):
        low = "above 0" if spent else "at least 0"
        raise InputError(f"end: must be {low} and below start, at most 1, but got {last} and {start}. Omit it.")
    shares = [i / max(intervals, 1) for i in range(count)]
    return [_shifted((1 - share) * start + share * last, shift) for share in shares]


def _shifted(u: float, shift: float) -> float:
    """The same as 1 + (shift − 1) · u below the line, but exactly 1 at u = 1."""
    return shift * u / (shift * u + (1 - u))


@dataclass(frozen=True)
class Spacing:
    """A spacing by name.

    Attributes:
        times: (number of steps, intervals to the end, stretch, its parameters) -> the times, falling.
        parameters: the names of what it takes.
        noises: the kinds of noise that it is made for.
    """

    times: Callable[..., list[float]]
    parameters: tuple[str, ...]
    noises: tuple[str, ...]


SPACINGS: dict[str, Spacing] = {
    "linspace": Spacing(_linspace, (), ALL),
    "leading": Spacing(_leading, ("offset",), INDEXED),
    "trailing": Spacing(_trailing, (), INDEXED),
    "quadratic": Spacing(_power, (), ALL),  # ρ = 2: Song et al. 2021, DDIM, appendix D.2
    "power": Spacing(_power, ("rho",), ALL),
    "log-snr": Spacing(_log_snr, (), ALL),
    "blend": Spacing(_blend, ("weight",), ALL),
    "karras": Spacing(_karras, ("rho",), (*INDEXED, "edm")),
    "flow": Spacing(_flow, ("shift", "start", "end"), ("flow",)),
}


def find_spacing(spacing: str, noise: Noise) -> Spacing:
    """The spacing of a name, for a noise. Raises InputError, with the near or the fitting names, if there is none."""
    if spacing not in SPACINGS:
        raise InputError(f"spacing: `{spacing}` is not known. {nearest(spacing, SPACINGS)}")
    if noise.kind not in SPACINGS[spacing].noises:
        fitting = [name for name, kind in SPACINGS.items() if noise.kind in kind.noises]
        raise InputError(f"spacing: `{spacing}` is not for noise `{noise.kind}`. Use one of {', '.join(fitting)}.")
    return SPACINGS[spacing]


def default_spacing(noise: Noise) -> str:
    """The spacing that is customary on a noise: ln(α/σ) in equal steps, Karras's for EDM, `flow` for flow matching."""
    return {"edm": "karras", "flow": "flow"}.get(noise.kind, "log-snr")
