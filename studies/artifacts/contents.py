"""Contents that rows stand for: a file in the store, or in backups and earlier versions a column of the row itself."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Table

from ...backends.errors import ExeuntError
from ..database.tables import CHUNKS, FILES
from .base import DamagedArtifact, sha256_of
from .files import Files

_Row = dict[str, Any]
# The columns that hold contents, or nothing where these are a file.
CONTENTS = {CHUNKS.name: "features", FILES.name: "content"}
# What ends the names of a study's files, by their kinds.
CONTENT_KINDS = {"samples": "png", "schedule": "schedule.json"}
STORED = np.dtype("<f2")
FEATURES_SUFFIX = "f16"
_LARGEST = float(np.finfo(np.float16).max)


class UnusableFeatures(ExeuntError):
    """Features that are not finite, or too large to be stored: the images are broken."""

    identifier = "unusable-features"


def packed_features(features: NDArray[np.float32], first_image: int) -> bytes:
    """Features (n, D) of images from `first_image` on, as they are stored: in half precision.

    Raises:
        UnusableFeatures: one is not finite or beyond 65504.
    """
    assert features.ndim == 2
    assert features.size > 0
    if not np.all(np.abs(features) <= _LARGEST):  # NaN compares false
        last = first_image + len(features) - 1
        raise UnusableFeatures(
            f"features of images {first_image} to {last} must be finite and at most {_LARGEST:g}, but some are not. "
            "The network diverges with this schedule and dtype."
        )
    return np.ascontiguousarray(features, dtype=STORED).tobytes()


def packed_statistics(statistics: NDArray[np.float32] | None) -> str | None:
    """Statistics (n, S) of the pixels of images, as their column holds them; they cost a relative 5e-4 of each."""
    if statistics is None:
        return None
    assert np.isfinite(statistics).all()
    return base64.b64encode(np.ascontiguousarray(statistics, dtype=STORED).tobytes()).decode()


def unpacked_statistics(text: str | None, num_images: int) -> NDArray[np.float32] | None:
    """The inverse of `packed_statistics`, but for rounding. Raises ValueError for what it did not write."""
    if text is None:
        return None
    values = np.frombuffer(base64.b64decode(text, validate=True), dtype=STORED)
    return values.reshape(num_images, -1).astype(np.float32)


@dataclass(frozen=True)
class ContentMover:
    """Takes contents to where `there` keeps its own.

    Attributes:
        here: the files of the rows that come.
        there: those of the database that they are put in.
        packs: whether they stand in its rows, which makes it a backup that needs nothing beside it.
    """

    here: Files
    there: Files
    packs: bool = False

    def moved(self, table: Table, row: _Row) -> _Row:
        """The row as the other database has it, with its contents there for good.

        Raises:
            MissingArtifact, DamagedArtifact: the contents are not available.
        """
        if table.name not in CONTENTS:
            return row
        data = contents(table, row, self.here)
        if self.packs:
            return row | {CONTENTS[table.name]: in_row(table, data)}
        self.there.put(data, suffix(table, row))
        return row | {CONTENTS[table.name]: b"" if table is CHUNKS else ""}

    def arrived(self, table: Table, row: _Row) -> _Row:
        """A row of the other database, with the digest of the contents that are there in place of the stated one."""
        if table.name not in CONTENTS:
            return row
        return row | {"sha256": sha256_of(contents(table, row, self.there))}


def contents(table: Table, row: Mapping[Any, Any], files: Files) -> bytes:
    """What a row stands for, from its file or its column, as it was committed.

    Raises:
        MissingArtifact, DamagedArtifact: it is not available.
    """
    held = row[CONTENTS[table.name]]
    if not held:
        is_chunk = table is CHUNKS
        num_bytes = row["num_images"] * row["width"] * STORED.itemsize if is_chunk else row["num_bytes"]
        return files.get(str(row["sha256"]), suffix(table, row), num_bytes)
    try:
        data = bytes(held) if table is CHUNKS else base64.b64decode(held, validate=True)
    except ValueError:
        data = b""
    if sha256_of(data) != row["sha256"]:
        raise DamagedArtifact("the row changed. Restore a backup of the database.")
    return data


def in_row(table: Table, data: bytes) -> bytes | str:
    """Contents as their column holds them."""
    return data if table is CHUNKS else base64.b64encode(data).decode()


def file_name(table: Table, row: _Row) -> str:
    """The name of a row's file in the store."""
    return f"{row['sha256']}.{suffix(table, row)}"


def suffix(table: Table, row: Mapping[Any, Any]) -> str:
    """What ends it."""
    return FEATURES_SUFFIX if table is CHUNKS else CONTENT_KINDS.get(row["kind"], "unknown")
