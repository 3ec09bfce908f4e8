"""What generated images are compared with: the features of real images, or their mean and covariance.

A reference comes from a folder of images, from an .npz of images or of `mu` and `sigma`, or from statistics that
`save_reference` wrote: a .safetensors file with `mean` (D,), `covariance` (D, D) and, if there are any, `features`
(m, D) in half precision, its metadata saying with which extractor and how they were made. Nothing is ever unpickled.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from zipfile import ZipInfo

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, uint8, zeros

from ..checkpoints.files import ASSETS, is_file, is_folder
from ..errors import ExeuntError, InputError, nearest
from .distances import MIN_IMAGES, KernelReference, ReferenceRoot, Statistics
from .extractors import Extractor, FeatureArray
from .intervals import FloatArray
from .names import KERNEL_WIDTHS
from .reference_cache import features_key, kept_features
from .reference_images import IMAGES_AT_ONCE, Preparation, batches_of_array, batches_of_files, image_files
from .sliced import SlicedReference

_LOG = logging.getLogger("exeunt.reference")
METADATA_KEY = "exeunt.reference"
_VERSION = 1
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
    if found["version"] != _VERSION:
        raise InputError(
            f"reference: `{path}` must have version {_VERSION}, but has {found['version']}. Install a newer Exeunt."
        )
    return tensors, found


BUNDLED_REFERENCES = {"fashion-mnist": ASSETS / "fashion-dit" / "reference.safetensors"}


@dataclass(frozen=True, eq=False)
class Reference:
    """A distribution of real images in the feature space of one extractor.

    Attributes:
        name: what was given: a bundled name or a path.
        extractor: the extractor's name.
        extractor_digest: its digest; None if the file does not say (mu and sigma).
        count: images behind mean and covariance; None if the file does not say.
        mean, covariance: (D,) and (D, D), float64.
        features: (m, D) float32 of real images, or None.
        held_out: whether those images are others than the ones behind mean and covariance.
        made: how it was made: source, crop, resize filter, rounding; JSON-able.
    """

    name: str
    extractor: str
    extractor_digest: str | None
    count: int | None
    mean: FloatArray
    covariance: FloatArray
    features: FeatureArray | None = None
    held_out: bool = False
    made: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the numbers and the extractor: references that give the same distances have the same digest."""
        digest = sha256(f"{self.extractor}\0{self.extractor_digest}\0{self.count}\0{self.held_out}\0".encode())
        for array in (self.mean, self.covariance, self.features):
            if array is not None:
                little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
                digest.update(f"{little.shape}\0".encode())
                digest.update(little.data)
        return digest.hexdigest()

    @cached_property
    def root(self) -> ReferenceRoot:
        """What Fréchet distances need, worked out once."""
        return ReferenceRoot.of(self.mean, self.covariance)

    @cached_property
    def kernel(self) -> KernelReference:
        """What kernel distances need, worked out once. Raises InputError if there are no features."""
        return KernelReference.of(self.real_features)

    @cached_property
    def gaussian(self) -> KernelReference:
        """What Gaussian kernel distances need, worked out once. Raises InputError if there are no features."""
        return KernelReference.of(self.real_features, KERNEL_WIDTHS[self.extractor])

    @cached_property
    def sliced(self) -> SlicedReference:
        """What sliced Wasserstein distances need, worked out once. Raises InputError if there are no features."""
        return SlicedReference.of(self.real_features)

    @property
    def real_features(self) -> FeatureArray:
        """The features. Raises InputError if there are none."""
        if self.features is None:
            raise InputError(f"reference: {self.why_no_kernel} Give images, or use the Fréchet distance alone.")
        return self.features

    @property
    def why_no_kernel(self) -> str | None:
        """Why there is no distance but the Fréchet distance, as a sentence; None if there is."""
        if self.features is not None:
            return None
        return (
            f"all but a Fréchet distance needs features of real images, but `{self.name}` has only mean and covariance."
        )


