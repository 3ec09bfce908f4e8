"""Plain statistics of the pixels of one image, which tell static, blur and faded colours from images.

No network has a part in them, so they can't be fooled where a feature extractor is: an image of pure noise is far out
of the range of any set of pictures in several of them at once.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

# Values this near to black or white count as saturated, of 255.
SATURATED = 2
# Beyond this, differences between neighbours say nothing more: a constant image.
SMALLEST = 1e-4

# Of the shorter side: fewer pixels are no picture whose neighbours or whose blur say anything.
LEAST_SIDE = 8

NAMES = (
    "saturation",
    "neighbour correlation",
    "fine detail",
    "coarse detail",
    "brightness",
    "contrast",
    "colourfulness",
    "red cast",
    "blue cast",
)


def are_pictures(images: Tensor) -> bool:
    """Whether images (N, 3, H, W) have pixels enough for statistics to say anything."""
    return min(images.shape[-2:]) >= LEAST_SIDE


def image_statistics(images: Tensor) -> NDArray[np.float32]:
    """(N, 9) statistics of images, in the order of `NAMES`.

    Saturation is the share of values within 2 of 0 or 255. Correlation is that of the brightness of pixels side by
    side and of pixels above each other, as Fisher's z, at most 4. Fine detail is the standard deviation of differences
    of neighbours, coarse detail that of differences of neighbouring means of 4 × 4 pixels, both as logarithms.
    Brightness, contrast (the standard deviation of brightness), colourfulness (that of red and blue minus green) and
    the casts (the means of red and blue minus green) are in parts of 255.

    Args:
        images: (N, 3, H, W) uint8, on any device.
    """
    rgb = images.float() / 255
    red, green, blue = rgb.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    saturated = ((images <= SATURATED) | (images >= 255 - SATURATED)).float().mean(dim=(1, 2, 3))
    size = min(4, *luma.shape[-2:])
    coarse = avg_pool2d(luma.unsqueeze(1), size).squeeze(1)
    differences = torch.stack([red - green, blue - green], 1)
    chroma = differences.flatten(2).std(dim=2, correction=0).square().sum(dim=1).sqrt()
    columns = [
        saturated,
        _neighbour_correlation(luma),
        torch.log(_steps(luma) + SMALLEST),
        torch.log(_steps(coarse) + SMALLEST),
        luma.mean(dim=(1, 2)),
        luma.flatten(1).std(dim=1, correction=0),
        chroma,
        *differences.mean(dim=(2, 3)).unbind(1),
    ]
    return torch.stack(columns, 1).float().cpu().numpy()


def _neighbour_correlation(luma: Tensor) -> Tensor:
    """(N,) Fisher's z of the correlation of neighbours; 4 for a constant image."""
    centred = luma - luma.mean(dim=(1, 2), keepdim=True)
    energy = centred.square().mean(dim=(1, 2))
    right = (centred[:, :, 1:] * centred[:, :, :-1]).mean(dim=(1, 2))
    below = (centred[:, 1:] * centred[:, :-1]).mean(dim=(1, 2))
    correlation = (right + below) / 2 / energy.clamp(min=SMALLEST**2)
    correlation = torch.where(energy < SMALLEST**2, torch.ones_like(correlation), correlation)
    return torch.atanh(correlation.clamp(-0.999, 0.999)).clamp(max=4.0)


def _steps(values: Tensor) -> Tensor:
    """(N,) root mean square of the differences of neighbours in (N, H, W)."""
    across, down = values.diff(dim=2).square().flatten(1), values.diff(dim=1).square().flatten(1)
    return (
        torch.cat([across, down], 1).mean(dim=1).sqrt()
        if across.numel() + down.numel()
        else values.new_zeros(len(values))
    )
