"""What the closed-form network knows of noise: how much there is at each of its times, and what it predicts from it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .errors import InputError
from .noise_schedules import VP_LENGTH, decay_rate, edm_range, log_alpha_bars, num_train_timesteps
from .schedule import Noise
from .solver_rows import check_prediction
from .solvers import SIGMA_DATA

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
NOISES = {
    "linear": LINEAR,
    "cosine": Noise("cosine", num_train_timesteps=1000),
    "vp": Noise("vp", beta_min=0.1, beta_max=20.0),
    "edm": Noise("edm"),
    "flow": Noise("flow"),
}

Levels = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def noise_of(name: Noise | str) -> Noise:
    """A noise, by its name in `NOISES` or itself. Raises InputError, with the names, if there is none."""
    if isinstance(name, Noise):
        return name
    if name not in NOISES:
        raise InputError(f"noise: `{name}` is not known. Use one of {', '.join(NOISES)}.")
    return NOISES[name]


def prediction_on(noise: Noise, prediction: str | None) -> str:
    """The prediction, or the custom one. Raises InputError if the noise does not go with it."""
    chosen = prediction or {"edm": "edm", "flow": "flow"}.get(noise.kind, "v")
    check_prediction(chosen, noise)
    return chosen


def levels(noise: Noise, device: torch.device | str) -> Levels:
    """Network times (N,) -> α, σ and the noisiness, (N,) each in float64; noisiness is 0 at the data, 1 at noise."""
    if noise.kind == "edm":
        low, high = (math.log(sigma) for sigma in edm_range(noise))
        return lambda time: (
            torch.ones_like(time, dtype=torch.float64),
            (4 * time.double()).exp(),
            ((4 * time.double() - low) / (high - low)).clamp(0, 1),
        )
    if noise.kind == "flow":
        return lambda time: (1 - time.double() / 1000, time.double() / 1000, time.double() / 1000)
    logs, last = _log_alpha_bars(noise, device), num_train_timesteps(noise) - 1

    def at(time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value = logs(time.double())
        return value.mul(0.5).exp(), value.expm1().neg().sqrt(), time.double() / last

    return at


def _log_alpha_bars(noise: Noise, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """Train indices (N,), with fractions -> ln ᾱ (N,), both in float64."""
    if noise.kind == "vp":
        rates = [decay_rate(noise, time) for time in (-1.0, VP_LENGTH - 1.0)]  # at both ends; between them linear
        slope = (rates[1] - rates[0]) / VP_LENGTH
        return lambda time: -(time + 1) * (rates[0] + 0.5 * slope * (time + 1))
    table = torch.tensor(log_alpha_bars(noise), dtype=torch.float64).to(device)
    last = table.shape[0] - 1

    def interpolated(time: Tensor) -> Tensor:
        low = time.long().clamp_(0, max(last - 1, 0))
        return torch.lerp(table[low], table[(low + 1).clamp_(max=last)], time - low)

    return interpolated


def unscaled(prediction: str, x: Tensor, sigma: Tensor) -> Tensor:
    """The sample from what the network receives: EDM's is scaled by 1/√(σ² + σ_data²) (Karras et al. 2022, table 1)."""
    return x * (sigma**2 + SIGMA_DATA**2) ** 0.5 if prediction == "edm" else x


def predicted(prediction: str, x: Tensor, data: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network that is exact says of x = α · data + σ · ε."""
    if prediction == "edm":
        total = sigma**2 + SIGMA_DATA**2
        return (data - x * SIGMA_DATA**2 / total) / (sigma * SIGMA_DATA) * total**0.5
    if prediction == "v":
        return alpha * epsilon - sigma * data
    return {"epsilon": epsilon, "sample": data, "flow": epsilon - data}[prediction]
