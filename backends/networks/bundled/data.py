"""What the bundled checkpoint is trained on: Fashion-MNIST's gzipped IDX files, and batches of their rows."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
NUM_TRAINING_IMAGES = 55_000


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array in a gzipped IDX file: images (N, 28, 28) or labels (N,)."""
    with gzip.open(path) as file:
        content = file.read()
    num_dimensions = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_dimensions, 4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape)


def training_images(data: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) in [-1, 1] and labels (N,) that the networks are trained on."""
    images = torch.from_numpy(read_idx(data / "train-images-idx3-ubyte.gz")[:NUM_TRAINING_IMAGES].copy())
    labels = torch.from_numpy(read_idx(data / "train-labels-idx1-ubyte.gz")[:NUM_TRAINING_IMAGES].astype(np.int64))
    return images[:, None].float() / 127.5 - 1.0, labels


def held_out_images(data: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The 15,000 images (N, 28, 28) that no stage sees."""
    unused = read_idx(data / "train-images-idx3-ubyte.gz")[NUM_TRAINING_IMAGES:]
    return np.concatenate([unused, read_idx(data / "t10k-images-idx3-ubyte.gz")])


def index_batches(count: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Endless batches of row indices, each row once an epoch."""
    while True:
        order = torch.randperm(count, generator=generator, device=device)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]
