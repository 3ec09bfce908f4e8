"""Statistics of pixels, each against what NumPy says or what a picture made for it must have."""

import numpy as np
import pytest
import torch
from exeunt.backends.quality.guards.pixels import NAMES, are_pictures, image_statistics
from torch import Tensor


def grey(values: np.ndarray) -> Tensor:
    """Images (N, 3, H, W) of grey values (N, H, W)."""
    return torch.from_numpy(values.astype(np.uint8)).unsqueeze(1).repeat(1, 3, 1, 1)


def column(images: Tensor, name: str) -> np.ndarray:
    return image_statistics(images)[:, NAMES.index(name)]


@pytest.fixture(scope="module")
def static() -> Tensor:
    return torch.randint(0, 256, (16, 3, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def ramps() -> Tensor:
    """Smooth pictures of different slopes."""
    row = np.arange(24)
    return grey(np.stack([40 + 4.0 * row + slope * row[:, None] for slope in (0, 1, 2, 3)]))


def test_there_is_one_finite_number_of_each(static: Tensor):
    found = image_statistics(static)
    assert found.shape == (16, len(NAMES))
    assert np.isfinite(found).all()


def test_neighbours_of_static_are_unrelated_and_those_of_a_ramp_alike(static: Tensor, ramps: Tensor):
    assert np.abs(column(static, "neighbour correlation")).max() < 0.2
    assert column(ramps, "neighbour correlation").min() > 1.0


def test_neighbour_correlation_is_numpys(static: Tensor):
    luma = np.tensordot(static.numpy() / 255, [0.299, 0.587, 0.114], axes=(1, 0))
    for image, found in zip(luma, column(static, "neighbour correlation"), strict=True):
        pairs = np.concatenate([np.stack([image[:, 1:].ravel(), image[:, :-1].ravel()], 1),
                                np.stack([image[1:].ravel(), image[:-1].ravel()], 1)])  # fmt: skip
        assert np.tanh(found) == pytest.approx(np.corrcoef(pairs.T)[0, 1], abs=0.03)  # one mean for both of a pair


def test_saturation_counts_values_at_the_ends():
    values = np.full((1, 10, 10), 128)
    values[0, :3] = 255
    values[0, 3:5] = 1
    assert column(grey(values), "saturation")[0] == pytest.approx(0.5)


def test_brightness_and_contrast_are_means_and_deviations(static: Tensor):
    luma = np.tensordot(static.numpy() / 255, [0.299, 0.587, 0.114], axes=(1, 0))
    assert column(static, "brightness") == pytest.approx(luma.mean(axis=(1, 2)), abs=1e-5)
    assert column(static, "contrast") == pytest.approx(luma.std(axis=(1, 2)), abs=1e-5)


def test_grey_has_no_colour_and_a_tint_is_a_cast(ramps: Tensor):
    assert np.abs(column(ramps, "colourfulness")).max() < 1e-6
    tinted = ramps.clone()
    tinted[:, 0] += 51
    assert column(tinted, "red cast") == pytest.approx(0.2, abs=1e-6)
    assert column(tinted, "colourfulness") == pytest.approx(0, abs=1e-6)  # all pixels are tinted alike


def test_blur_takes_fine_detail_first(static: Tensor):
    smooth = torch.nn.functional.avg_pool2d(static.float(), 3, stride=1, padding=1, count_include_pad=False)
    lost = [
        column(static, each) - column(smooth.round().to(torch.uint8), each) for each in ("fine detail", "coarse detail")
    ]
    assert (lost[0] > lost[1]).all()
    assert (lost[1] > -0.1).all()


def test_a_constant_image_has_numbers_too():
    found = image_statistics(grey(np.full((2, 8, 8), 90)))
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(found[1])


def test_few_pixels_are_no_picture():
    assert are_pictures(torch.zeros(1, 3, 8, 8))
    assert not are_pictures(torch.zeros(1, 3, 4, 64))
