"""What solver tables are made of: the path that they follow, and what a network's output means along it.

With F the network's guided output, every solver is a case of
    m = model_x · x + model_f · F
    x ← a · x + Σⱼ bⱼ · m₍ₙₑwₑₛₜ ₋ ⱼ₎ + c · ξ
with x = α · x₀ + σ · ε throughout. m is the predicted data x₀, the predicted noise ε, or the velocity ε − x₀ of flow
matching.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from ..schedule import Coefficients, Noise, Sampler
from .noise_schedules import BETAS, Marginal

History = Literal["x0", "epsilon", "velocity"]

VARIANCE_PRESERVING = (*BETAS, "vp")
# What networks predict on each kind of noise. v is α · ε − σ · x₀ with α² + σ² = 1.
PREDICTION_CONVERSIONS = {
    **dict.fromkeys(VARIANCE_PRESERVING, ("epsilon", "v", "sample", "edm")),
    "edm": ("edm", "epsilon", "sample"),
    "flow": ("flow", "sample"),
}
# UniPC and DPM-Solver++ need a finite ln(α/σ) at pure noise of flow matching. diffusers steps back by 1e-6, and this is
# what float32 makes of it.
FLOW_START = 17 * 2.0**-24


@dataclass(frozen=True)
class Path:
    """What a table is worked out from.

    Attributes:
        sampler: solver, prediction and noise.
        times: (S,) the time of each evaluation, as the schedule's steps have it.
        points: (S + 1,) the marginal there, and last the one where the last step goes.
    """

    sampler: Sampler
    times: tuple[float, ...]
    points: tuple[Marginal, ...]

    @property
    def num_steps(self) -> int:
        """Evaluations of the network."""
        return len(self.points) - 1


def row(path: Path, s: int, history: History, a: float, b: tuple[float, ...], c: float = 0.0) -> Coefficients:
    """The row of step s, for a solver that keeps this history."""
    input_scale, model_x, model_f = conversion(history, path.sampler, path.points[s])
    return Coefficients(input_scale=input_scale, model_x=model_x, model_f=model_f, a=a, b=b, c=c)


def straight(history: History, now: Marginal, after: Marginal) -> tuple[float, float]:
    """(p, q) such that x ← p · x + q · m goes from one marginal to the next while m stays as it is.

    It is exact where m does not change: DDIM's step (Song et al. 2021, eq. 12), and Euler's step in σ/α or in the time
    of flow matching.
    """
    if history == "x0":
        p = after.sigma / now.sigma
        return p, after.alpha - now.alpha * p
    if history == "epsilon":
        p = after.alpha / now.alpha
        return p, after.sigma - now.sigma * p
    return 1.0, after.sigma - now.sigma


def conversion(history: History, sampler: Sampler, point: Marginal) -> tuple[float, float, float]:
    """(input_scale, model_x, model_f) for a prediction at a point.

    Raises:
        InputError: the network predicts what has no meaning on this noise.
    """
    check_prediction(sampler.prediction, sampler.noise)
    if sampler.prediction == "edm":
        return _edm(history, sampler, point)
    return 1.0, *_CONVERSIONS[history][sampler.prediction](point.alpha, point.sigma)


def check_prediction(prediction: str, noise: Noise) -> None:
    """Raise InputError unless a network on this noise can predict this."""
    known = PREDICTION_CONVERSIONS[noise.kind]
    if prediction not in known:
        raise InputError(
            f"prediction: must be one of {', '.join(known)} on noise `{noise.kind}`, but got `{prediction}`. "
            "Use one of these, or give coefficients."
        )


def _edm(history: History, sampler: Sampler, point: Marginal) -> tuple[float, float, float]:
    """EDM's preconditioning (Karras et al. 2022, table 1), for x that is scaled by α."""
    assert sampler.sigma_data is not None, "validation lets no prediction `edm` go without"
    sigma, data = point.sigma / point.alpha, sampler.sigma_data
    total = math.hypot(sigma, data)
    skip, out = (data / total) ** 2, sigma * data / total
    if history == "x0":
        return 1 / (total * point.alpha), skip / point.alpha, out
    return 1 / (total * point.alpha), (sigma / total) ** 2 / point.sigma, -out / sigma


# (α, σ) -> (model_x, model_f) for each history and prediction. From x = α · x₀ + σ · ε and, for v, Salimans & Ho 2022,
# appendix D; for flow, α + σ = 1 and the prediction is ε − x₀.
_CONVERSIONS: Mapping[History, Mapping[str, Callable[[float, float], tuple[float, float]]]] = {
    "x0": {
        "epsilon": lambda alpha, sigma: (1 / alpha, -sigma / alpha),
        "v": lambda alpha, sigma: (alpha, -sigma),
        "sample": lambda alpha, sigma: (0.0, 1.0),
        "flow": lambda alpha, sigma: (1.0, -sigma),
    },
    "epsilon": {
        "epsilon": lambda alpha, sigma: (0.0, 1.0),
        "v": lambda alpha, sigma: (sigma, alpha),
        "sample": lambda alpha, sigma: (1 / sigma, -alpha / sigma),
        "flow": lambda alpha, sigma: (1.0, alpha),
    },
    "velocity": {
        "sample": lambda alpha, sigma: (1 / sigma, -1 / sigma),
        "flow": lambda alpha, sigma: (0.0, 1.0),
    },
}
