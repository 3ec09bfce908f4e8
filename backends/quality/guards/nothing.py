"""Images that show nothing: the other end of the scale on which a schedule's loss is stated.

A distance alone doesn't say how bad it is. A weakly trained network's own images may be nearly as far from real ones as
pure noise is; then a distance that is a little larger than the full schedule's may already be that of noise.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from .pixels import are_pictures

# Of the shorter side: what is blurred away leaves a smear of the brightness.
BLUR_SHARE = 1 / 4


def images_of_nothing(images: Tensor, noise: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """A batch of images that show nothing for each kind of them, (N, 3, H, W) uint8.

    Images of few pixels can't be blurred.

    Args:
        images: the full schedule's, (N, 3, H, W) uint8.
        noise: its first noises, decoded without any step, (N, 3, H, W) uint8.
        mean: the mean of all of its images, (3, H, W) uint8.
    """
    found = {"noise": noise, "constant": mean.expand_as(images).contiguous()}
    return found | {"blurred": blurred_and_grey(images)} if are_pictures(images) else found


def blurred_and_grey(images: Tensor) -> Tensor:
    """The brightness of images (N, 3, H, W), averaged over cells of a quarter of the shorter side, as grey images."""
    values = images.float()
    luma = (values * values.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    cell = max(1, int(min(images.shape[-2:]) * BLUR_SHARE))
    coarse = avg_pool2d(luma, cell, ceil_mode=True, count_include_pad=False)
    smooth = interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return smooth.round().clamp(0, 255).to(torch.uint8).expand_as(images).contiguous()
