"""Features of images as they are stored: in half precision, in a file of their own or in their row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from ...backends.errors import ExeuntError
from .base import DamagedArtifact, sha256_of
from .files import Files

STORED = np.dtype("<f2")
FEATURES_SUFFIX = "f16"
_LARGEST = float(np.finfo(np.float16).max)


class UnusableFeatures(ExeuntError):
    """Features that are not finite, or too large to be stored: the images are broken."""

    identifier = "unusable-features"


def packed_features(features: NDArray[np.float32], first_image: int) -> bytes:
    """Features (n, D) of images from `first_image` on, as they are stored.

    Raises:
        UnusableFeatures: one is not finite or beyond 65504.
    """
    assert features.ndim == 2
    assert features.size > 0
    if not np.all(np.abs(features) <= _LARGEST):  # NaN compares false
        last = first_image + len(features) - 1
        raise UnusableFeatures(
            f"features of images {first_image} to {last} must be finite and at most {_LARGEST:g}, but some are not. "
            "The network diverges with this schedule and dtype."
        )
    return np.ascontiguousarray(features, dtype=STORED).tobytes()


def num_bytes(num_images: int, width: int) -> int:
    """How many bytes a chunk's features are."""
    return num_images * width * STORED.itemsize


def chunk_bytes(row: Row[Any] | SimpleNamespace, files: Files) -> bytes:
    """A chunk's features as they were committed, from its row or its file.

    Raises:
        MissingArtifact, DamagedArtifact: they are not available.
    """
    data = bytes(row.features)
    if not data:
        return files.get(str(row.sha256), FEATURES_SUFFIX, num_bytes(row.num_images, row.width))
    if sha256_of(data) != row.sha256:
        raise DamagedArtifact("their row changed. Restore a backup of the database.")
    return data
