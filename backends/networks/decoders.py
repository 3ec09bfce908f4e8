"""What turns samples into images: the samples themselves, the bundled autoencoder, or a diffusers VAE from a folder."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.files import is_file, read_object
from ..checkpoints.folders import MAX_JSON_BYTES, weights_in
from ..checkpoints.weights import choose_weights, load_strictly, read_checkpoint, weights_sha256
from ..errors import InputError, first_line
from ..network import Network

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
    """The autoencoder behind the bundled latent checkpoint: 28 × 28 grey images <-> 8 × 8 × 4 latents.

    It is convolutional and variational, with two downsamplings. The images are padded to 32 × 32, so that a DiT with
    patch 2 sees 16 tokens. The decoder is part of sampling and of its time: about 2 % of a 20-step trajectory's
    arithmetic.

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


# Decoding's activations are some 3 kB a pixel in float32, so this many pixels at a time take about 1.5 GB.
CHUNK_PIXELS = 2**19
# What an `AutoencoderKL` is made of, by the keys of its configuration.
_LAYERS = ("layers_per_block",)
IMAGE_CHANNELS = (1, 3)  # of samples that are images themselves
CHANNELS = ("block_out_channels", "latent_channels", "in_channels", "out_channels", "norm_num_groups")


class Decoder(ABC):
    """Turns samples (N, C, H, W) into images.

    Attributes:
        image_shape: (3, H, W) of the images.
        sha256: of a decoder that is no part of the checkpoint; None else.
    """

    image_shape: tuple[int, int, int]
    sha256: str | None = None

    def check(self) -> None:
        """Raises InputError where there is no way to images."""
        return

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Samples (N, C, H, W) -> RGB images, uint8 (N, 3, H, W)."""

    def encode(self, images: Tensor) -> Tensor | None:
        """Real images, uint8 (N, 3, H, W), as samples (N, C, H, W) on the CPU; None where there is no way back."""
        return None

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Mean and deviation (N, C, H, W) of the samples that real images, uint8 (N, 3, H, W), stand for, on the CPU.

        The deviation is None where a sample is one value; all of it is None where there is no way back.
        """
        samples = self.encode(images)
        return None if samples is None else (samples, None)

    @abstractmethod
    def flops(self) -> int:
        """Floating-point operations (2 per multiply-add) for one image."""


class DecodedNetwork(Network):
    """A network whose samples a `Decoder` turns into images."""

    decoder: Decoder

    def set_decoder(self, decoder: Decoder) -> None:
        self.decoder, self.image_shape, self.decoder_sha256 = decoder, decoder.image_shape, decoder.sha256

    def decode(self, x: Tensor) -> Tensor:
        return self.decoder.decode(x)

    def check_decodes(self) -> None:
        self.decoder.check()

    def decode_flops(self) -> int:
        return self.decoder.flops()


class PixelDecoder(Decoder):
    """Samples that are images: colour or grey, or latents for which no decoder was given.

    Args:
        sample_shape: (C, H, W).
        name: the checkpoint's.
    """

    def __init__(self, sample_shape: tuple[int, int, int], name: str) -> None:
        self._channels, height, width = sample_shape
        self._name = name
        self.image_shape = (3, height, width)

    def check(self) -> None:
        if self._channels not in IMAGE_CHANNELS:
            raise InputError(
                f"vae: `{self._name}` samples latents of {self._channels} channels, which need a decoder. "
                "Add `--vae FOLDER` with the diffusers autoencoder that it was trained on."
            )

    def decode(self, x: Tensor) -> Tensor:
        self.check()
        return grey_to_rgb(x) if self._channels == 1 else to_uint8(x)

    def encode(self, images: Tensor) -> Tensor | None:
        samples = images.float() / 127.5 - 1
        return samples.mean(dim=1, keepdim=True) if self._channels == 1 else samples

    def flops(self) -> int:
        return 0


