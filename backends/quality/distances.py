"""The Fréchet and the kernel distance between features of images and a reference, in float64 and NumPy alone.

The Fréchet distance of features X from a Gaussian is

    d²(X, N(μ₂, Σ₂)) = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₂^½ Σ₁ Σ₂^½)^½            (Dowson & Landau 1982)

With L Lᵀ = Σ₂ worked out once, Y = (X − μ₁) L and A = YᵀY, the last trace is ‖Y‖_* ÷ √(n − 1), the sum of Y's singular
values. They are the roots of the eigenvalues of YYᵀ (n × n) or YᵀY (D × D), whichever is smaller.

The distance without image i follows exactly from the same decomposition: A loses α yᵢyᵢᵀ with α = n/(n − 1), and since
√λ = (1/2π) ∫ log(1 + λ/t) t^(−½) dt over t > 0, the nuclear norm loses

    (1/2π) ∫ −log(1 − α yᵢᵀ(t + A)⁻¹yᵢ) t^(−½) dt,

an integral that the trapezoidal rule in log t gives to 0.4 % with 40 nodes; so do two images at once, with a 2 × 2
determinant.

The kernel distance (KID) is the squared maximum mean discrepancy under the cubic kernel (Bińkowski et al. 2018, eq. 4).
The estimator here uses every pair of images once and is unbiased, so that its expectation does not depend on the
count and its floor is 0. torch-fidelity averages the same unbiased estimator over 100 random subsets of 1,000: its
expectation is the same, its value differs by the luck of the subsets.

Under a Gaussian kernel of width σ, 1,000 exp(−|x − y|²/2σ²), it is the discrepancy of CMMD (Jayasumana et al. 2024), on
any extractor's features; that paper's code takes the biased estimator of CLIP's features, with σ = 10.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import log, pi, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .intervals import NUM_PAIR_ROWS, Distance, FloatArray

MIN_IMAGES = 8


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (D,) and covariance (D, D), divisor count − 1, of `count` features. A single feature has covariance 0."""

    count: int
    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, features: NDArray[Any]) -> Self:
        """The statistics of features (n, D), n ≥ 1."""
        values = features.astype(np.float64)
        mean = values.mean(axis=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred / max(len(values) - 1, 1))

    @classmethod
    def of_chunks(cls, chunks: Iterable[NDArray[Any]]) -> Self:
        """The statistics of features that come in chunks (n_k, D); at least one."""
        return reduce(cls.merge, (cls.of(chunk) for chunk in chunks))

    def merge(self, other: Self) -> Self:
        """The statistics of both sets of features (Chan, Golub & LeVeque 1983, eq. 2.1)."""
        count = self.count + other.count
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        scatter = self._scatter + other._scatter + np.outer(step, step) * (self.count * other.count / count)
        return type(self)(count, mean, scatter / max(count - 1, 1))

    def without(self, part: Self) -> Self:
        """The statistics of what is left when a part of the features is taken away: the inverse of `merge`."""
        count = self.count - part.count
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        step = part.mean - mean
        scatter = self._scatter - part._scatter - np.outer(step, step) * (count * part.count / self.count)
        return type(self)(count, mean, scatter / max(count - 1, 1))

    @property
    def _scatter(self) -> FloatArray:
        return self.covariance * max(self.count - 1, 1)


@dataclass(frozen=True, eq=False)
class ReferenceRoot:
    """A reference distribution made ready for many distances.

    Attributes:
        mean: (D,).
        factor: (D, r) with factor · factorᵀ = covariance; r is the covariance's rank.
        trace: of the covariance.
    """

    mean: FloatArray
    factor: FloatArray
    trace: float

    @classmethod
    def of(cls, mean: FloatArray, covariance: FloatArray) -> Self:
        """From mean (D,) and covariance (D, D): one symmetric eigenvalue problem, 0.2 s at D = 1280 on two cores."""
        values, vectors = np.linalg.eigh(covariance)
        kept = values > values[-1] * len(values) * np.finfo(np.float64).eps  # none where the covariance is 0
        return cls(mean, vectors[:, kept] * np.sqrt(values[kept]), float(np.trace(covariance)))


