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
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from .descriptions import BINS, LOCAL, Descriptions

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
        self._components = _axes(away * shares, outcomes.components)
        coordinates = away @ self._components.T
        self._scales = np.sqrt(((coordinates * shares) ** 2).mean(axis=0)) + 1e-12
        self._coordinates = coordinates / self._scales
        self._centre = self._components @ outcomes.centre
        self._rest = max(0.0, float(outcomes.centre @ outcomes.centre - self._centre @ self._centre))
        if iterations:
            self._search(iterations)
        self._solve()

    def coordinates(self, points: Descriptions) -> tuple[Array, Array]:
        """(C, R) means and (C, R) variances of the vectors' coordinates along their principal components."""
        kernel = _kernel(points, self._known, self.parameters)
        half = solve_triangular(self._factor, kernel.T, lower=True)
        left = np.maximum(np.exp(self.parameters[_LENGTHS:-1]).sum() - (half**2).sum(axis=0), 1e-10)
        return kernel @ self._weights * self._scales + self._centre, left[:, None] * self._scales**2

    def left_out(self) -> tuple[Array, Array]:
        """The same for each measured point as the others predict it, its error included."""
        half = solve_triangular(self._factor, np.eye(len(self._factor)), lower=True)
        variances = 1 / (half**2).sum(axis=0)[:, None]
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
        pairs = _Pairs(self._known)

        def loss(parameters: Array) -> tuple[float, Array]:
            return pairs.loss(parameters, self._coordinates, self._noise)

        found = minimize(
            loss, self.parameters, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options={"maxiter": iterations}
        )
        self.parameters = found.x

    def _solve(self) -> None:
        matrix = _kernel(self._known, self._known, self.parameters)
        matrix[np.diag_indices_from(matrix)] += self._noise * np.exp(self.parameters[-1]) + 1e-9
        self._factor = np.linalg.cholesky(matrix)
        self._weights = cho_solve((self._factor, True), self._coordinates)


class _Pairs:
    """The measured points two by two, for the kernel's likelihood and its gradient.

    Args:
        known: N measured points, with M = N (N - 1) / 2 pairs.
    """

    def __init__(self, known: Descriptions) -> None:
        self._num_points, self._pairs = len(known), np.triu_indices(len(known), 1)
        upper = (np.s_[:], *self._pairs)
        by_bin = known.local.transpose(1, 0, 2)
        local = [_squares(by_bin[..., a:b], by_bin[..., a:b])[upper] for a, b in LOCAL]
        self._local = np.stack(local).reshape(len(LOCAL), -1)  # (F, BINS * M)
        self._whole = _squares(known.whole[None], known.whole[None])[upper][0]  # (M,)

    def loss(self, parameters: Array, targets: Array, noise: Array) -> tuple[float, Array]:
        """The negative logarithm of the posterior of parameters, but for a constant, and its gradient.

        Args:
            targets: (N, R) the coordinates to explain.
            noise: (N,) relative variances of their errors.
        """
        rates, amplitudes = np.exp(2 * parameters[:_LENGTHS]), np.exp(parameters[_LENGTHS:-1])
        each = np.exp(-0.5 * (rates[:-1] @ self._local)).reshape(BINS, -1)
        of_whole = np.exp(-0.5 * self._whole * rates[-1])
        alike = each.mean(axis=0) * of_whole
        powers = np.stack([alike**power for power in _POWERS])
        matrix = np.zeros((self._num_points, self._num_points))
        matrix[self._pairs] = amplitudes @ powers
        matrix += matrix.T
        matrix[np.diag_indices_from(matrix)] = amplitudes.sum() + noise * np.exp(parameters[-1]) + 1e-9
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(parameters)
        weights = cho_solve((factor, True), targets)
        away = (parameters - _START) / _PRIOR
        count = targets.shape[1]
        total = 0.5 * (targets * weights).sum() + count * np.log(factor.diagonal()).sum() + 0.5 * away @ away
        slope = 0.5 * (count * cho_solve((factor, True), np.eye(self._num_points)) - weights @ weights.T)
        by_pair = 2 * slope[self._pairs]
        by_alike = by_pair * ((amplitudes * _POWERS) @ powers / np.maximum(alike, 1e-300))
        gradient = away / _PRIOR
        gradient[: _LENGTHS - 1] -= rates[:-1] / BINS * (self._local @ (by_alike * of_whole * each).ravel())
        gradient[_LENGTHS - 1] -= rates[-1] * (by_alike * alike) @ self._whole
        gradient[_LENGTHS:-1] += amplitudes * (powers @ by_pair + np.trace(slope))
        gradient[-1] += np.exp(parameters[-1]) * slope.diagonal() @ noise
        return float(total), gradient


def _kernel(points: Descriptions, others: Descriptions, parameters: Array) -> Array:
    """(C, N) the kernel of points (C) and others (N)."""
    scales, amplitudes = np.exp(parameters[:_LENGTHS]), np.exp(parameters[_LENGTHS:-1])
    of_column = np.repeat(scales[:-1], [b - a for a, b in LOCAL])
    apart = _squares(*(each.local.transpose(1, 0, 2) * of_column for each in (points, others)))
    alike = np.exp(-0.5 * apart).mean(axis=0)
    alike *= np.exp(-0.5 * _squares(points.whole[None] * scales[-1], others.whole[None] * scales[-1])[0])
    found = np.zeros_like(alike)
    for amplitude, power in zip(amplitudes, _POWERS, strict=True):
        found += amplitude * alike**power
    return found


def _squares(points: Array, others: Array) -> Array:
    """(B, C, N) squared distances of points (B, C, F) from others (B, N, F)."""
    found = -2 * points @ others.transpose(0, 2, 1)
    found += (points**2).sum(-1)[:, :, None]
    found += (others**2).sum(-1)[:, None, :]
    return np.maximum(found, 0.0, out=found)


def _axes(vectors: Array, count: int) -> Array:
    """(count, D) or fewer: the directions in which vectors (N, D) have the largest squares; 0 beyond their rank."""
    sides = np.linalg.eigh(vectors @ vectors.T)[1][:, ::-1][:, :count]
    found = sides.T @ vectors
    sizes = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, sizes, out=np.zeros_like(found), where=sizes > 1e-7 * sizes.max())
