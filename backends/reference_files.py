"""Reading the files that references come from, an .npz of arrays or what `save_reference` wrote, without unpickling."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from zipfile import ZipInfo

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .errors import ExeuntError, InputError

METADATA_KEY = "exeunt.reference"
VERSION = 1
# An .npz may unpack to so much for nothing, and to so many times its own size: more than images do.
FREE_BYTES, MOST_INFLATION = 64_000_000, 100
MALFORMED = (ValueError, TypeError, AttributeError)
DESCRIPTION: dict[str, Any] = {
    "version": int,
    "extractor": str,
    "extractor_digest": str | None,
    "count": int | None,
    "held_out": bool,
    "made": dict,
}


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz. Raises InputError if it is none, is damaged or holds pickled objects."""
    try:
        # numpy leaves a file that it opened itself open when the archive is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            _refuse_inflated(path, content.zip.infolist())
            return {key: content[key] for key in content.files}
    except ExeuntError:
        raise
    except Exception as error:  # bytes that no program wrote make NumPy, zipfile and zlib raise anything
        raise InputError(
            f"reference: `{path}` must be an .npz of plain arrays, but can't be read as one ({error}). "
            "Save it with `numpy.savez(path, images=images)`, images uint8 (N, H, W, 3)."
        ) from error


def _refuse_inflated(path: Path, members: Sequence[ZipInfo]) -> None:
    """Refuses an archive that unpacks to far more than it holds."""
    unpacked, most = sum(each.file_size for each in members), FREE_BYTES + MOST_INFLATION * path.stat().st_size
    if unpacked > most:
        raise InputError(
            f"reference: `{path}` unpacks to {unpacked:,} bytes, and a file of its size may unpack to {most:,}. "
            "Save it uncompressed, with `numpy.savez`."
        )


def image_keys(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """The names of the arrays that are images: uint8, (N, H, W), (N, H, W, 1) or (N, H, W, 3).

    Images without pixels are none: a header may state 2⁴⁰ of them.
    """
    return [
        key
        for key, array in arrays.items()
        if array.dtype == np.uint8
        and 0 not in array.shape[1:]
        and (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3)))
    ]


def images_of(path: Path, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    keys = image_keys(arrays)
    chosen = [key for key in ("images", "arr_0") if key in keys] or keys
    if not keys or (len(keys) > 1 and chosen == keys):
        have = ", ".join(f"{key}: {array.dtype} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise InputError(
            f"reference: `{path}` must hold one array of images, uint8 (N, H, W, 3), or `mu` and `sigma`, but has "
            f"{have}. Save the images as `images`."
        )
    return arrays[chosen[0]]


def read_described(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The tensors and the description of a file that `save_reference` wrote."""
    try:
        with safe_open(path, framework="numpy") as content:
            described = json.loads((content.metadata() or {}).get(METADATA_KEY, "null"))
            tensors: dict[str, NDArray[Any]] = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, MemoryError, RecursionError, LookupError, *MALFORMED) as error:
        raise InputError(f"reference: `{path}` can't be read ({error}). Make or download it again.") from error
    found = cast(dict[str, Any], described) if isinstance(described, dict) else {}
    wrong = [key for key, kind in DESCRIPTION.items() if key not in found or not isinstance(found[key], kind)]
    wrong += sorted({"mean", "covariance"} - tensors.keys())
    if wrong:
        raise InputError(
            f"reference: `{path}` must be a reference that Exeunt wrote, but lacks or misstates {', '.join(wrong)}. "
            "Make it again."
        )
    if found["version"] != VERSION:
        raise InputError(
            f"reference: `{path}` must have version {VERSION}, but has {found['version']}. Install a newer Exeunt."
        )
    return tensors, found
