"""The files of one database: where its store is, that it is its own, and which rows they are the contents of.

Unless a user names a store, those of an SQLite database are in a folder beside it. A server's database must name one
that every worker can read. What proves it is a marker: a file with a token that was drawn when the store was taken into
use, and that stands in the database too. So nobody writes to a folder of the same name on another machine, and no two
databases share a store, where one would remove as garbage what the other needs.

A row stands for contents: a file in the store, or in backups and earlier versions a column of the row itself.
"""

import base64
import json
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, Table, func, select, text

from ...backends.errors import ExeuntError, InputError
from ..database.errors import Unreachable, database_label
from ..database.tables import ARTIFACTS, CHUNKS, FILES
from ..database.transactions import clock, is_read_only, read, retry, writing
from . import base
from .base import MARKER, ArtifactStore, DamagedArtifact, ListedFile, Location, MissingArtifact, locate, sha256_of
from .folder import FolderStore

VARIABLE = "EXEUNT_ARTIFACTS"
INTENDED, TAKEN = 0, 1  # rows of ARTIFACTS: the store that is being taken into use, and the one that is in use
MAX_MARKER_BYTES = 10_000


@final
class Files:
    """The files that rows of a database name, in the store that is found when it is first needed.

    Args:
        engine: the database's.
        given: the store that a user named for it, a URL or a folder; else what `EXEUNT_ARTIFACTS` says about a
            server's database, or where the database says that it is.
    """

    def __init__(self, engine: Engine, given: str | None = None) -> None:
        self._engine = engine
        self._given = given or (os.environ.get(VARIABLE, "").strip() or None if _is_server(engine) else None)

    @cached_property
    def store(self) -> ArtifactStore:
        """The store, which belongs to this database. One that was named for a database without any is taken into use.

        Raises:
            InputError: there is none, it can't be used, or its marker is not this database's.
            Unreachable: it is out of reach.
        """
        row = read(self._engine, _row)
        if row is None and self._given is None:
            return self._beside()
        if row is None and not is_read_only(self._engine):
            return retry(self._engine, self._take)
        return retry(self._engine, lambda: self._proved(row))

    @property
    def are_used(self) -> bool:
        """Whether the database has a store: one on a server that comes from an earlier version may have none yet."""
        return not _is_server(self._engine) or read(self._engine, _row) is not None

    def find(self) -> None:
        """Finds the store, if the database has one, before a transaction begins in which it is needed."""
        if self.are_used:
            _ = self.store

    def put(self, data: bytes, suffix: str) -> str:
        """Writes a file, durably, and returns the digest of its contents. The row that names it comes afterwards."""
        return base.put(self.store, data, suffix).partition(".")[0]

    def get(self, digest: str, suffix: str, num_bytes: int) -> bytes:
        """A file's contents. Raises `MissingArtifact` or `DamagedArtifact`."""
        return base.get(self.store, f"{digest}.{suffix}", num_bytes)

    def require(self, digest: str, suffix: str) -> None:
        """Raises `Unreachable`, which is tried again, for a file that was collected as garbage before its row came."""
        if not self.store.holds(f"{digest}.{suffix}"):
            raise Unreachable(f"artifacts: {digest}.{suffix} was removed while it was committed. Trying again.")

    def listed(self) -> list[ListedFile]:
        """All files of the store, whether a row names them or not."""
        return list(self.store.files()) if self.are_used else []

    def _beside(self) -> FolderStore:
        if _is_server(self._engine):
            raise InputError(
                f"artifacts: a database on a server must name a place for files that all workers can read, but "
                f"{database_label(self._engine)} names none. Add --artifacts with {base.KNOWN}, or set {VARIABLE}."
            )
        folder = folder_beside(self._engine)
        if not is_read_only(self._engine) and not folder.is_dir() and read(self._engine, _has_files):
            raise InputError(
                f"artifacts: the files of {database_label(self._engine)} must be in {folder}, but that folder does not "
                "exist. Move it back. If it is lost, make it with mkdir: the search samples again what it needs."
            )
        return FolderStore(folder, makes=True)

    def _take(self) -> ArtifactStore:
        """Takes the named store into use, unless another process does at this moment; then that one's holds."""
        assert self._given is not None
        location = locate(self._given)
        store = open_artifacts(location)
        token = self._intend(location.url)
        with self._alone() as connection:
            row = _row(connection)
            if row is None:
                if _has_files(connection):  # A store that is named late would leave what is in the folder behind.
                    raise InputError(
                        f"artifacts: {database_label(self._engine)} keeps its files in {folder_beside(self._engine)}. "
                        "Omit --artifacts, or copy the study with `exeunt study copy NAME --to OTHER.db --artifacts "
                        "PLACE`."
                    )
                _mark(store, location, token)
                values = {"id": TAKEN, "url": location.url, "token": token, "created": clock()}
                connection.execute(ARTIFACTS.insert().values(values))
            connection.execute(ARTIFACTS.delete().where(ARTIFACTS.c.id == INTENDED))
        return store if row is None else self._proved(row)

    def _intend(self, url: str) -> str:
        """The token for a store's marker, committed before it is written: who is killed between the marker and the row
        of the store that is in use leaves a marker that the next one knows."""
        with self._alone() as connection:
            intended = ARTIFACTS.c.id == INTENDED
            found = connection.execute(select(ARTIFACTS).where(intended)).first()
            if found is not None and found.url == url:
                return found.token
            token = secrets.token_hex(16)
            connection.execute(ARTIFACTS.delete().where(intended))
            values = {"id": INTENDED, "url": url, "token": token, "created": clock()}
            connection.execute(ARTIFACTS.insert().values(values))
            return token

    @contextmanager
    def _alone(self) -> Generator[Connection]:
        """A durable transaction during which nobody else takes a store into use."""
        with writing(self._engine, durable=True) as connection:
            if _is_server(self._engine):
                connection.execute(text("LOCK TABLE exeunt_artifacts IN EXCLUSIVE MODE"))
            yield connection

    def _proved(self, row: Row[Any] | None) -> ArtifactStore:
        """The store that was named, else the database's, once its marker was read."""
        url = self._given or (row.url if row is not None else "")
        store = open_artifacts(locate(url))
        if row is None or _token(store) != row.token:
            stated = "has no place for files" if row is None else f"keeps its files in {row.url}"
            raise InputError(
                f"artifacts: {store.url} does not have the marker of {database_label(self._engine)}, which {stated}. "
                f"Mount the database's own place here and name it with --artifacts or {VARIABLE}, or omit these."
            )
        return store


