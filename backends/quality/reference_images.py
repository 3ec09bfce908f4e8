"""Real images from a folder or an array, made the size that the network draws: crop, resize, rounding, all recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import InputError

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CROPS = ("none", "center")
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
IMAGES_AT_ONCE = 256
MAX_PIXELS = 40_000_000  # of one image, for which Pillow takes 4 bytes each, two or three times over
STRIP_PIXELS = 2**20


@dataclass(frozen=True)
class Preparation:
    """How a real image becomes one that generated images are compared with.

    Attributes:
        size: (height, width) in pixels; None leaves images as they are, and then all must be alike.
        crop: "center" cuts the largest centred rectangle of the target's proportions (a square without `size`).
        resize_filter: Pillow's filter, one of `FILTERS`; all but "nearest" are antialiased.
    """

    size: tuple[int, int] | None = None
    crop: str = "none"
    resize_filter: str = "bilinear"

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise InputError(f"reference: crop must be one of {', '.join(CROPS)}, but got `{self.crop}`. Choose one.")
        if self.resize_filter not in FILTERS:
            raise InputError(
                f"reference: the resize filter must be one of {', '.join(FILTERS)}, but got `{self.resize_filter}`."
                " Choose one."
            )

    def record(self) -> dict[str, Any]:
        """What was done, JSON-able."""
        return asdict(self) | {"rounding": "to uint8 after resizing (Pillow)", "transparency": "on white"}

    def apply(self, image: Image.Image) -> NDArray[np.uint8]:
        """The image as (height, width, 3) uint8."""
        if self.crop == "center" and self._box(*image.size) != (0, 0, *image.size):
            image = image.crop(self._box(*image.size))  # before anything makes it larger
        if self.size is not None and image.size != (self.size[1], self.size[0]):
            return np.asarray(on_white(image).resize((self.size[1], self.size[0]), FILTERS[self.resize_filter]))
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for rows, strip in strips(image):
            pixels[rows] = np.asarray(on_white(strip))
        return pixels

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, upper, right, lower of the largest centred rectangle of the target's proportions."""
        rows, columns = self.size or (1, 1)
        kept = (min(width, height * columns // rows), min(height, width * rows // columns))
        left, upper = (width - kept[0]) // 2, (height - kept[1]) // 2
        return left, upper, left + kept[0], upper + kept[1]


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, what is transparent in it white."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    opaque = Image.new("RGB", image.size)
    for rows, strip in strips(image):
        clear = strip.convert("RGBA")
        opaque.paste(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear), (0, rows.start))
    return opaque


def strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """An image in parts, each with its rows: what is made of them takes little memory."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and the folders inside it, sorted by path.

    Raises:
        InputError: there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise InputError(
            f"reference: a folder must hold images ({', '.join(sorted(_SUFFIXES))}), but `{folder}` has none. "
            "Give the folder that has them."
        )
    return files


def batches_of_files(files: Sequence[Path], preparation: Preparation) -> Iterator[Tensor]:
    """The images of files in batches, uint8 (n, 3, H, W).

    Raises:
        InputError: a file is no image, has more than 8 bits a channel, or another size than the first.
    """
    for start in range(0, len(files), IMAGES_AT_ONCE):
        part = files[start : start + IMAGES_AT_ONCE]
        images = [read_image(path, preparation) for path in part]
        yield _batch(images, [str(path) for path in part])


def read_image(path: Path, preparation: Preparation) -> NDArray[np.uint8]:
    """One file as (H, W, 3) uint8. Raises InputError if it is no image of 8 bits a channel."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"reference: images must have at most {MAX_PIXELS:,} pixels, but `{path}` has {image.width} × "
                    f"{image.height}. Make it smaller."
                )
            if image.mode not in EIGHT_BIT_MODES:
                raise InputError(
                    f"reference: images must have 8 bits a channel, but `{path}` has mode {image.mode}. "
                    "Convert it to 8-bit RGB."
                )
            return preparation.apply(image)
    except InputError:
        raise
    except Exception as error:  # damaged files make Pillow's many readers raise anything
        raise InputError(f"reference: `{path}` can't be read as an image ({error}). Fix or remove it.") from error


def batches_of_array(images: NDArray[np.uint8], preparation: Preparation) -> Iterator[Tensor]:
    """The images of an array (N, H, W, 1 or 3) or (N, H, W), uint8, in batches (n, 3, H', W')."""
    for start in range(0, len(images), IMAGES_AT_ONCE):
        part = images[start : start + IMAGES_AT_ONCE]
        part = part[..., 0] if part.ndim == 4 and part.shape[-1] == 1 else part
        prepared = [preparation.apply(Image.fromarray(image)) for image in part]
        yield _batch(prepared, [f"image {start + index}" for index in range(len(part))])


def _batch(images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> Tensor:
    rows, columns = images[0].shape[:2]
    for image, name in zip(images, names, strict=True):
        if image.shape[:2] != (rows, columns):
            raise InputError(
                f"reference: images must be of one size, but `{names[0]}` is {columns} × {rows} and `{name}` "
                f"{image.shape[1]} × {image.shape[0]}. Name the size to resize to."
            )
    stacked = images[0][np.newaxis] if len(images) == 1 else np.stack(images)
    return torch.tensor(stacked).permute(0, 3, 1, 2).contiguous()
