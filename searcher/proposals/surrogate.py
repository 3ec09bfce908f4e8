"""Gaussian processes over what images show, from which quality follows.

A distance is a poor thing to learn from: it is one number, it spans orders of magnitude, and errors of two steps may
cancel. What it is a distance of is a vector that changes almost linearly: the statistics of the images. So each
schedule's statistics are embedded as a vector whose squared length is the distance (see
`backends/quality/distances.py`), Gaussian processes that share one kernel predict the vector, and the distance's mean
and spread follow from it (composite Bayesian optimization, Astudillo & Frazier 2019). Where there is no such vector,
one process predicts the logarithm of the value.

The kernel compares two schedules bin by bin along the way from noise to data and takes the mean S over bins; S, S² and
S⁸ stand for effects of single bins, of pairs, and of whole schedules.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from .descriptions import LOCAL, Descriptions

Array = NDArray[np.float64]

# Logarithms of: inverse length scales of LOCAL and of the levers, amplitudes of the powers of S, the noise's variance.
_POWERS = (1, 2, 8)
_LENGTHS = len(LOCAL) + 1
_START = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, -1.0, -1.0, -8.0])
_PRIOR = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 4.0])  # standard deviations around the start
_BOUNDS = [(-3.0, 4.0)] * _LENGTHS + [(-6.0, 4.0)] * len(_POWERS) + [(-14.0, 0.0)]

# Of long vectors, in parts of a good one's. Without a bound what was bad is forgotten, and proposed again and again.
MOST_NOISE = 5.0


@dataclass(frozen=True)
class Outcomes:
    """What the processes predict.

    Attributes:
        vectors: (N, D) of what was measured.
        centre: (D,) where a process is drawn to where nothing is known.
        noise: (N,) relative variances of the vectors' errors.
        components: how many principal components are predicted.
    """

    vectors: Array
    centre: Array
    noise: Array
    components: int

    @classmethod
    def around_mean(cls, vectors: Array) -> Self:
        """All count alike: best while little is known, and where qualities are of one size."""
        return cls(vectors, vectors.mean(axis=0), np.ones(len(vectors)), 8)

    @classmethod
    def around_zero(cls, vectors: Array) -> Self:
        """Long vectors count less: best where qualities span orders of magnitude, of which the good ones matter."""
        sizes = (vectors**2).sum(axis=1)
        noise = np.clip(sizes / max(float(np.quantile(sizes, 0.25)), 1e-300), 0.05, MOST_NOISE)
        return cls(vectors, np.zeros(vectors.shape[1]), noise, 4)


class Surrogate:
    """Predicts vectors of schedules from those that were measured.

    Attributes:
        parameters: of the kernel; a start for the next fit.
    """

    def __init__(self, known: Descriptions, outcomes: Outcomes, parameters: Array | None, iterations: int) -> None:
        """Finds the kernel's parameters, from a start and in so many iterations; in none it takes the start."""
        self._known, self._noise = known, outcomes.noise
        self.parameters = _START if parameters is None else parameters
        shares = 1 / np.sqrt(np.maximum(outcomes.noise, 1.0))[:, None]
        away = outcomes.vectors - outcomes.centre
        _, _, axes = np.linalg.svd(away * shares, full_matrices=False)
        self._components = axes[: outcomes.components]
        coordinates = away @ self._components.T
        self._scales = np.sqrt(((coordinates * shares) ** 2).mean(axis=0)) + 1e-12
        self._coordinates = coordinates / self._scales
        self._centre = self._components @ outcomes.centre
        self._rest = max(0.0, float(outcomes.centre @ outcomes.centre - self._centre @ self._centre))
        self._distances = _distances(known, known)
        if iterations:
            self._search(iterations)
        self._solve()

    def coordinates(self, points: Descriptions) -> tuple[Array, Array]:
        """(C, R) means and (C, R) variances of the vectors' coordinates along their principal components."""
        kernel = _kernel(_distances(points, self._known), torch.from_numpy(self.parameters)).numpy()
        half = torch.linalg.solve_triangular(self._factor, torch.from_numpy(kernel.T.copy()), upper=False).numpy()
        left = np.maximum(np.exp(self.parameters[_LENGTHS:-1]).sum() - (half**2).sum(axis=0), 1e-10)
        return kernel @ self._weights * self._scales + self._centre, left[:, None] * self._scales**2

    def left_out(self) -> tuple[Array, Array]:
        """The same for each measured point as the others predict it, its error included."""
        precision = torch.cholesky_inverse(self._factor).numpy()
        variances = 1 / np.diag(precision)[:, None]
        means = self._coordinates - self._weights * variances
        return means * self._scales + self._centre, variances * self._scales**2

    def squared_lengths(self, means: Array, variances: Array) -> tuple[Array, Array]:
        """(C,) means and (C,) variances of squared lengths, from those of the coordinates."""
        return (
            self._rest + (means**2 + variances).sum(axis=1),
            (4 * means**2 * variances + 2 * variances**2).sum(axis=1),
        )

    def single(self, means: Array, variances: Array) -> tuple[Array, Array]:
        """(C,) means and (C,) deviations of vectors of one number."""
        return means[:, 0] * self._components[0, 0], np.sqrt(variances[:, 0])

    def _search(self, iterations: int) -> None:
        targets = torch.from_numpy(self._coordinates)
        noise = torch.from_numpy(self._noise)

        def loss(parameters: Array) -> tuple[float, Array]:
            free = torch.from_numpy(parameters).requires_grad_()
            with torch.enable_grad():
                matrix = _kernel(self._distances, free) + torch.diag(noise * free[-1].exp() + 1e-9)
                factor, failed = torch.linalg.cholesky_ex(matrix)
                if failed:
                    return 1e10, np.zeros_like(parameters)
                fit = 0.5 * (targets * torch.cholesky_solve(targets, factor)).sum()
                size = targets.shape[1] * factor.diagonal().log().sum()
                away = (((free - torch.from_numpy(_START)) / torch.from_numpy(_PRIOR)) ** 2).sum()
                total = fit + size + 0.5 * away
                total.backward()
            assert free.grad is not None
            return float(total.detach()), free.grad.numpy()

        found = minimize(
            loss, self.parameters, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options={"maxiter": iterations}
        )
        self.parameters = found.x

    def _solve(self) -> None:
        noise = torch.from_numpy(self._noise * np.exp(self.parameters[-1]) + 1e-9)
        matrix = _kernel(self._distances, torch.from_numpy(self.parameters)) + torch.diag(noise)
        self._factor = torch.linalg.cholesky(matrix)
        self._weights = torch.cholesky_solve(torch.from_numpy(self._coordinates), self._factor).numpy()


