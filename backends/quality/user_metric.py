"""A metric of the user's own: a function from images, and what they were asked to show, to scores or features.

    def sharpness(images):          # (N, 3, H, W) uint8, on the study's device
        return ...                  # (N,) one score an image, or (N, D) features
    sharpness.higher_is_better = True

A function that has a parameter `prompts` or `labels` gets a list of those too, one an image. Scores are kept as
features are, in two half-precision columns, the second of which is what the first one lost.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..user_code import own_function, own_source
from .extractors import Extractor, FeatureArray, exact_convolutions

SHOWN = ("prompts", "labels")
# What a score loses in half precision is kept beside it, this many times as large.
REST = 2048.0

Shown = Mapping[str, Sequence[str] | Sequence[int]]


class OwnMetric:
    """A user's function, called as its parameters say and held to its shapes.

    Attributes:
        name: as it was given, "FILE.py:function" or "module:function".
        higher_is_better: which direction is good, as the function says itself; None if it doesn't.
        digest: SHA-256 of the function's source file, its name and its `version`, if it has one.
    """

    def __init__(self, name: str, device: torch.device | str) -> None:
        """Import the function. Raises InputError if there is none, or nothing tells its versions apart."""
        self.name, self.device = name, torch.device(device)
        self._function: Callable[..., Any] = own_function(name, "metric")
        self.higher_is_better = getattr(self._function, "higher_is_better", None)
        if not isinstance(self.higher_is_better, bool | None):
            value = repr(self.higher_is_better)
            raise InputError(
                f"metric: `higher_is_better` of `{name}` must be True or False, but is {value}. Set one of these."
            )
        self.digest = _digest(name, getattr(self._function, "version", None))
        self.takes = _takes(self._function)

    def probe(self, image_size: tuple[int, int], conditions: Literal["none", "labels", "prompts"]) -> bool:
        """Whether it gives scores rather than features, from two images of noise.

        Raises:
            InputError: it asks for what this network's images do not have, or its answer has another shape.
        """
        for wanted in self.takes:
            if wanted != conditions:
                raise InputError(
                    f"metric: `{self.name}` asks for {wanted}, but this network takes {conditions}. "
                    f"Remove the parameter `{wanted}`."
                )
        noise = torch.randint(0, 256, (2, 3, *image_size), generator=torch.Generator().manual_seed(0))
        return self._call(noise.to(torch.uint8), {"prompts": ["a photograph"] * 2, "labels": [0, 0]}).ndim == 1

    def scores(self, images: Tensor, shown: Shown) -> FeatureArray:
        """(N, 2) what keeps one score an image; see `unpack_scores`."""
        values = self._call(images, shown)
        if values.ndim != 1:
            raise self._wrong(values.shape, len(images), "of the same shape as before, (N,)")
        return pack_scores(values)

    def features(self, images: Tensor) -> FeatureArray:
        """(N, D) features."""
        values = self._call(images, {})
        if values.ndim != 2:
            raise self._wrong(values.shape, len(images), "of the same shape as before, (N, D)")
        return values.astype(np.float32)

    def _call(self, images: Tensor, shown: Shown) -> NDArray[np.float64]:
        given = {key: list(shown[key]) for key in self.takes}
        try:
            with torch.inference_mode(), exact_convolutions(self.device):
                found = self._function(images.to(self.device), **given)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"metric: `{self.name}` fails with {type(error).__name__}: {error}. Fix the function."
            ) from error
        values = found.detach().double().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
        if values.ndim not in (1, 2) or len(values) != len(images) or not np.issubdtype(values.dtype, np.number):
            raise self._wrong(values.shape, len(images), "(N,) scores or (N, D) features")
        return values.astype(np.float64)

    def _wrong(self, shape: tuple[int, ...], count: int, rule: str) -> InputError:
        got = f"{shape} for {count} images"
        return InputError(f"metric: `{self.name}` must return numbers, {rule}, but gave {got}. Fix the function.")


class OwnFeatures(Extractor):
    """A user's function that gives features, as an extractor: its distributions are compared as any other's are."""

    dim = None
    preprocessing: ClassVar[dict[str, Any]] = {}

    def __init__(self, own: OwnMetric) -> None:
        """Raises InputError if the function asks for more than images: real images have no prompts or labels here."""
        if own.takes:
            raise InputError(
                f"metric: `{own.name}` gives features, which must be of images only, but asks for "
                f"{', '.join(own.takes)}. Omit that, or return one score an image."
            )
        self._own, self.name, self.digest, self.device = own, own.name, own.digest, own.device

    def extract(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self._own.features(images))


def pack_scores(scores: NDArray[np.float64]) -> FeatureArray:
    """(N, 2) of scores (N,): each in half precision, and `REST` times what that lost."""
    with np.errstate(over="ignore", invalid="ignore"):  # what half precision can't hold is refused when it is stored
        whole = scores.astype(np.float16).astype(np.float64)
        return np.stack([whole, (scores - whole) * REST], axis=1).astype(np.float32)


def unpack_scores(packed: FeatureArray) -> NDArray[np.float64]:
    """(N,) scores of (N, 2) that `pack_scores` made, to 22 bits."""
    values = packed.astype(np.float64)
    return values[:, 0] + values[:, 1] / REST


def _takes(function: Callable[..., Any]) -> tuple[str, ...]:
    """Which of `SHOWN` a function has as parameters."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    return tuple(name for name in SHOWN if name in parameters)


def _digest(name: str, version: Any) -> str:
    source = own_source(name)
    if source is None and version is None:
        raise InputError(
            f"metric: `{name}` has no source file, so changes would not be noticed. Give it a `version`: "
            '`function.version = "1"`.'
        )
    text = f"{name.rpartition(':')[2]}\0{'' if version is None else version}\0".encode()
    return hashlib.sha256(text + (source or b"")).hexdigest()
