"""The toy network "closed-form": the exact prediction for Gaussian data, in residual blocks that can be left early.

Its data is a mixture of Gaussians, so that E[x₀|x], and with it ε and v, are known at every time. Block j adds a share
w_j(t) of the exact prediction, and the shares sum to 1: at full depth the network is exact, and the error of exit depth
d is 1 − W_d(t) of the prediction, W_d being the sum of the first d shares. Early blocks matter most where there is much
noise. With one component sampling is linear, so that a schedule's outcome is known without drawing a sample.
"""

import math
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.weights import weights_sha256
from ..errors import InputError
from ..network import ChainNetwork, Pass, ResidualChain
from ..schedule import NetworkSignature, Noise
from ..solvers.noise_schedules import VP_LENGTH, decay_rate, edm_range, log_alpha_bars, num_train_timesteps
from ..solvers.path import check_prediction
from ..solvers.tables import SIGMA_DATA
from .decoders import grey_to_rgb

Array = NDArray[np.float64]

_LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
NAMED_NOISES = {
    "linear": _LINEAR,
    "cosine": Noise("cosine", num_train_timesteps=1000),
    "vp": Noise("vp", beta_min=0.1, beta_max=20.0),
    "edm": Noise("edm"),
    "flow": Noise("flow"),
}

Levels = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def signal_levels(noise: Noise, device: torch.device | str) -> Levels:
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


SPREAD = 0.4  # means lie within ± this, in a range of −1 … 1
DEVIATIONS = (0.05, 0.3)  # smallest and largest standard deviation of a component, along its principal axes
EXPONENTS = (2.0, 6.0)  # W_d = 1 − (1 − d/num_blocks)^p, with p at the data and at pure noise


@dataclass(frozen=True)
class Mixture:
    """Data of dimension D: equally likely Gaussians that share their covariance.

    Attributes:
        basis: (D, D) orthogonal, the principal axes as columns.
        means: (K, D) in that basis.
        variances: (D,) along the axes.
    """

    basis: Array
    means: Array
    variances: Array

    @classmethod
    def make(cls, components: int, dim: int, seed: int) -> Self:
        """A mixture that depends on its arguments alone."""
        random = np.random.Generator(np.random.Philox(seed))
        basis, triangle = np.linalg.qr(random.standard_normal((dim, dim)))
        basis = basis * np.sign(np.diag(triangle))  # the sign of QR differs between libraries
        means = random.uniform(-SPREAD, SPREAD, (components, dim)) @ basis
        return cls(basis, means, np.geomspace(DEVIATIONS[1], DEVIATIONS[0], dim) ** 2)

    def draw(self, num_images: int, seed: int) -> Array:
        """(num_images, D) samples of the data; image i comes from component i mod K."""
        random = np.random.Generator(np.random.Philox(seed))
        noise = random.standard_normal((num_images, self.variances.size)) * np.sqrt(self.variances)
        return (self.means[np.arange(num_images) % len(self.means)] + noise) @ self.basis.T