def frechet_value(features: NDArray[Any], root: ReferenceRoot) -> float:
    """The Fréchet distance of features (n, D) without its uncertainty: half the time of `frechet`.

    Raises:
        InputError: fewer than 8 images, another number of features than the reference's, or values that are not finite.
    """
    centred, step = _centre(features, root)
    return _value(step, _energy(centred), float(_roots(np.linalg.eigvalsh(_gram(centred @ root.factor))).sum()), root)


def frechet(features: NDArray[Any], root: ReferenceRoot) -> Distance:
    """The Fréchet distance of features (n, D), with each image's influence on it.

    Raises:
        InputError: fewer than 8 images, another number of features than the reference's, or values that are not finite.
    """
    centred, step = _centre(features, root)
    energy, along, n = _energy(centred), centred @ step, len(centred)
    projected = centred @ root.factor  # Y, (n, r)
    spectrum = Spectrum.of(projected)
    value = _value(step, energy, spectrum.norm, root)
    norms = spectrum.norm - spectrum.drops(_energy(projected))  # (n,) nuclear norms without image i
    shift = float(step @ step) - 2 * along / (n - 1) + energy / (n - 1) ** 2
    traces = (energy.sum() - energy * n / (n - 1)) / (n - 2)
    left_out = shift + traces + root.trace - 2 * norms / sqrt(n - 2)
    together = spectrum.joint_drops(NUM_PAIR_ROWS)
    products = centred[: len(together)] @ centred.T
    pairs = 2 * together / sqrt(n - 3) - 2 * products / ((n - 2) ** 2 * (n - 3))
    return Distance.from_left_out(value, left_out, pairs)


# Directions of the reference in which a Fréchet distance has a vector: those that vary most. On few images the others
# hold noise above all.
VECTOR_AXES = 32


def frechet_vector(features: NDArray[Any], root: ReferenceRoot) -> FloatArray:
    """A vector whose squared length is the Fréchet distance in the directions in which the reference varies most.

    It is the displacement of the optimal transport from the reference to features (n, D), both taken for normal
    (Peyré & Cuturi 2019, section 8.2): the step of the mean, and (T − I) Σ₂^½ where T is the transport's matrix
    Σ₂^(−½) (Σ₂^½ Σ₁ Σ₂^½)^½ Σ₂^(−½). Unlike the distance it changes almost linearly with what a schedule does.

    Raises InputError: as `frechet` does.
    """
    centred, step = _centre(features, root)
    factor = root.factor[:, -VECTOR_AXES:]
    scales = np.sqrt((factor**2).sum(axis=0))  # (k,) deviations of the reference
    axes = factor / scales
    projected = centred @ axes * scales
    values, vectors = np.linalg.eigh(projected.T @ projected / (len(centred) - 1))
    square_root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return np.append(step @ axes, (square_root / scales[:, None] - np.diag(scales)).ravel())


VECTOR_IMAGES = 64  # a paired distance has a vector of as many images at most


def paired_vector(features: NDArray[Any], baseline: NDArray[Any]) -> FloatArray:
    """A vector whose squared length is near the paired distance of the first images.

    It holds each image's difference, projected to a few numbers.

    The projection is the same for all features (n, D) of one D (Johnson & Lindenstrauss 1984).
    """
    dim, count = features.shape[1], min(len(features), VECTOR_IMAGES)
    few = min(dim, 16)
    projection = np.random.Generator(np.random.Philox(dim)).standard_normal((dim, few)) / sqrt(few)
    away = features[:count].astype(np.float64) - baseline[:count].astype(np.float64)
    return (away @ projection / sqrt(count)).ravel()


def paired_distance(features: NDArray[Any], baseline: NDArray[Any]) -> Distance:
    """The mean over images of |f_i − b_i|², f_i and b_i the features (n, D) of two images from the same noise."""
    check_features(features, baseline.shape[1])
    assert features.shape == baseline.shape, "image i of both must be from the same noise"
    return Distance.of_mean(((features.astype(np.float64) - baseline) ** 2).sum(axis=1))