def load_reference(spec: str | Path, extractor: Extractor, preparation: Preparation | None = None) -> Reference:
    """Load a reference.

    Args:
        spec: a bundled name, a folder of images, an .npz, or a .safetensors file that `save_reference` wrote.
        extractor: whose feature space it is for; it works out the features of images.
        preparation: what is done to images; they are left as they are by default. Files of statistics ignore it.

    Raises:
        InputError: the file is missing, unreadable, of another kind or another extractor's, or has too few images.
    """
    path = BUNDLED_REFERENCES.get(str(spec), Path(spec))
    preparation = preparation or Preparation()
    if is_folder(path):
        files = image_files(path)
        images = _ImageFiles(path, "folder", files, len(files), batches_of_files(files, preparation))
        return _of_files(images, extractor, preparation)
    if not is_file(path):
        hint = nearest(str(spec), BUNDLED_REFERENCES, "Check the path.")
        raise InputError(f"reference: must be a folder, a file or a bundled name, but `{spec}` is none of them. {hint}")
    if path.suffix == ".npz":
        return _from_npz(path, extractor, preparation)
    if path.suffix == ".safetensors":
        return _from_safetensors(str(spec), path, extractor, _num_features(extractor, preparation))
    raise InputError(f"reference: must be a folder, .npz or .safetensors, but got `{path}`. Save it as one of these.")


def reference_of_images(
    name: str, batches: Iterable[Tensor], extractor: Extractor, made: Mapping[str, Any] | None = None
) -> Reference:
    """A reference of images in batches, uint8 (n, 3, H, W): all features are kept, in statistics and beside them.

    Raises:
        InputError: fewer than 8 images that differ, or images of different sizes.
    """
    return _of_features(name, _features_of(name, batches, extractor), extractor, made or {})


class _ImageFiles(NamedTuple):
    """Real images in a folder or an .npz: what is given, the files that hold them, their number, and themselves."""

    path: Path
    source: Literal["folder", "npz"]
    files: Sequence[Path]
    num_images: int
    batches: Iterable[Tensor]


def _of_files(images: _ImageFiles, extractor: Extractor, preparation: Preparation) -> Reference:
    """As `reference_of_images`, of images whose features may be known from before."""
    name = str(images.path)

    def make() -> FeatureArray:
        text = (
            f"working out the features of {images.num_images:,} real images of {name}; they are kept for other studies"
        )
        _LOG.info("reference", extra={"about": {"images": images.num_images, "text": text}})
        return _features_of(name, images.batches, extractor)

    made = {"source": images.source, "name": images.path.name} | preparation.record()
    features = kept_features(features_key(images.files, preparation, extractor), make)
    return _of_features(name, features, extractor, made)


def _features_of(name: str, batches: Iterable[Tensor], extractor: Extractor) -> FeatureArray:
    """(N, D) features of batches of images of one size."""
    chunks: list[FeatureArray] = []
    shapes, different = set[tuple[int, ...]](), set[int]()
    for batch in batches:
        shapes.add(tuple(batch.shape[1:]))
        if len(shapes) > 1:
            raise InputError(f"reference: the images of `{name}` must be of one size. Name the size to resize to.")
        different.update(hash(image.numpy().tobytes()) for image in batch)
        chunks.append(extractor(batch))
    if len(different) < MIN_IMAGES:
        count = sum(map(len, chunks))
        got = f"{count}" if len(different) == count else f"{count}, of which only {len(different)} differ"
        raise InputError(
            f"reference: must have {MIN_IMAGES} images or more that differ, but `{name}` has {got}. Give more images."
        )
    return np.concatenate(chunks)


def _of_features(name: str, features: FeatureArray, extractor: Extractor, made: Mapping[str, Any]) -> Reference:
    parts = [features[start : start + IMAGES_AT_ONCE] for start in range(0, len(features), IMAGES_AT_ONCE)]
    statistics = Statistics.of_chunks(parts)
    _check_moments(name, statistics.mean, statistics.covariance, extractor.name, extractor.dim)
    moments = (statistics.mean, statistics.covariance)
    return Reference(name, extractor.name, extractor.digest, len(features), *moments, features, False, made)


def save_reference(reference: Reference, path: Path) -> None:
    """Write a reference as .safetensors: covariance in single precision, features in half precision."""
    tensors: dict[str, NDArray[Any]] = {"mean": reference.mean, "covariance": reference.covariance.astype(np.float32)}
    if reference.features is not None:
        tensors["features"] = reference.features.astype(np.float16)
    described = {key: getattr(reference, key) for key in DESCRIPTION if key not in ("version", "made")}
    described |= {"version": _VERSION, "made": dict(reference.made)}
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(described, sort_keys=True)})


