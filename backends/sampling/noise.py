"""Random numbers that belong to one image: its first noise, the noise of its steps, and its label.

Image i of seed s draws from a Philox counter generator whose 128-bit key is (s, i) itself (Salmon et al. 2011), so that
no two images share a stream, any batch size and any worker draws the same bits, and so does any processor. (torch's CPU
generator would not do: it keeps 32 bits of its seed, and two of 50,000 images share a noise with probability 0.25.)
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

NOISE, LABEL = 0, 1  # streams of one image: the highest word of the generator's counter


def generator(seed: int, image: int, stream: int = NOISE) -> np.random.Generator:
    """The generator of one image, at the start of one of its streams.

    Args:
        seed: 0 … 2⁶⁴ − 1.
        image: the image's index, 0 … 2⁶⁴ − 1.
        stream: `NOISE` or `LABEL`.

    Raises:
        InputError: the seed or the index is out of range.
    """
    for name, value in (("seed", seed), ("image", image)):
        if not 0 <= value < 2**64:
            raise InputError(f"{name}: must be between 0 and 2^64 - 1, but got {value}.")
    key = np.array([seed, image], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], dtype=np.uint64)))


def noises(seed: int, images: range, shape: Sequence[int], num_draws: int) -> Tensor:
    """(num_draws, N, *shape) standard normal float32 on the CPU: each image's first noise, then those of its steps.

    Entry (d, i) depends on the seed, the image and d alone, not on `num_draws` or on the other images.
    """
    result = torch.empty((num_draws, len(images), *shape))
    view = result.numpy()
    for row, image in enumerate(images):
        view[:, row] = generator(seed, image).standard_normal((num_draws, *shape), dtype=np.float32)
    return result


def initial_noise(seed: int, images: range, shape: Sequence[int]) -> Tensor:
    """(N, *shape) the first noise of each image; see `noises`."""
    return noises(seed, images, shape, 1)[0]
