"""The times that a network is trained at, and what each of them means: signal, noise, target and weight."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...errors import InputError, nearest
from ...network import Network
from ...schedule import Noise
from ...solvers.noise_schedules import Marginal, marginal, marginal_at_flow, num_train_timesteps
from .names import WEIGHTINGS

FLOW_TIMES = 1000  # as many as SD3 and FLUX are trained on
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023, arXiv 2303.09556


def marginals(noise: Noise) -> list[Marginal]:
    """One for each time of training, from the data to the noise.

    Raises:
        InputError: a forward process without train indices.
    """
    if noise.kind == "edm":
        raise InputError(
            "finetune: networks of EDM's process can't be fine-tuned here, only those with train indices or of flow "
            "matching. Fine-tune it with its own program, and give the result to `exeunt optimize`."
        )
    if noise.kind == "flow":
        return [marginal_at_flow((index + 1) / FLOW_TIMES) for index in range(FLOW_TIMES)]
    return [marginal(noise, float(index)) for index in range(num_train_timesteps(noise))]


@dataclass(frozen=True)
class Process:
    """Tables over the T times of training, from the data to the noise, (T,) each.

    Attributes:
        prediction: what the network's output means.
        time: what the network receives.
        alpha, sigma: a sample is alpha · x₀ + sigma · noise.
        weight: of the squared error of the network's output.
    """

    prediction: str
    time: Tensor
    alpha: Tensor
    sigma: Tensor
    weight: Tensor

    @classmethod
    def of(cls, network: Network, weighting: str = "constant", device: torch.device | str = "cpu") -> Self:
        """The process that a network was trained on.

        Args:
            weighting: λ(t), one of `WEIGHTINGS`. "min-snr" bounds the weight of the error of the data that the output
                stands for; the others are the squared error of the output itself, alike at all times as in ASE's code,
                or growing linearly from ½ to 1½ towards one end.

        Raises:
            InputError: an unknown weighting, or a process without train indices.
        """
        return cls.from_noise(network.noise, network.prediction, weighting, device)

    @classmethod
    def from_noise(cls, noise: Noise, prediction: str, weighting: str, device: torch.device | str = "cpu") -> Self:
        """The same of a noise schedule and a prediction."""
        found = marginals(noise)
        alpha, sigma = (
            torch.tensor([getattr(each, name) for each in found], dtype=torch.float64) for name in ("alpha", "sigma")
        )
        first = 1.0 if noise.kind == "flow" else 0.0
        time = torch.arange(len(found), dtype=torch.float64) + first
        weight = _weights(weighting, prediction, alpha, sigma)
        return cls(prediction, *(each.float().to(device) for each in (time, alpha, sigma, weight)))

    def __len__(self) -> int:
        return len(self.time)

    def noisy(self, data: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """(N, …) samples at times (N,), indices of the tables."""
        return _rows(self.alpha[index], data) * data + _rows(self.sigma[index], data) * noise

    def target(self, data: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """(N, …) what the network should say of such samples.

        For v it is α·ε − σ·x₀ (Salimans & Ho 2022), for flow matching ε − x₀.
        """
        match self.prediction:
            case "epsilon":
                return noise
            case "v":
                return _rows(self.alpha[index], data) * noise - _rows(self.sigma[index], data) * data
            case "sample":
                return data
            case _:
                return noise - data


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _weights(weighting: str, prediction: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """(T,) weights of the squared error of what the network predicts."""
    if weighting not in WEIGHTINGS:
        raise InputError(f"weighting: `{weighting}` is not known. {nearest(weighting, WEIGHTINGS)}")
    if weighting != "min-snr":
        slope = {"constant": 0.0, "towards-data": -1.0, "towards-noise": 1.0}[weighting]
        return 1 + slope * torch.linspace(-0.5, 0.5, len(alpha), dtype=torch.float64)
    bounded = (alpha / sigma.clamp(min=1e-12)).square().clamp(max=MIN_SNR_GAMMA)
    # The error of the data is that of the output times σ²/α² (epsilon), 1 (sample), σ² (v; flow, where α = 1 − σ).
    share = {"epsilon": (sigma / alpha.clamp(min=1e-12)).square(), "sample": torch.ones_like(sigma)}
    return bounded * share.get(prediction, sigma.square())
