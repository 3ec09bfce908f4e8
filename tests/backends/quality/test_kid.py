"""Kernel distances against torch-fidelity's, and their uncertainty against leaving images out for real."""

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.quality import distances, intervals, names
from numpy.typing import NDArray
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric


def draws(count: int, dim: int = 24, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal((count, dim)) + 0.2).astype(np.float32)


@pytest.mark.parametrize("sigma", [None, 3.0, 10.0])
def test_equals_torch_fidelity_on_one_subset_of_everything(sigma: float | None) -> None:
    features, real = draws(120), draws(120, seed=1, scale=1.3)
    expected = kid_features_to_metric(
        *(torch.from_numpy(x.astype(np.float64)) for x in (features, real)),
        kid_subsets=1,
        kid_subset_size=120,
        verbose=False,
        **({"kid_kernel": "rbf", "kid_kernel_rbf_sigma": sigma} if sigma else {}),
    )[KEY_METRIC_KID_MEAN]
    found = distances.kid(features, distances.KernelReference.of(real, sigma)).value
    assert found == pytest.approx(expected * (1000 if sigma else 1), rel=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.3, 1.4)])
def test_a_gaussian_kernel_of_gaussians(shift: float, scale: float) -> None:
    """E exp(−|z|²/2σ²) of z from N(δ, v I) is (1 + v/σ²)^(−D/2) exp(−|δ|²/2(σ² + v))."""
    dim, sigma = 4, 2.0
    given = (scale * np.random.default_rng(0).standard_normal((4000, dim)) + shift).astype(np.float32)
    real = np.random.default_rng(1).standard_normal((4000, dim)).astype(np.float32)

    def mean(v: float, delta: float = 0.0) -> float:
        return (1 + v / sigma**2) ** (-dim / 2) * float(np.exp(-dim * delta**2 / (2 * (sigma**2 + v))))

    expected = 1000 * (mean(2 * scale**2) + mean(2.0) - 2 * mean(1 + scale**2, shift))
    found = distances.kid(given, distances.KernelReference.of(real, sigma))
    assert found.value == pytest.approx(expected, rel=0.1, abs=0.3)


def test_every_extractor_has_a_width() -> None:
    assert names.KERNEL_WIDTHS.keys() == names.EXTRACTORS.keys()


def test_agrees_with_torch_fidelitys_random_subsets() -> None:
    features, real = draws(400), draws(500, seed=1, scale=1.3)
    found = kid_features_to_metric(
        torch.from_numpy(features), torch.from_numpy(real), kid_subsets=50, kid_subset_size=100, verbose=False
    )
    mean, deviation = found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]
    whole = distances.kid(features, distances.KernelReference.of(real)).value
    assert abs(whole - mean) < 3 * deviation / np.sqrt(50)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, real = draws(50), draws(70, seed=1)
    whole = distances.kid(features, distances.KernelReference.of(real)).value
    monkeypatch.setattr(distances, "ROWS_AT_ONCE", 16)
    assert distances.kid(features, distances.KernelReference.of(real)).value == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("sigma", [None, 5.0])
def test_influences_are_those_of_leaving_images_out(sigma: float | None) -> None:
    features, real = draws(30), distances.KernelReference.of(draws(60, seed=1), sigma)
    found = distances.kid(features, real)
    without = np.array([distances.kid(np.delete(features, i, axis=0), real).value for i in range(30)])
    np.testing.assert_allclose(found.influences, 29 * (without.mean() - without), atol=1e-9)


@pytest.mark.parametrize("sigma", [None, 7.0])
@pytest.mark.parametrize("scale", [1.0, 1.05])
def test_unbiased_and_its_standard_error_is_right(scale: float, sigma: float | None) -> None:
    real = distances.KernelReference.of(draws(2000, seed=99), sigma)
    found = [distances.kid(draws(100, seed=seed, scale=scale), real) for seed in range(200)]
    values = np.array([distance.value for distance in found])
    errors = np.sqrt(np.mean([intervals.variance(distance)[0] for distance in found]))
    assert errors / values.std(ddof=1) == pytest.approx(1, abs=0.25)
    larger = np.mean([distances.kid(draws(400, seed=1000 + seed, scale=scale), real).value for seed in range(60)])
    assert abs(values.mean() - larger) < 4 * values.std() / np.sqrt(60)


def test_bad_features_are_refused() -> None:
    real = distances.KernelReference.of(draws(20))
    with pytest.raises(InputError, match="same extractor"):
        distances.kid(draws(20, dim=3), real)
    with pytest.raises(InputError, match="8 images"):
        distances.KernelReference.of(draws(4))
