"""Features of real images, kept in a folder, so that the next study on the same images starts at once.

They are kept under the digests of the images' files, of the preparation and of the extractor. Of several processes that
want the same ones, the first works them out and the others wait. A folder that can't be written costs the time alone.
"""

import fcntl
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from json import dumps
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .extractors import Extractor, FeatureArray
from .reference_images import Preparation

VARIABLE = "EXEUNT_CACHE"
_VERSION = 1
_DIGEST, _FEATURES = "sha256", "features"


def cache_folder() -> Path:
    """Where features are kept: in the folder that `EXEUNT_CACHE` names, else in the user's cache."""
    named = os.environ.get(VARIABLE) or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "exeunt")
    return Path(os.path.expanduser(named)) / "references"


def features_key(files: Iterable[Path], preparation: Preparation, extractor: Extractor) -> str:
    """What tells features apart: the bytes of files, what is done to their images, and the extractor."""
    about = {"version": _VERSION, "extractor": [extractor.name, extractor.digest], "made": preparation.record()}
    digest = sha256(dumps(about, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()


def kept_features(key: str, make: Callable[[], FeatureArray]) -> FeatureArray:
    """The features (N, D) that are kept under a key; made, and kept, where none are."""
    path = cache_folder() / f"{key}.safetensors"
    if (found := _read(path)) is not None:
        return found
    with _turn(path):
        found = _read(path)
        if found is None:
            found = make()
            _write(path, found)
        return found


def _read(path: Path) -> FeatureArray | None:
    try:
        with safe_open(path, framework="numpy") as content:
            features, wanted = content.get_tensor(_FEATURES), (content.metadata() or {}).get(_DIGEST)
    except (OSError, SafetensorError):
        return None
    usable = features.dtype == np.float32 and features.ndim == 2 and wanted == sha256(features.data).hexdigest()
    return features if usable else None


def _write(path: Path, features: FeatureArray) -> None:
    draft = path.with_suffix(f".{os.getpid()}.part")
    features = np.ascontiguousarray(features)
    try:
        save_file({_FEATURES: features}, draft, metadata={_DIGEST: sha256(features.data).hexdigest()})
        draft.replace(path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def _turn(path: Path) -> Generator[None]:
    """Waits while another process makes the same file."""
    lock = path.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink(missing_ok=True)