class BundledDecoder(Decoder):
    """The small autoencoder beside a bundled checkpoint, whose latents are normalised channel by channel."""

    image_shape = (3, 28, 28)

    def __init__(self, module: Autoencoder, shift: Tensor, scale: Tensor) -> None:
        self._module = module.eval().requires_grad_(False)
        self._shift, self._scale = shift.view(1, -1, 1, 1), scale.view(1, -1, 1, 1)

    @classmethod
    def from_file(
        cls, path: Path, latent: dict[str, Any], device: torch.device, dtype: torch.dtype
    ) -> "BundledDecoder":
        """The decoder that a checkpoint's metadata names, with each channel's shift and scale."""
        if not is_file(path):
            raise InputError(f"checkpoint: its autoencoder `{path}` is missing. Keep the two files in one folder.")
        found = read_checkpoint(path)
        _refuse_odd_sizes(found.metadata, path)
        with torch.device("meta"):  # no memory for sizes that the weights don't have
            module = Autoencoder(**found.metadata)
        load_strictly(module, found.tensors, path)
        shift, scale = (torch.tensor(latent[key]).to(device, dtype) for key in ("shift", "scale"))
        return cls(module.to(device=device, dtype=dtype), shift, scale)

    def decode(self, x: Tensor) -> Tensor:
        return grey_to_rgb(self._module.decode(x * self._scale + self._shift))

    @torch.no_grad()
    def moments(self, images: Tensor) -> tuple[Tensor, Tensor | None] | None:
        grey = images.float().mean(dim=1, keepdim=True).to(self._scale) / 127.5 - 1
        mean, log_variance = self._module.encode(grey)
        deviation = torch.exp(0.5 * log_variance)
        return ((mean - self._shift) / self._scale).float().cpu(), (deviation / self._scale).float().cpu()

    def flops(self) -> int:
        return self._module.decode_flops()


class AutoencoderDecoder(Decoder):
    """The decoder half of a diffusers autoencoder.

    Args:
        module: the autoencoder; its encoder is not needed.
        sample_shape: (C, H, W) of the latents, (C, T, H, W) of a video's.
    """

    def __init__(self, module: Any, sample_shape: tuple[int, ...]) -> None:
        self._module: Any = module.eval().requires_grad_(False)
        self._config: dict[str, Any] = dict(module.config)
        self._sample_shape = sample_shape

    def flops(self) -> int:
        return self._flops

    @cached_property
    def _flops(self) -> int:
        """Counted by running the autoencoder on shapes alone."""
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"):
            empty = type(self._module).from_config(self._config)
            x = torch.empty(1, *self._sample_shape)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            empty.decode(x, return_dict=False)
        return counter.get_total_flops()


