"""Times in another unit than the base's: train indices, σ/α and flow's times of one noise level are converted into each
other. A list that is read in the wrong unit samples noise.

Standard library only.
"""

import math
from collections.abc import Sequence

from ..schedule import Sampler, Schedule
from ..solvers.noise_schedules import EDM_RANGE, edm_range, marginal_at, time_at
from .parsing import refuse

WORDS = {
    "train-index": "train indices",
    "sigma": "σ (noise over signal)",
    "flow": "flow's times from 1 to 0",
}
FLOW_INDICES = 1000  # flow's times as networks and pipelines count them
LEAST_FLOW_INDEX = 200  # what a list over σ hardly begins with where flow is meant


def check_unit(times: Sequence[float], base: Schedule, name: str) -> None:
    """Refuse a list that can't be in the unit of `base`, with the same noise levels in that unit.

    Sampling begins with noise. A list whose first time is hardly noisy, or beyond all noise, is in another unit.

    Raises:
        InputError: it is.
    """
    sampler = base.sampler
    unit = _other_unit(times[0], sampler, _ratio(sampler, sampler.time, base.steps[0].time))
    if unit is None:
        return
    if unit == "train-index" and sampler.noise.kind == "edm":
        most = f"{_most_noise(sampler):g}"
        refuse(
            name, f"times must be σ of at most {most}, since --base has no train indices", f"{times[0]:g}", "Give σ."
        )
    kept = [time for time in times if time > 0 or unit == "train-index"]
    made = list(dict.fromkeys(f"{_converted(sampler, unit, time):.6g}" for time in kept))
    rule = f"times must be {WORDS[sampler.time]}, as those of --base, and begin with noise"
    got = f"{times[0]:g} first, so that they look like {WORDS[unit]}"
    refuse(name, rule, got, f"In the unit of --base they are {','.join(made)}: give those in place of the file.")


def _other_unit(first: float, sampler: Sampler, base_ratio: float) -> str | None:
    """The unit that a list with this first time is in; None where it may be the sampler's."""
    if sampler.time == "flow":
        return None if first <= 1 else "train-index" if first >= LEAST_FLOW_INDEX else "sigma"
    if sampler.time == "sigma":
        return "train-index" if first > 2 * _most_noise(sampler) else None
    if not 0 <= first <= _last(sampler) or _ratio(sampler, sampler.time, first) > min(1, base_ratio / 2):
        return None
    return "flow" if first <= 1 else "sigma"


def _last(sampler: Sampler) -> int:
    return (sampler.noise.num_timesteps or 1) - 1


def _most_noise(sampler: Sampler) -> float:
    """The σ/α of what a network was trained on, as far as its noise says."""
    noise = sampler.noise
    if noise.num_timesteps:
        return _ratio(sampler, "train-index", _last(sampler))
    return edm_range(noise)[1] if noise.kind == "edm" else EDM_RANGE[1]


def _ratio(sampler: Sampler, unit: str, time: float) -> float:
    """σ/α at a time."""
    if unit == "train-index" and sampler.noise.kind == "flow":
        unit, time = "flow", time / FLOW_INDICES
    log_snr = marginal_at(sampler.noise, unit, time).log_snr
    return math.exp(-log_snr) if log_snr > -700 else math.inf


def _converted(sampler: Sampler, unit: str, time: float) -> float:
    """A time of another unit in the sampler's."""
    ratio = _ratio(sampler, unit, time)
    if sampler.time == "flow":
        return 1.0 if math.isinf(ratio) else ratio / (1 + ratio)
    if sampler.time == "sigma":
        return min(ratio, _most_noise(sampler))
    return time_at(sampler.noise, -math.log(ratio) if ratio < math.inf else -math.inf)