def _from_npz(path: Path, extractor: Extractor, preparation: Preparation) -> Reference:
    arrays = read_npz(path)
    # Published Inception references carry images beside the moments of a larger set, and are meant for the moments.
    if {"mu", "sigma"} <= arrays.keys() and (extractor.name == "inception" or not image_keys(arrays)):
        width = _num_features(extractor, preparation)
        return _from_moments(path, arrays["mu"], arrays["sigma"], extractor, width)
    images = images_of(path, arrays)
    packed = _ImageFiles(path, "npz", [path], len(images), batches_of_array(images, preparation))
    return _of_files(packed, extractor, preparation)


def _num_features(extractor: Extractor, preparation: Preparation) -> int | None:
    """How many features an image of the network's size has; None where neither the extractor nor a size tells."""
    if extractor.dim is not None or preparation.size is None:
        return extractor.dim
    return extractor(zeros(1, 3, *preparation.size, dtype=uint8)).shape[1]


def _from_moments(
    path: Path, mu: NDArray[Any], sigma: NDArray[Any], extractor: Extractor, width: int | None
) -> Reference:
    if not all(np.issubdtype(array.dtype, np.floating) for array in (mu, sigma)):
        raise InputError(f"reference: mu and sigma of `{path}` must be floating point. Save them as float64.")
    mean, covariance = mu.astype(np.float64), sigma.astype(np.float64)
    _check_moments(str(path), mean, covariance, extractor.name, width)
    made = {"source": "mu and sigma", "name": path.name}
    return Reference(str(path), extractor.name, None, None, mean, covariance, made=made)


def _from_safetensors(name: str, path: Path, extractor: Extractor, width: int | None) -> Reference:
    tensors, described = read_described(path)
    if (described["extractor"], described["extractor_digest"]) != (extractor.name, extractor.digest):
        same = described["extractor"] == extractor.name
        raise InputError(
            f"reference: `{path}` was made with the extractor `{described['extractor']}`, but the metric needs "
            f"`{extractor.name}`{' with other weights or preprocessing' if same else ''}. "
            "Choose the metric of the reference's extractor, or make the reference again."
        )
    mean, covariance = tensors["mean"].astype(np.float64), tensors["covariance"].astype(np.float64)
    _check_moments(name, mean, covariance, extractor.name, width)
    features = _features(name, tensors, len(mean))
    kept = (described["count"], mean, covariance, features, described["held_out"], described["made"])
    return Reference(name, extractor.name, extractor.digest, *kept)


def _features(name: str, tensors: Mapping[str, NDArray[Any]], dim: int) -> FeatureArray | None:
    if "features" not in tensors:
        return None
    features = tensors["features"].astype(np.float32)
    if features.ndim != 2 or features.shape[1] != dim or len(features) < MIN_IMAGES or not np.isfinite(features).all():
        raise InputError(
            f"reference: the features of `{name}` must be {MIN_IMAGES} rows or more of {dim} finite numbers, but are "
            f"not (shape {features.shape}). Make it again."
        )
    return features


def _check_moments(name: str, mean: FloatArray, covariance: FloatArray, extractor: str, width: int | None) -> None:
    """Raises InputError unless mean and covariance are those of a distribution of an extractor's `width` features."""
    dim = width if width is not None else mean.size
    if not dim or mean.shape != (dim,) or covariance.shape != (dim, dim):
        raise InputError(
            f"reference: the extractor `{extractor}` has {dim} features, so mean and covariance must be ({dim},) "
            f"and ({dim}, {dim}), but in `{name}` they are {mean.shape} and {covariance.shape}. Give a reference made "
            f"with `{extractor}`, or images."
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(f"reference: mean and covariance of `{name}` must be finite, but are not. Make it again.")
    scale = float(np.abs(covariance).max())
    if scale == 0:
        raise InputError(
            f"reference: the features of `{name}` must differ from image to image, but all are the same. Give images "
            "that differ, or another metric."
        )
    if not np.abs(covariance / 2 - covariance.T / 2).max() <= 0.5e-5 * scale:
        raise InputError(f"reference: the covariance of `{name}` must be symmetric, but is not. Make it again.")
    lowest = _lowest_eigenvalue(covariance, above=-1e-4 * scale)
    if lowest < -1e-4 * scale:
        raise InputError(
            f"reference: the covariance of `{name}` must have no negative eigenvalue, but has {lowest:.3g}. "
            "Make it again."
        )


def _lowest_eigenvalue(covariance: FloatArray, above: float) -> float:
    """The lowest eigenvalue; or `above`, if none is lower, in half the time."""
    try:
        np.linalg.cholesky(covariance - above * np.eye(len(covariance)))
    except np.linalg.LinAlgError:
        return float(np.linalg.eigvalsh(covariance)[0])
    return above
