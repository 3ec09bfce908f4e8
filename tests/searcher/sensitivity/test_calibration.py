"""What a calibration takes for noise, and which schedules of a front it keeps."""

import numpy as np
import pytest
from exeunt.searcher.sensitivity.calibration import evenly, noise_in
from exeunt.searcher.sensitivity.paths import Found


@pytest.mark.parametrize(("signal", "least", "most"), [(0.0, 0.5, 0.95), (2.0, 0.0, 0.01)])
def test_noise_is_what_the_number_of_images_explains(signal: float, least: float, most: float) -> None:
    """The mean of 64 images in 4,000 coordinates: nothing but noise, and mostly signal."""
    features = np.random.default_rng(0).normal(signal, 1, (64, 4000))
    vector, noise = features.mean(axis=0), noise_in(lambda rows: rows.mean(axis=0), features)
    left = vector - noise
    assert least <= 1 - (left @ left) / (vector @ vector) <= most
    if signal:
        assert noise.mean() * signal == pytest.approx(1 / 64, rel=0.1)


def test_members_are_even_in_log_cost_with_both_ends() -> None:
    front = [Found(cost, 1 / cost, ()) for cost in range(1, 101)]
    assert [each.cost for each in evenly(front, 5)] == [1, 3, 10, 32, 100]
    assert evenly(front[:3], 5) == front[:3]
