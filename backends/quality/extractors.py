"""Feature extractors: images become the vectors whose distributions the fidelity metrics compare.

The module behind an extractor, with the packages that it needs, is imported when the extractor is loaded, not before.
"""

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints.weights import weights_sha256
from ..errors import InputError, nearest
from .names import EXTRACTORS

FeatureArray = NDArray[np.float32]


class Extractor(ABC):
    """Turns images into features.

    Every implementation keeps these promises, which one conformance suite checks:

    * The features of an image depend on that image alone: the others in the batch, and their number, move them by at
      most 1e-5 × the largest feature (float32 rounding).
    * `digest` covers all that decides a feature, weights and preprocessing, so it can be part of a key under which
      features are stored. It is the same on every machine.
    * The caller's images, its random state and torch's global settings stay as they were.

    Attributes:
        name: the registered name.
        dim: number of features of an image; None if the image's own shape decides.
        preprocessing: what is done to an image before the network sees it.
        batch_size: images that go through the network at a time.
        digest: SHA-256 of the weights and the preprocessing.
        device: where the network runs.
    """

    name: str
    dim: int | None
    preprocessing: ClassVar[dict[str, Any]]
    batch_size: ClassVar[int] = 128
    digest: str
    device: torch.device

    @abstractmethod
    def __init__(self, *, weights: Path | None, device: torch.device) -> None:
        """Load the weights, from the file if one is given. Raises InputError if they are not available or don't fit."""

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """(N, dim) features of images that `check` let pass, on `self.device`, at most `batch_size` of them."""

    @property
    def kernel_metric(self) -> str:
        """The name of the kernel distance between distributions of these features."""
        return f"kid-{self.name}"

    def __call__(self, images: Tensor) -> FeatureArray:
        """The features of a batch of images.

        Args:
            images: (N, 3, H, W) uint8 RGB, on any device.

        Returns:
            (N, dim) float32 on the CPU.

        Raises:
            InputError: another type or shape.
        """
        self.check(images)
        with torch.inference_mode(), exact_convolutions(self.device):
            parts = [self.extract(part.to(self.device)).float().cpu() for part in torch.split(images, self.batch_size)]
        return torch.cat(parts).numpy()

    def check(self, images: Tensor) -> None:
        """Raises InputError unless `images` is what this extractor takes."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
            raise InputError(
                f"{self.name}: images must be uint8 of shape (N, 3, H, W), but got {images.dtype} of shape "
                f"{tuple(images.shape)}. Decode samples to RGB first."
            )


@contextmanager
def exact_convolutions(device: torch.device) -> Generator[None]:
    """Convolutions in full float32 by a fixed algorithm: TF32, which CUDA uses by default, moves features by 1e-3."""
    if device.type != "cuda":
        yield
        return
    flags = torch.backends.cudnn.flags
    with flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False, fp32_precision="ieee"):
        yield


def load_extractor(name: str, weights: str | Path | None = None, device: str | torch.device = "cpu") -> Extractor:
    """Load an extractor by name.

    Args:
        name: one of `EXTRACTORS` or "module:Class" of an `Extractor`; `NAME=FILE` gives its weights too.
        weights: a local file with the weights, for extractors that take one (`inception`).
        device: where it runs.

    Raises:
        InputError: an unknown name, or weights that are not available or don't fit.
    """
    name, _, file = name.partition("=")
    given = weights if weights is not None else (file or None)
    return resolve_extractor(name)(weights=None if given is None else Path(given), device=torch.device(device))


def resolve_extractor(name: str) -> type[Extractor]:
    """The class behind a registered name or behind "module:Class".

    Raises:
        InputError: the name is unknown, or the class can't be imported or is no `Extractor`.
    """
    registered = EXTRACTORS.get(name)
    module, _, attribute = (f"{__package__}.{registered}" if registered else name).partition(":")
    if not attribute:
        raise InputError(
            f"extractor: must be a known name or module:Class, but got `{name}`. {nearest(name, EXTRACTORS)}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"extractor: `{name}` can't be imported ({error}). Check the name and the Python path."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Extractor)):
        raise InputError(
            f"extractor: `{name}` must be a subclass of exeunt.backends.quality.extractors.Extractor. Derive it."
        )
    return found


def extractor_digest(preprocessing: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """SHA-256 over the preprocessing and the weights."""
    text = json.dumps(preprocessing, sort_keys=True)
    return sha256(f"{text}\0{weights_sha256(weights)}".encode()).hexdigest()


def refuse_weights(name: str, weights: Path | None) -> None:
    """Raises InputError if a file was given to an extractor whose weights are fixed."""
    if weights is not None:
        raise InputError(f"extractor: `{name}` takes no file with weights, but got `{weights}`. Leave it out.")


MOST_VALUES = 4096  # of an image that are features themselves: latents of 4 × 32 × 32


class PixelExtractor(Extractor):
    """The values of an image themselves: uint8 images divided by 255, floating-point samples as they are.

    For networks of few dimensions, whose distance is known exactly: at most 4,096 values an image.
    """

    name = "pixels"
    dim = None
    preprocessing: ClassVar[dict[str, Any]] = {"uint8": "divided by 255", "float": "as it is", "order": "flattened"}

    def __init__(self, *, weights: Path | None, device: torch.device) -> None:
        refuse_weights(self.name, weights)
        self.digest = extractor_digest(self.preprocessing, {})
        self.device = device

    def check(self, images: Tensor) -> None:
        if images.ndim < 2 or not len(images) or not (images.dtype == torch.uint8 or images.is_floating_point()):
            raise InputError(
                f"pixels: samples must be uint8 or floating point of shape (N, …), but got {images.dtype} of shape "
                f"{tuple(images.shape)}. Convert them."
            )
        if (values := images[0].numel()) > MOST_VALUES:
            raise InputError(
                f"pixels: images must have at most {MOST_VALUES:,} values, whose covariance takes their square, but "
                f"these have {values:,} ({' × '.join(map(str, images.shape[1:]))}). Choose a metric of another "
                "extractor, or name a smaller size to resize to."
            )

    def extract(self, images: Tensor) -> Tensor:
        values = images.flatten(1).float()
        return values / 255 if images.dtype == torch.uint8 else values