def check_features(features: NDArray[Any], dim: int) -> None:
    """Raises InputError unless features are (n, dim) of at least 8 images and finite."""
    if features.ndim != 2 or features.shape[1] != dim:
        raise InputError(
            f"features: each image must have {dim}, as in the reference, but their shape is {features.shape}. "
            "Give a reference that was made with the same extractor."
        )
    if len(features) < MIN_IMAGES:
        raise InputError(
            f"features: a distance needs {MIN_IMAGES} images or more, but got {len(features)}. Sample more."
        )
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        raise InputError(
            f"features: must be finite, but those of {bad} of {len(features)} images are not. Look at the images."
        )


def _centre(features: NDArray[Any], root: ReferenceRoot) -> tuple[FloatArray, FloatArray]:
    """Features minus their mean, (n, D), and their mean minus the reference's, (D,)."""
    check_features(features, len(root.mean))
    values = features.astype(np.float64)
    mean = values.mean(axis=0)
    return values - mean, mean - root.mean


def _energy(rows: FloatArray) -> FloatArray:
    """The squared length of each row."""
    return np.einsum("ij,ij->i", rows, rows)


def _gram(rows: FloatArray) -> FloatArray:
    """The smaller of the two Gram matrices, which have the same eigenvalues but for zeros."""
    return rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows


def _roots(eigenvalues: NDArray[Any]) -> FloatArray:
    return np.sqrt(eigenvalues.clip(min=0))


def _value(step: FloatArray, energy: FloatArray, norm: float, root: ReferenceRoot) -> float:
    n = len(energy)
    return float(step @ step) + float(energy.sum()) / (n - 1) + root.trace - 2 * norm / sqrt(n - 1)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular value decomposition of centred rows Y, as far as leaving rows out needs it.

    Attributes:
        values: (k,) eigenvalues of YᵀY, ascending, without those that are 0 to rounding.
        vectors: (n, k) left singular vectors.
        norm: the nuclear norm of Y.
    """

    values: FloatArray
    vectors: FloatArray
    norm: float

    @classmethod
    def of(cls, rows: FloatArray) -> Self:
        """The spectrum of Y (n, r)."""
        values, vectors = np.linalg.eigh(_gram(rows))
        norm = float(_roots(values).sum())
        if len(rows) <= rows.shape[1]:
            kept = values > 1e-12 * values.max(initial=0.0)
            return cls(values[kept], vectors[:, kept], norm)
        # The left vectors come by a division that blows rounding up by max ÷ value, so smaller values count as 0.
        kept = values > 1e-9 * values.max(initial=0.0)
        return cls(values[kept], rows @ (vectors[:, kept] / np.sqrt(values[kept])), norm)

    def _nodes(self, count: int, below: float, above: float) -> tuple[FloatArray, FloatArray]:
        """t from e^−below to e^above × the largest eigenvalue, and the weights of (1/2π) ∫ … t^(−½) dt."""
        logs = np.linspace(log(self.values[-1]) - below, log(self.values[-1]) + above, count)
        return np.exp(logs), np.exp(logs / 2) * (logs[1] - logs[0]) / (2 * pi)

    def _resolvent(self, t: FloatArray) -> FloatArray:
        """R_ii(t) = Σ_k U_ik² t/(λ_k + t), (n, len(t)), over all directions but the mean's, those of λ = 0 too."""
        squares = self.vectors**2
        missing = (1 - 1 / len(squares) - squares.sum(axis=1)).clip(min=1e-15)
        return squares @ (t / (self.values[:, None] + t)) + missing[:, None]

    def drops(self, energy: FloatArray) -> FloatArray:
        """By how much the nuclear norm falls when row i, of squared length energy[i], is left out; (n,).

        1 − α yᵢᵀ(t + A)⁻¹yᵢ = α R_ii(t). It goes as 1 − α|yᵢ|²/t for large t, so log(1 + α|yᵢ|²/t), whose integral is
        known, is added to make the integrand fall off fast.
        """
        if not len(self.values):
            return np.zeros(len(energy))
        n = len(energy)
        t, weights = self._nodes(40, 20, 15)
        bound = energy * n / (n - 1)
        integrand = np.log(self._resolvent(t) * n / (n - 1)) + np.log1p(bound[:, None] / t)
        return np.sqrt(bound) - integrand @ weights

    def joint_drops(self, count: int) -> FloatArray:
        """What leaving out rows i < count and j together takes from the norm beyond both alone, (min(count, n), n).

        In terms of the same resolvent the 2 × 2 determinant is a constant × (R_ii R_jj − R_ij²). Entries (i, i) are 0.
        """
        n = len(self.vectors)
        rows = min(count, n)
        total = np.zeros((rows, n))
        if not len(self.values):
            return total
        t, weights = self._nodes(24, 12, 6)
        vectors, values = self.vectors.astype(np.float32), self.values.astype(np.float32)
        diagonal = self._resolvent(t).astype(np.float32)
        kernel = np.eye(rows, n) - 1 / n - self.vectors[:rows] @ self.vectors.T  # the directions of eigenvalue 0
        own = np.arange(rows)
        for node in range(len(t)):
            shrink = np.float32(t[node]) / (values + np.float32(t[node]))
            resolvent = (vectors[:rows] * shrink) @ vectors.T + kernel.astype(np.float32)
            square = resolvent**2 / (diagonal[:rows, node, None] * diagonal[None, :, node])
            square[own, own] = 0.0
            total -= np.log1p(-square.clip(max=1 - 1e-6)) * weights[node]
        return total