class ClosedFormNetwork(ChainNetwork):
    """The exact prediction in residual blocks; see the module's text.

    The hidden state is (N, 2, D): the input along the principal axes, and the prediction so far. A class label names a
    component, and the null label stands for the whole mixture.

    Args:
        mixture: the data.
        num_blocks: how many blocks share the prediction.
        prediction: "epsilon", "v", "sample", "flow" or "edm", as goes with the noise; None: the noise's default.
        noise: a noise schedule, or the name of a usual one: `linear`, `cosine`, `vp`, `edm` or `flow`.
        seconds_per_block: what a block takes for one image in one branch, slept through; 0 for not sleeping.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        num_blocks: int = 8,
        prediction: str | None = None,
        noise: Noise | str = _LINEAR,
        seconds_per_block: float = 0.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        name: str = "closed-form",
    ) -> None:
        if isinstance(noise, str):
            if noise not in NAMED_NOISES:
                raise InputError(f"noise: `{noise}` is not known. Use one of {', '.join(NAMED_NOISES)}.")
            noise = NAMED_NOISES[noise]
        self.mixture, self.noise, self.name = mixture, noise, name
        self.prediction = prediction or {"edm": "edm", "flow": "flow"}.get(noise.kind, "v")
        check_prediction(self.prediction, noise)
        self.seconds_per_block = seconds_per_block
        self._num_components = len(mixture.means)
        self.num_classes, dim = self._num_components, mixture.variances.size
        height = max(side for side in range(1, math.isqrt(dim) + 1) if dim % side == 0)
        self.sample_shape = (1, height, dim // height)
        self.image_shape = (3, height, dim // height)
        self.learned_range = False
        arrays = {"basis": mixture.basis, "means": mixture.means, "variances": mixture.variances}
        tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in arrays.items()}
        kinds = (("residual", num_blocks),)
        self.signature = NetworkSignature("closed-form", "block", kinds, weights_sha256(tensors))
        self._basis, self._means, self._variances = (value.to(device, dtype) for value in tensors.values())
        self._levels = signal_levels(self.noise, device)
        # (K + 1, K): 0 where a label allows a component, else -inf; the null label allows all.
        own = torch.eye(self._num_components, dtype=dtype).log()
        self._log_priors = torch.cat([own, torch.zeros(1, self._num_components, dtype=dtype)]).to(device)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | None,
        *,
        device: torch.device,
        dtype: torch.dtype,
        name: str,
        components: int = 1,
        dim: int = 16,
        num_blocks: int = 8,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """Make the network; there is no file.

        Args:
            components: Gaussians of the mixture, and class labels.
            dim: dimension of the data.
            num_blocks: of the network.
            seed: which mixture.
            options: the constructor's others.

        Raises:
            InputError: a number below 1.
        """
        for label, value in (("components", components), ("dim", dim), ("num_blocks", num_blocks)):
            if value < 1:
                raise InputError(f"{label}: must be at least 1, but got {value}. Use 1.")
        mixture = Mixture.make(components, dim, seed)
        return cls(mixture, num_blocks=num_blocks, device=device, dtype=dtype, name=name, **options)

    @property
    def device(self) -> torch.device:
        return self._means.device

    @property
    def dtype(self) -> torch.dtype:
        return self._means.dtype

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        assert conditions is not None, "a mixture's components are its classes"
        alpha, sigma, weights = self._at(time)
        along = unscaled(self.prediction, x.flatten(1), sigma) @ self._basis  # (N, D)
        priors = self._log_priors[conditions]

        def run_block(index: int, h: Tensor) -> Tensor:
            if self.seconds_per_block:
                clock.sleep(self.seconds_per_block * h.shape[0])
            step = weights[:, index, None] * self._predict(h[:, 0], alpha, sigma, priors)
            return torch.stack([h[:, 0], h[:, 1] + step], dim=1)

        start = torch.stack([along, torch.zeros_like(along)], dim=1)
        return Pass(
            start,
            ResidualChain(self.num_blocks, run_block),
            lambda h: (h[:, 1] @ self._basis.T).reshape(x.shape),
        )

    def _at(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """α (N, 1), σ (N, 1) and the blocks' shares (N, num_blocks) at times (N,)."""
        alpha, sigma, noisiness = (value[:, None] for value in self._levels(time))
        exponent = EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * noisiness
        left = torch.linspace(1, 0, self.num_blocks + 1, dtype=torch.float64, device=self.device) ** exponent
        return alpha.to(self.dtype), sigma.to(self.dtype), -left.diff(dim=1).to(self.dtype)

    def _predict(self, x: Tensor, alpha: Tensor, sigma: Tensor, log_priors: Tensor) -> Tensor:
        """The exact prediction (N, D) for x (N, D), both along the principal axes."""
        precision = 1 / (alpha**2 * self._variances + sigma**2)  # (N, D), of x given its component
        off = x[:, None] - alpha[:, None] * self._means  # (N, K, D)
        posterior = torch.softmax(log_priors - 0.5 * (off.square() * precision[:, None]).sum(dim=2), dim=1)
        mean = posterior @ self._means
        scaled = precision * (x - alpha * mean)
        return predicted(self.prediction, x, mean + alpha * self._variances * scaled, sigma * scaled, alpha, sigma)

    def null_conditions(self, num_images: int) -> Tensor:
        return torch.full((num_images,), len(self._means), dtype=torch.long, device=self.device)

    def decode(self, x: Tensor) -> Tensor:
        """Grey values: −1 is black, 1 is white."""
        return grey_to_rgb(x)

    def flops(self, blocks: Sequence[int]) -> int:
        components, dim = self._means.shape
        return len(blocks) * dim * (6 * components + 12) + 4 * dim * dim

    def decode_flops(self) -> int:
        return 4 * self._means.shape[1]