def folder_beside(engine: Engine) -> Path:
    """The folder of an SQLite database's files, for as long as it names no other store."""
    return Path(f"{database_label(engine)}-files")


def _is_server(engine: Engine) -> bool:
    return engine.url.get_backend_name() != "sqlite"


def _row(connection: Connection) -> Row[Any] | None:
    return connection.execute(select(ARTIFACTS).where(ARTIFACTS.c.id == TAKEN)).first()


def _has_files(connection: Connection) -> bool:
    query = select(CHUNKS.c.id).where(func.length(CHUNKS.c.features) == 0).limit(1)
    return connection.execute(query).first() is not None


def _mark(store: ArtifactStore, location: Location, token: str) -> None:
    """Writes the marker with this token, unless it is there.

    Raises:
        InputError: another database's is there.
    """
    if (found := _token(store)) == token:
        return
    if found is not None:
        raise InputError(
            f"artifacts: {store.url} must be unused, but its marker says that it belongs to another database. Name "
            f"another place; if that database no longer exists, remove all files here, {MARKER} too."
        )
    if isinstance(store, FolderStore):
        store.make()
    store.write(MARKER, json.dumps({"exeunt": "artifacts", "token": token, "url": location.url}).encode())


def _token(store: ArtifactStore) -> str | None:
    """The token in a store's marker, or None if it has none."""
    try:
        found = json.loads(store.read(MARKER, MAX_MARKER_BYTES))
    except MissingArtifact:
        return None
    except (ValueError, RecursionError):
        return ""
    token = cast(dict[str, Any], found).get("token") if isinstance(found, dict) else None
    return token if isinstance(token, str) and token else ""


def open_artifacts(location: Location) -> ArtifactStore:
    """The store at a place. Raises `InputError` where what it needs is not installed."""
    if location.scheme == "s3":
        from .s3 import BucketStore

        return BucketStore(location)
    return FolderStore(Path(location.path))


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
    """The ending of that name."""
    return FEATURES_SUFFIX if table is CHUNKS else CONTENT_KINDS.get(row["kind"], "unknown")
