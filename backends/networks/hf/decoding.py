"""From samples to images for networks of diffusers: sizes in pixels, the pipeline's autoencoder, videos as strips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checkpoints.folders import MODEL, read_json
from ...checkpoints.weights import weights_sha256
from ...errors import InputError, first_line
from ..decoders import AutoencoderDecoder, Decoder, KLDecoder, PixelDecoder, to_uint8
from .loading import DAMAGED, Folder
from .models.base import Architecture, Size
from .optional import diffusers


def autoencoder_folder(folder: Folder, given: str | None) -> Path | None:
    """The autoencoder's folder: the one given, the pipeline's, or None."""
    if given is None:
        if folder.config_of("vqvae", MODEL):
            raise InputError(
                f"vae: `{folder.path}` decodes with a VQModel, which is not supported; AutoencoderKL is. Give a "
                "network of your own that decodes with it, by `--network FILE.py:Class`."
            )
        return folder.path / "vae" if folder.config_of("vae", MODEL) else None
    path = Path(given)
    return path / "vae" if (path / "vae" / MODEL).is_file() else path


def sized(
    architecture: Architecture,
    autoencoder: Mapping[str, Any] | None,
    height: int | None,
    width: int | None,
    num_frames: int | None,
) -> Size:
    """The size asked for, with the factors of an autoencoder's configuration."""
    if autoencoder is None:
        return Size(height, width, num_frames, architecture.factor)
    if "scale_factor_spatial" in autoencoder:
        factors = autoencoder["scale_factor_spatial"], autoencoder.get("scale_factor_temporal", 4)
        return Size(height, width, num_frames, *factors)
    stages = autoencoder.get("block_out_channels")
    return Size(height, width, num_frames, 2 ** (len(stages) - 1) if stages else architecture.factor)


def decoder_from(
    autoencoder: Path | None, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, name: str
) -> Decoder:
    """The decoder of samples of a shape, from an autoencoder's folder; None where samples may be images themselves.

    Raises:
        InputError: the folder has no autoencoder for these samples, or a video has none at all.
    """
    if len(shape) == 3:
        if autoencoder is None:
            return PixelDecoder((shape[0], shape[1], shape[2]), name)
        return KLDecoder.from_folder(autoencoder, (shape[0], shape[1], shape[2]), device, dtype)
    if autoencoder is None:
        raise InputError(f"vae: `{name}` samples latents of videos. Give the pipeline's folder, or `--vae FOLDER`.")
    kind: Any = getattr(diffusers, str(read_json(autoencoder / MODEL).get("_class_name")), None)
    try:
        module = kind.from_pretrained(autoencoder, dtype=dtype, local_files_only=True)
    except DAMAGED as error:
        raise InputError(
            f"vae: `{autoencoder}` can't be loaded ({first_line(error)}). Download the whole folder again."
        ) from error
    decoder = VideoDecoder(module.to(device), shape)
    decoder.sha256 = weights_sha256(module.state_dict())
    return decoder


def live_decoder(autoencoder: Any, shape: tuple[int, ...], name: str) -> Decoder:
    """The decoder of samples of a shape, from a live pipeline's autoencoder."""
    if len(shape) == 4:
        return VideoDecoder(autoencoder, shape)
    images = (shape[0], shape[1], shape[2])
    return PixelDecoder(images, name) if autoencoder is None else KLDecoder(autoencoder, images)


class VideoDecoder(AutoencoderDecoder):
    """A diffusers video autoencoder with a mean and a deviation per channel, such as `AutoencoderKLWan`.

    A video becomes one image, its frames side by side in time order, so that every measure sees all of it.
    """

    def __init__(self, module: Any, sample_shape: tuple[int, ...]) -> None:
        super().__init__(module, sample_shape)
        config, (_, frames, height, width) = module.config, sample_shape
        self._mean, self._deviation = (
            torch.tensor(values).to(module.device, module.dtype).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        frames = (frames - 1) * config.scale_factor_temporal + 1
        self.image_shape = (3, height * config.scale_factor_spatial, frames * width * config.scale_factor_spatial)

    def decode(self, x: Tensor) -> Tensor:
        latents = x.to(self._module.dtype) * self._deviation + self._mean
        # One at a time, for memory; a graph takes batches of any size, and its runtime chooses.
        batches = (latents,) if torch.compiler.is_exporting() else latents.split(1)
        videos = torch.cat([self._module.decode(batch, return_dict=False)[0] for batch in batches])
        return to_uint8(videos).permute(0, 1, 3, 2, 4).flatten(3)  # (N, 3, T, H, W) -> (N, 3, H, T · W)