class KLDecoder(AutoencoderDecoder):
    """The decoder half of a diffusers `AutoencoderKL`: images are decode(x / scaling_factor + shift_factor), or with
    each channel's mean and deviation, decode(x · latents_std / scaling_factor + latents_mean)."""

    def __init__(self, module: Any, sample_shape: tuple[int, int, int]) -> None:
        super().__init__(module, sample_shape)
        self._scale, self._shift = _affine(module, self._config)
        self._folder: Path | None = None
        self._encoder: Any = None
        factor = 2 ** (len(self._config["block_out_channels"]) - 1)
        self.image_shape = (3, factor * sample_shape[1], factor * sample_shape[2])

    @classmethod
    def from_folder(
        cls, folder: Path, sample_shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> "KLDecoder":
        """The autoencoder of a diffusers folder, or of the pipeline in it.

        In half precision it computes in float32 where its configuration says `force_upcast`, as in diffusers.

        Raises:
            InputError: diffusers is not installed, or the folder has no autoencoder for these latents.
        """
        folder = folder / "vae" if (folder / "vae" / "config.json").is_file() else folder
        config = _read_config(folder)
        channels = config.get("latent_channels", 4)
        if channels != sample_shape[0]:
            raise InputError(
                f"vae: must decode latents of {sample_shape[0]} channels, but `{folder}` has {channels}. "
                "Give the autoencoder that the checkpoint was trained on"
                f"{', or none: samples of so few are images' if sample_shape[0] in IMAGE_CHANNELS else ''}."
            )
        _refuse_enormous(folder, config)
        module = _load_kl(folder)
        digest = _digest(module)  # of the weights as they are stored
        upcast = dtype == torch.float16 and module.config.force_upcast
        # diffusers' own `to` warns of parts to keep in float32, of which this class has none.
        nn.Module.to(module, device=device, dtype=torch.float32 if upcast else dtype)
        try:
            decoder = cls(module, sample_shape)
        except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
            raise InputError(
                f"vae: the factors in `{folder / 'config.json'}` are no numbers of each channel ({error}). Download it "
                "again."
            ) from error
        decoder.sha256, decoder._folder = digest, folder
        return decoder

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor | None:
        if self._folder is None:
            return None
        module = _load_kl(self._folder, encodes=True).to(self._module.device)
        parts = [module.encode((part.float() / 127.5 - 1).to(module.device)) for part in images.split(4)]
        latents = torch.cat([part.latent_dist.mode() for part in parts])
        return ((latents - self._shift) / self._scale).float().cpu()

    @torch.no_grad()
    def moments(self, images: Tensor) -> tuple[Tensor, Tensor | None] | None:
        if self._folder is None:
            return None
        if self._encoder is None:  # kept, since data come in many batches
            self._encoder = _load_kl(self._folder, encodes=True).to(self._module.device)
        parts = [
            self._encoder.encode((part.float() / 127.5 - 1).to(self._encoder.device)).latent_dist
            for part in images.split(4)
        ]
        mean, deviation = (torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "std"))
        return ((mean - self._shift) / self._scale).float().cpu(), (deviation / self._scale).float().cpu()

    def decode(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # a graph takes batches of any size, and its runtime chooses
            return self._decode(x)
        pixels = self.image_shape[1] * self.image_shape[2]
        return torch.cat([self._decode(chunk) for chunk in x.split(max(1, CHUNK_PIXELS // pixels))])

    def _decode(self, x: Tensor) -> Tensor:
        latents = x.to(self._module.dtype) * self._scale + self._shift
        return to_uint8(self._module.decode(latents, return_dict=False)[0])


def _affine(module: Any, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """What latents are multiplied with and what is added before they are decoded, (1, C or 1, 1, 1) each."""
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    scale = torch.tensor(deviation or [1.0]) / config["scaling_factor"]
    shift = torch.tensor(mean or [config.get("shift_factor") or 0.0])
    scale, shift = (value.to(module.device, module.dtype).view(1, -1, 1, 1) for value in (scale, shift))
    return scale, shift


def _read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a diffusers `AutoencoderKL`."""
    path = folder / "config.json"
    try:
        config = read_object(path, MAX_JSON_BYTES, "vae")
    except InputError as error:
        raise InputError(f"{error} A diffusers autoencoder is a folder with config.json and its weights.") from error
    kind = config.get("_class_name")
    if kind != "AutoencoderKL":
        raise InputError(f"vae: must be an AutoencoderKL, but `{path}` says {kind or 'nothing'}. Give another folder.")
    return config


def _refuse_enormous(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses a configuration of more layers or channels than the weights have, for which memory would be taken."""
    container = weights_in(folder)
    if container is None:
        raise InputError(
            f"vae: `{folder}` can't be loaded (it holds no weights that can be read). Download the whole folder again."
        )
    shapes = [each.shape for each in choose_weights(container.content, None, container.path).tensors.values()]
    widest = max(max(shape, default=1) for shape in shapes)
    limits = dict.fromkeys(_LAYERS, len(shapes)) | dict.fromkeys(CHANNELS, widest)
    for key, most in limits.items():
        value = config.get(key, 0)
        sizes = value if isinstance(value, list) else [value]
        if len(sizes) > len(shapes) or not all(type(each) is int and 0 <= each <= most for each in sizes):
            raise InputError(
                f"vae: `{key}` in `{folder / 'config.json'}` must be from 0 to {most}, as its weights are, but is "
                f"{str(value)[:80]}. Download the whole folder again."
            )


def _refuse_odd_sizes(sizes: Mapping[str, Any], path: Path) -> None:
    """Raises InputError unless these are the sizes of an `Autoencoder`, whose groups of channels are 8."""
    known = {"width", "latent_channels"}
    whole = all(type(each) is int and each > 0 for each in sizes.values())
    if sizes.keys() - known or not whole or sizes.get("width", 16) % 16:
        raise InputError(
            f"checkpoint: the autoencoder `{path}` must state {' and '.join(sorted(known))}, the width a multiple of "
            f"16, but states {str(dict(sizes))[:80]}. Download it again."
        )


def _load_kl(folder: Path, encodes: bool = False) -> Any:
    try:
        diffusers: Any = import_module("diffusers")  # seconds to import, so only who needs it does
    except ImportError as error:
        raise InputError("vae: needs diffusers, which is not installed. `pip install 'exeunt[diffusers]'`.") from error
    try:
        module, found = diffusers.AutoencoderKL.from_pretrained(
            folder, local_files_only=True, torch_dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # files that no program wrote make diffusers raise anything
        raise InputError(
            f"vae: `{folder}` can't be loaded ({first_line(error)}). Download the whole folder again."
        ) from error
    if not encodes:
        module.encoder, module.quant_conv = None, None
    absent = sorted({name for name, _ in module.named_parameters()} & set(found["missing_keys"]))
    if absent:
        raise InputError(
            f"vae: the weights in `{folder}` lack {len(absent)} of the decoder, such as `{absent[0]}`. "
            "Download the whole folder again."
        )
    return module


def _digest(module: Any) -> str:
    """The SHA-256 of all that decides how latents become images."""
    factors = [module.config[key] for key in ("scaling_factor", "shift_factor", "latents_mean", "latents_std")]
    return hashlib.sha256(f"{factors}{weights_sha256(module.state_dict())}".encode()).hexdigest()
