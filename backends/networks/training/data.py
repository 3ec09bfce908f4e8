"""Images and labels to train on: a folder, an .npz or IDX files, encoded once into what the network samples."""

import gzip
import math
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from json import dumps
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...checkpoints.files import is_file, is_folder
from ...errors import InputError, first_line
from ...quality.reference_cache import cache_folder
from ...quality.reference_images import Preparation, batches_of_array, batches_of_files, image_files
from ...quality.references import images_of, read_npz

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte of an IDX file
_IDX = "*-images-idx3-ubyte*"
_VERSION = 1
Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@contextmanager
def _called_data() -> Generator[None]:
    """What reads reference images speaks of references; here they are data."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("reference: ", "data: ", 1)) from error


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an IDX file, gzipped or not: images (N, H, W) or labels (N,).

    Raises:
        InputError: it is no IDX file, or is truncated.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data: `{path}` can't be read ({first_line(error)}). Download it again.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(f"data: `{path}` must be an IDX file, but does not begin as one. Download it again.")
    kind, begin = np.dtype(_IDX_TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < begin:
        raise InputError(f"data: `{path}` ends inside its header. Download it again.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", content[3], 4))
    needed = math.prod(shape) * kind.itemsize
    if len(content) - begin != needed:
        raise InputError(
            f"data: `{path}` must hold {needed:,} bytes of values for shape {shape}, but holds "
            f"{len(content) - begin:,}. Download it again."
        )
    return np.frombuffer(content, kind, offset=begin).reshape(shape)


@dataclass(frozen=True)
class ImageSource:
    """Images to train on, before they are encoded.

    Attributes:
        files: whose bytes tell this source from others.
        count: of images.
        labels: (N,) int64; None where there are none.
        batches: makes uint8 images (n, 3, H, W), prepared; empty where `samples` has what the network samples.
        samples: (N, *sample_shape) float, read as they are; None where there are images.
    """

    files: tuple[Path, ...]
    count: int
    labels: Tensor | None
    batches: Callable[[Preparation], Iterator[Tensor]]
    samples: Tensor | None = None


def open_data(path: Path, limit: int | None = None) -> ImageSource:
    """What a path holds.

    A folder with IDX files, MNIST's names, is read as these; another folder holds images, whose labels are the numbers,
    in order, of the folders that they are in. An .npz holds `images`, uint8 (N, H, W) or (N, H, W, 3), or `latents`,
    float (N, C, H, W), and perhaps `labels`.

    Args:
        limit: take no more than so many images, the first ones.

    Raises:
        InputError: there is nothing of the kind, a file is damaged, or labels and images differ in number.
    """
    if is_folder(path):
        found = sorted(path.glob(_IDX))
        train = [each for each in found if each.name.startswith("train")] or found
        return _of_idx(train[0], limit) if train else _of_folder(path, limit)
    if not is_file(path):
        raise InputError(f"data: must be a folder, an .npz or an IDX file, but `{path}` is not there. Check the path.")
    return _of_npz(path, limit) if path.suffix == ".npz" else _of_idx(path, limit)


def _of_folder(path: Path, limit: int | None) -> ImageSource:
    with _called_data():
        files = image_files(path)
    inside = [each.relative_to(path).parts for each in files]
    names = sorted({parts[0] for parts in inside if len(parts) > 1})
    labels = None
    if names and all(len(parts) > 1 for parts in inside):
        labels = torch.tensor([names.index(parts[0]) for parts in inside])
    files, labels = files[:limit], labels if labels is None else labels[:limit]
    return ImageSource(tuple(files), len(files), labels, lambda how: batches_of_files(files, how))


def _of_idx(path: Path, limit: int | None) -> ImageSource:
    images = read_idx(path)[:limit]
    if images.ndim != 3 or images.dtype != np.uint8:
        raise InputError(
            f"data: `{path}` must hold images (N, H, W) of bytes, but holds {images.dtype} {images.shape}. Give the "
            "file of images."
        )
    names = [path.with_name(path.name.replace("images-idx3", "labels-idx1"))]
    beside = [each for each in names if each != path and is_file(each)]
    labels = _checked_labels(read_idx(beside[0])[:limit], len(images), str(beside[0])) if beside else None
    return ImageSource((path, *beside), len(images), labels, lambda how: batches_of_array(images, how))


def _of_npz(path: Path, limit: int | None) -> ImageSource:
    with _called_data():
        arrays = read_npz(path)
        latents = arrays.get("latents")
        images = np.empty((0, 1, 1), np.uint8) if latents is not None else images_of(path, arrays)[:limit]
    count = len(images) if latents is None else len(latents[:limit])
    given = arrays.get("labels")
    labels = None if given is None else _checked_labels(given[:limit], count, f"{path}: labels")
    samples = None if latents is None else torch.from_numpy(latents[:limit].astype(np.float32))
    return ImageSource((path,), count, labels, lambda how: batches_of_array(images, how), samples)


def _checked_labels(labels: NDArray[Any], count: int, where: str) -> Tensor:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"data: labels must be whole numbers, one for each of {count:,} images, but `{where}` has {labels.dtype} "
            f"{labels.shape}. Give files that belong together."
        )
    return torch.from_numpy(labels.astype(np.int64))


def encoded(
    source: ImageSource, sample_shape: Sequence[int], image_size: tuple[int, int], encode: Encode, coder: str
) -> tuple[Tensor, Tensor | None]:
    """Mean and deviation (N, *sample_shape) of what the network samples; latents are kept in the user's cache.

    Args:
        image_size: (height, width) that images are cropped to the middle of and resized to.
        encode: uint8 images (n, 3, H, W) -> mean and deviation of their samples; None for no deviation.
        coder: tells this way of encoding from others; empty where encoding is too cheap to keep.

    Raises:
        InputError: samples have another shape or are no numbers.
    """
    if source.samples is not None:
        return _checked(source.samples, sample_shape, source), None
    how = Preparation(image_size, "center")
    path = _kept(source, how, coder) if coder else None
    made = None if path is None else _read(path)
    if made is None:
        with _called_data():
            parts = [encode(batch) for batch in source.batches(how)]
        made = {"mean": torch.cat([mean for mean, _ in parts])}
        if parts[0][1] is not None:
            made["deviation"] = torch.cat([cast(Tensor, deviation) for _, deviation in parts])
        _checked(made["mean"], sample_shape, source)
        if path is not None:
            _write(path, made)
    return _checked(made["mean"], sample_shape, source), made.get("deviation")


def _checked(samples: Tensor, sample_shape: Sequence[int], source: ImageSource) -> Tensor:
    if tuple(samples.shape[1:]) != tuple(sample_shape):
        raise InputError(
            f"data: samples must have shape {tuple(sample_shape)}, as the network's, but `{source.files[0]}` gives "
            f"{tuple(samples.shape[1:])}. Give data of that size."
        )
    bad = (~samples.flatten(1).isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise InputError(
            f"data: samples must be finite, but number {int(bad[0])} of `{source.files[0]}` is not, and {len(bad) - 1} "
            "others. Remove them."
        )
    return samples


def _kept(source: ImageSource, how: Preparation, coder: str) -> Path:
    digest = sha256(dumps([_VERSION, coder, source.count, how.record()], sort_keys=True).encode())
    for each in source.files:
        with each.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return cache_folder().parent / "latents" / f"{digest.hexdigest()}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    draft = path.with_suffix(f".{os.getpid()}.part")
    with suppress(OSError, SafetensorError):  # a cache that can't be written is none
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: value.contiguous() for name, value in tensors.items()}, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
