"""The floor of a distance: what it is between real images and real images at the same count.

A distance of few images is mostly the price of being few, so the loss of a schedule is what it has beyond the floor.
"""

from collections.abc import Sequence

import numpy as np

from .distances import ReferenceRoot, Statistics, frechet, frechet_value
from .intervals import Distance, FloatArray, Floor, mean_of
from .references import Reference
from .sliced import SlicedReference, mind

MAX_DRAWS = 8
GAUSSIAN_DRAWS = 16
REST = 8  # times as many real images are what a draw is compared with, at most

KERNEL_SOURCE = "0: the kernel distance is unbiased"


def frechet_floor(reference: Reference, num_images: int, seed: int = 0) -> Floor:
    """The Fréchet distance of `num_images` real images from the reference.

    Where the reference has features of images that its mean and covariance don't know, disjoint draws of these are
    measured. Where its features are the ones behind mean and covariance, each draw is taken out of them first, so
    that both sides stay disjoint; that needs twice as many as are drawn. Otherwise the images are draws of the Gaussian
    with the reference's mean and covariance, and the floor is too low by as much as real features are not Gaussian
    (a quarter for 500 pictures of clothes under EfficientNet-Lite0). The floor's `source` says which it was.
    """
    features, count = reference.features, reference.count
    if features is None:
        return _of_gaussian(reference, num_images, seed, "the reference has no features")
    if reference.held_out and len(features) >= num_images:
        distances = [frechet(part, reference.root) for part in _draws(features, num_images, seed)]
        return _of_draws(distances, f"{len(features)} real images that are not in the reference's mean and covariance")
    if not reference.held_out and count is not None and count >= 2 * num_images and len(features) >= num_images:
        distances = [_apart(reference, part, count) for part in _draws(features, num_images, seed)]
        return _of_draws(distances, f"the reference's {len(features)} real images, each draw taken out of it")
    return _of_gaussian(reference, num_images, seed, f"its {len(features)} features are too few")


def kernel_floor(num_images: int) -> Floor:
    """The kernel distance of real images from the reference: 0 at every count, since the estimator is unbiased."""
    return Floor(0.0, 0.0, num_images, 0, KERNEL_SOURCE)


def sliced_floor(features: np.ndarray, num_images: int, seed: int = 0) -> Floor:
    """The sliced Wasserstein distance of `num_images` real images from a reference of features (m, D).

    Disjoint draws are measured against others of these images. The distance of a and b draws of one distribution goes
    as 1/a + 1/b, which takes it to `num_images` and m; where m is below twice `num_images`, draws are of m/2.
    """
    count = len(features)
    size = min(num_images, count // 2)
    order = np.random.default_rng(seed).permutation(count)
    distances: list[Distance] = []
    for start in range(0, min(MAX_DRAWS, count // size) * size, size):
        turned = np.roll(order, -start)
        rest = SlicedReference.of(features[turned[size : (1 + REST) * size]])
        distances.append(mind(features[turned[:size]], rest))
    value, error = mean_of(distances)
    scale = (1 / num_images + 1 / count) / (1 / size + 1 / min(REST * size, count - size))
    source = f"the reference's {count} real images, draws of {size} against others of them"
    return Floor(scale * value, scale * error, num_images, len(distances), source)


def _draws(features: FloatArray | np.ndarray, num_images: int, seed: int) -> Sequence[np.ndarray]:
    """Disjoint sets of `num_images` features, at most `MAX_DRAWS`."""
    order = np.random.default_rng(seed).permutation(len(features))
    number = min(MAX_DRAWS, len(features) // num_images)
    return [features[order[start * num_images : (start + 1) * num_images]] for start in range(number)]


def _apart(reference: Reference, part: np.ndarray, count: int) -> Distance:
    """The distance of a part of the reference's images from the rest."""
    rest = Statistics(count, reference.mean, reference.covariance).without(Statistics.of(part))
    return frechet(part, ReferenceRoot.of(rest.mean, rest.covariance))


def _of_draws(distances: Sequence[Distance], source: str) -> Floor:
    value, error = mean_of(distances)
    return Floor(value, error, distances[0].num_images, len(distances), source)


def _of_gaussian(reference: Reference, num_images: int, seed: int, why: str) -> Floor:
    """From draws in the eigenbasis of the covariance, where coordinates are independent."""
    scales = np.linalg.norm(reference.root.factor, axis=0)
    root = ReferenceRoot(np.zeros(len(scales)), np.diag(scales), reference.root.trace)
    generator = np.random.default_rng(seed)
    draws = (generator.standard_normal((num_images, len(scales))) * scales for _ in range(GAUSSIAN_DRAWS))
    values = np.array([frechet_value(draw, root) for draw in draws])
    source = f"draws of the Gaussian with the reference's mean and covariance ({why})"
    error = float(values.std(ddof=1)) / GAUSSIAN_DRAWS**0.5
    return Floor(float(values.mean()), error, num_images, GAUSSIAN_DRAWS, source)
