"""Files that no row names: of workers that died between a file and its row, and of rows that were collected.

A worker may be about to commit the row of a file that is being looked at. So nothing is removed but under a lock that
keeps such commits out, after rows were looked at once more; and a commit looks once more for its file, which it writes
again if it is gone. Beyond that, files that nobody ever named are left alone until they are a day old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import ColumnElement, Connection, func, select, text, true

from .carrying import KINDS
from .features import SUFFIX
from .files import Files
from .store import Store
from .tables import CHUNKS, FILES
from .transactions import writing

OLD_ENOUGH = 86_400.0  # seconds
BATCH = 100


def named(connection: Connection, chunks: ColumnElement[bool] | None = None) -> set[str]:
    """The names of all files that rows refer to; of chunks, only those that meet a condition if one is given."""
    return set(_chunk_files(connection, chunks)) | set(_study_files(connection))


def loose(files: Files, kept: Collection[str], forgotten: Collection[str], older_than: float) -> dict[str, int]:
    """The files that `kept` has not, with their bytes: those of rows that go as well, others if they are old enough."""
    return {
        stored.name: stored.num_bytes
        for stored in files.listed()
        if stored.name not in kept and (stored.name in forgotten or stored.age_seconds >= older_than)
    }


def sweep(store: Store, names: Collection[str]) -> list[str]:
    """Removes those of some files that no row names, and returns their names."""
    removed: list[str] = []
    store.files.find()
    for batch in _batches(sorted(names)):
        with writing(store.engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE exeunt_chunks, exeunt_files IN SHARE ROW EXCLUSIVE MODE"))
            digests = [name.partition(".")[0] for name in batch]
            there = set(_chunk_files(connection, CHUNKS.c.sha256.in_(digests)))
            there |= set(_study_files(connection, FILES.c.sha256.in_(digests)))
            gone = [name for name in batch if name not in there]
            for name in gone:
                store.files.store.remove(name)
            removed += gone
    return removed


def _chunk_files(connection: Connection, among: ColumnElement[bool] | None = None) -> Iterator[str]:
    query = select(CHUNKS.c.sha256).where(func.length(CHUNKS.c.features) == 0, true() if among is None else among)
    return (f"{digest}.{SUFFIX}" for digest in connection.execute(query).scalars())


def _study_files(connection: Connection, among: ColumnElement[bool] | None = None) -> Iterator[str]:
    query = select(FILES.c.kind, FILES.c.sha256).where(FILES.c.content == "", true() if among is None else among)
    return (f"{digest}.{KINDS[kind]}" for kind, digest in connection.execute(query) if kind in KINDS)


def _batches(values: list[str]) -> Iterator[list[str]]:
    return (values[start : start + BATCH] for start in range(0, len(values), BATCH))
