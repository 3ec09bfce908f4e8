"""The small convolutional autoencoder behind the bundled latent checkpoint: 28 × 28 grey images <-> 8 × 8 × 4 latents.

The images are padded to 32 × 32, so that a DiT with patch 2 sees 16 tokens. The decoder is part of sampling and
of its time: about 2 % of a 20-step trajectory's arithmetic.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PADDING = 2  # 28 + 2 · 2 = 32 pixels a side


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), with group normalisation before each convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(nn.Module):
    """A variational autoencoder with two downsamplings.

    Args:
        width: channels at 8 × 8; half as many at 16 × 16.
        latent_channels: channels of the latents.
    """

    def __init__(self, width: int = 64, latent_channels: int = 4) -> None:
        super().__init__()
        half = width // 2
        self.latent_channels = latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, half, 3, padding=1),
            ResidualBlock(half),
            nn.Conv2d(half, width, 3, padding=1, stride=2),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.Conv2d(width, 2 * latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.Conv2d(width, 4 * half, 1),
            nn.PixelShuffle(2),
            ResidualBlock(half),
            nn.Conv2d(half, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Grey images (N, 1, 28, 28) in [-1, 1] -> mean and log-variance of the latents, (N, C, 8, 8) each."""
        padded = F.pad(images, (PADDING,) * 4, value=-1.0)
        mean, log_variance = self.encoder(padded).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, C, 8, 8) -> grey images (N, 1, 28, 28), about [-1, 1]."""
        return self.decoder(latents)[..., PADDING:-PADDING, PADDING:-PADDING]

    def decode_flops(self) -> int:
        """Floating-point operations (2 per multiply-add) of decoding one image; convolutions only."""
        total, side = 0, 8
        for module in self.decoder.modules():
            if isinstance(module, nn.PixelShuffle):
                side *= 2
            elif isinstance(module, nn.Conv2d):
                total += 2 * module.weight.numel() * side * side
        return total


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8, rounded to the nearest level."""
    return torch.round((images.float() + 1.0) * 127.5).clamp_(0, 255).to(torch.uint8)


def grey_to_rgb(images: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) in [-1, 1] -> uint8 (N, 3, H, W), rounded to the nearest level."""
    return to_uint8(images).expand(-1, 3, -1, -1).contiguous()
