"""Settings of a checkpoint that neither its file nor the user states: real images decide them, or the user is asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...backends.checkpoints.files import is_file, is_folder
from ...backends.errors import InputError
from ...backends.network import Network
from ...backends.networks.decoders import DecodedNetwork
from ...backends.networks.readings import NUM_IMAGES, Decision, decide
from ...backends.quality.reference_images import Preparation, batches_of_array, batches_of_files, image_files
from ...backends.quality.references import image_keys, images_of, read_npz
from ...studies.config.study import CheckpointConfig, QualityConfig

MOST_LISTED = 5


def settle_reading(
    quality: QualityConfig,
    network: Network,
    load: Callable[[dict[str, Any]], Network],
    tell: Callable[[str], None],
    prefix: str = "",
) -> dict[str, Any]:
    """The arguments of the network that denoise real images best, where they differ from those that were taken.

    Args:
        quality: the study's, its reference settled.
        network: as it was taken.
        load: the same weights under other arguments.
        tell: is told what was decided.
        prefix: of the options on the command line.

    Raises:
        InputError: several readings denoise the reference equally well, and the user has to say which is right.
    """
    if not network.open_readings or not isinstance(network, DecodedNetwork):
        return {}
    images = _images(quality, network.image_shape)
    samples = None if images is None else network.decoder.encode(images)
    if samples is None:
        return {}
    found = decide(load, network.open_readings, samples)
    taken = network.open_readings[0]
    if not found.denoises:
        tell(
            f"reading: `{network.name}` can't denoise the reference with any known setting (least loss "
            f"{found.losses[0][1]:.3g}; the best linear guess has {found.guess:.3g}), so it is not known "
            f"whether {_words(taken)} is right: the weights may be untrained, or trained on other images"
        )
        return {}
    if not found.is_clear:
        raise InputError(_question(network.name, found, prefix))
    best, loss = found.losses[0]
    tell(
        f"reading: {_words(best)} has the least loss in denoising {len(samples)} images of the reference, {loss:.3g}; "
        f"the next, {_words(found.losses[1][0])}, has {found.losses[1][1]:.3g}"
    )
    return {name: value for name, value in best.items() if value != taken[name]}


def with_options(checkpoint: CheckpointConfig, options: dict[str, Any]) -> CheckpointConfig:
    """The checkpoint's settings with further arguments of the network's constructor."""
    return replace(checkpoint, options=tuple(sorted((dict(checkpoint.options) | options).items())))


def _words(reading: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in reading.items())


def _question(name: str, found: Decision, prefix: str) -> str:
    listed = "; ".join(f"{_words(reading)}: {loss:.4g}" for reading, loss in found.losses[:MOST_LISTED])
    flags = " ".join(f"--network-arg {prefix}{key}={value}" for key, value in found.losses[0][0].items())
    return (
        f"checkpoint: `{name}` doesn't say how it was trained, and the losses in denoising the reference are too "
        f"close to decide it: {listed}. Add what it was trained with, such as `{flags}`."
    )


def _images(quality: QualityConfig, image_shape: tuple[int, int, int]) -> Tensor | None:
    """Real images, uint8 (N, 3, H, W), spread evenly over the reference; None where it holds none."""
    path = None if quality.reference is None else Path(quality.reference)
    preparation = Preparation(image_shape[1:], quality.crop, quality.resize_filter)
    if path is not None and is_folder(path):
        files = image_files(path)
        batches = batches_of_files([files[i] for i in _spread(len(files))], preparation)
    elif path is not None and path.suffix == ".npz" and is_file(path):
        arrays = read_npz(path)
        if not image_keys(arrays):
            return None
        images = images_of(path, arrays)
        batches = batches_of_array(images[_spread(len(images))], preparation)
    else:
        return None
    found = torch.cat(list(batches))
    return found if len(found) > 1 else None


def _spread(count: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(count, NUM_IMAGES)).round().astype(int).tolist()))
