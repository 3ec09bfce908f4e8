"""Floors: each way to have one, and that it says which."""

import dataclasses

import numpy as np
import pytest
from exeunt.backends.quality import distances, floors
from exeunt.backends.quality.distances import Statistics
from exeunt.backends.quality.references import Reference

DIM = 12


def gaussian(count: int, seed: int) -> np.ndarray:
    scales = np.arange(1, DIM + 1) ** -0.5
    return (np.random.default_rng(seed).standard_normal((count, DIM)) * scales).astype(np.float32)


@pytest.fixture(scope="module")
def held_out() -> Reference:
    statistics = Statistics.of(gaussian(4000, seed=1))
    moments = (4000, statistics.mean, statistics.covariance)
    return Reference("given", "pixels", None, *moments, gaussian(1000, seed=2), held_out=True)


@pytest.fixture(scope="module")
def truth(held_out: Reference) -> tuple[float, float]:
    """The expectation of the distance of 100 fresh real images, and its standard error."""
    values = [distances.frechet_value(gaussian(100, seed=1000 + seed), held_out.root) for seed in range(300)]
    return float(np.mean(values)), float(np.std(values)) / 300**0.5


def test_held_out_features(held_out: Reference, truth: tuple[float, float]) -> None:
    floor = floors.frechet_floor(held_out, 100)
    assert (floor.num_images, floor.num_draws) == (100, 8)
    assert "1000 real images that are not in" in floor.source
    assert abs(floor.value - truth[0]) < 3 * np.hypot(floor.standard_error, truth[1])


def test_features_behind_the_moments_are_taken_out(truth: tuple[float, float]) -> None:
    features = gaussian(4000, seed=1)
    statistics = Statistics.of(features)
    reference = Reference("given", "pixels", None, 4000, statistics.mean, statistics.covariance, features)
    floor = floors.frechet_floor(reference, 100)
    assert "each draw taken out of it" in floor.source
    assert abs(floor.value - truth[0]) < 4 * np.hypot(floor.standard_error, truth[1])


@pytest.mark.parametrize(
    ("changes", "num_images", "why"),
    [
        ({"features": None}, 100, "has no features"),
        ({}, 2000, "features are too few"),
        ({"held_out": False, "count": 1000}, 600, "features are too few"),
    ],
)
def test_gaussian_draws(held_out: Reference, changes: dict[str, object], num_images: int, why: str) -> None:
    floor = floors.frechet_floor(dataclasses.replace(held_out, **changes), num_images)
    assert floor.num_draws == floors.GAUSSIAN_DRAWS
    assert "draws of the Gaussian" in floor.source
    assert why in floor.source


def test_gaussian_draws_are_right_for_a_gaussian(held_out: Reference, truth: tuple[float, float]) -> None:
    floor = floors.frechet_floor(dataclasses.replace(held_out, features=None), 100)
    assert abs(floor.value - truth[0]) < 4 * np.hypot(floor.standard_error, truth[1])


def test_same_seed_same_floor(held_out: Reference) -> None:
    assert floors.frechet_floor(held_out, 50) == floors.frechet_floor(held_out, 50)
    assert floors.frechet_floor(held_out, 50) != floors.frechet_floor(held_out, 50, seed=1)


def test_kernel_floor() -> None:
    floor = floors.kernel_floor(500)
    assert (floor.value, floor.standard_error, floor.num_images) == (0.0, 0.0, 500)