ROWS_AT_ONCE = 2048


GAUSSIAN_SCALE = 1000.0


@dataclass(frozen=True, eq=False)
class KernelReference:
    """Reference features (m, D), and the mean of the kernel over their pairs, worked out once.

    The kernel is Gaussian, of width `sigma`, or cubic if that is None.
    """

    features: FloatArray
    within: float
    sigma: float | None = None

    @classmethod
    def of(cls, features: NDArray[Any], sigma: float | None = None) -> Self:
        """From features (m, D), m ≥ 8."""
        check_features(features, features.shape[1])
        values = features.astype(np.float64)
        m = len(values)
        return cls(values, float(_sums_within(values, sigma).sum()) / (m * (m - 1)), sigma)


def kernel(x: FloatArray, y: FloatArray, sigma: float | None = None) -> FloatArray:
    """k(x, y) of rows (n, D) and (m, D), (n, m): (x·y/D + 1)³, or 1,000 exp(−|x − y|²/2σ²) with a width."""
    if sigma is None:
        return (x @ y.T / x.shape[1] + 1) ** 3
    squares = _energy(x)[:, None] + _energy(y) - 2 * x @ y.T
    return GAUSSIAN_SCALE * np.exp(-squares / (2 * sigma**2))


def _sums(x: FloatArray, y: FloatArray, sigma: float | None) -> FloatArray:
    """Σ_j k(x_i, y_j), (n,)."""
    starts = range(0, len(x), ROWS_AT_ONCE)
    return np.concatenate([kernel(x[start : start + ROWS_AT_ONCE], y, sigma).sum(axis=1) for start in starts])


def _sums_within(x: FloatArray, sigma: float | None) -> FloatArray:
    """Σ_j k(x_i, x_j) without j = i, (n,)."""
    own = (_energy(x) / x.shape[1] + 1) ** 3 if sigma is None else GAUSSIAN_SCALE
    return _sums(x, x, sigma) - own


def kid(features: NDArray[Any], reference: KernelReference) -> Distance:
    """The unbiased squared discrepancy between features (n, D) and a reference under its kernel, with influences.

    Raises:
        InputError: fewer than 8 images, another number of features than the reference's, or values that are not finite.
    """
    check_features(features, reference.features.shape[1])
    values, n, m = features.astype(np.float64), len(features), len(reference.features)
    inner = _sums_within(values, reference.sigma)
    outer = _sums(values, reference.features, reference.sigma)
    value = inner.sum() / (n * (n - 1)) - 2 * outer.sum() / (n * m) + reference.within
    left_out = (inner.sum() - 2 * inner) / ((n - 1) * (n - 2)) - 2 * (outer.sum() - outer) / ((n - 1) * m)
    pairs = 2 * kernel(values[:NUM_PAIR_ROWS], values, reference.sigma) / ((n - 2) * (n - 3))
    return Distance.from_left_out(float(value), left_out + reference.within, pairs)
