"""Random numbers of an image: bit-identical however images are batched, and distinct between images and seeds."""

import math

import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.sampling import conditions
from scipy import stats

pytestmark = pytest.mark.cpu

SHAPE = (2, 3, 5)  # 30 values, no multiple of a vector's width


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_noise_is_bit_identical_for_any_batch_size(batch_size: int) -> None:
    whole = conditions.noises(5, range(100, 110), SHAPE, 4)
    parts = [
        conditions.noises(5, range(first, min(first + batch_size, 110)), SHAPE, 4)
        for first in range(100, 110, batch_size)
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert whole.dtype == torch.float32
    assert whole.shape == (4, 10, *SHAPE)


def test_first_draws_do_not_depend_on_how_many_follow() -> None:
    many = conditions.noises(5, range(4), SHAPE, 9)
    assert torch.equal(conditions.noises(5, range(4), SHAPE, 3), many[:3])
    assert torch.equal(conditions.noises(5, range(4), SHAPE, 1)[0], many[0])


def test_noise_is_pinned() -> None:
    """A study compares images of other days and machines, so that the bits must never change."""
    pinned = [0.059911035001277924, 0.015559634193778038, -1.1644384860992432]
    assert conditions.noises(0, range(1), (3,), 1)[0][0].tolist() == pinned


def test_noise_is_standard_normal_and_independent() -> None:
    values = conditions.noises(7, range(2000), (8,), 1)[0].double()
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3
    correlations = torch.corrcoef(values.T).fill_diagonal_(0)
    assert correlations.abs().max() < 4 / math.sqrt(2000)


def test_seeds_and_images_do_not_meet() -> None:
    """torch's CPU generator keeps 32 bits of its seed; here all 64 of both numbers count."""
    keys = [(seed, image) for seed in (0, 1, 2**32, 2**63) for image in (0, 1, 2**32, 2**63)]
    found = {
        tuple(conditions.noises(seed, range(image, image + 1), (4,), 1)[0].flatten().tolist()) for seed, image in keys
    }
    assert len(found) == len(keys)


def test_labels_have_a_stream_of_their_own() -> None:
    assert (
        conditions.generator(3, 4, conditions.LABEL).random() != conditions.generator(3, 4, conditions.NOISE).random()
    )


@pytest.mark.parametrize(("seed", "image", "name"), [(-1, 0, "seed"), (2**64, 0, "seed"), (0, -1, "image")])
def test_what_is_out_of_range_is_told(seed: int, image: int, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: must be between 0"):
        conditions.generator(seed, image)