def _distances(points: Descriptions, others: Descriptions) -> list[Tensor]:
    """Squared differences: (C, N, BINS) for each of LOCAL, and (C, N) for the levers."""
    found = [_squares(points.local[..., a:b], others.local[..., a:b]) for a, b in LOCAL]
    whole = _squares(points.whole[:, None], others.whole[:, None])[..., 0]
    return [torch.from_numpy(each) for each in (*found, whole)]


def _squares(points: Array, others: Array) -> Array:
    """(C, N, B) squared distances of points (C, B, F) from others (N, B, F)."""
    a, b = points.transpose(1, 0, 2), others.transpose(1, 0, 2)
    found = (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None, :] - 2 * a @ b.transpose(0, 2, 1)
    return np.maximum(found.transpose(1, 2, 0), 0.0)


def _kernel(distances: list[Tensor], parameters: Tensor) -> Tensor:
    rates = (2 * parameters[:_LENGTHS]).exp()
    *local, whole = distances
    apart = torch.stack([each * rate for each, rate in zip(local, rates[:-1], strict=True)]).sum(dim=0)
    alike = torch.exp(-0.5 * apart).mean(dim=-1) * torch.exp(-0.5 * whole * rates[-1])
    amplitudes = parameters[_LENGTHS:-1].exp()
    return torch.stack([amplitude * alike**power for amplitude, power in zip(amplitudes, _POWERS, strict=True)]).sum(0)
