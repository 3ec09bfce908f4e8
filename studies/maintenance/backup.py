"""Backups while work goes on: one SQLite file that `--storage` opens, with all files packed into its rows."""

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, and_, func, select

from ...backends.checkpoints.files import is_folder, path_exists
from ...backends.errors import InputError, StorageError
from ..artifacts.files import CONTENTS, Files, contents, in_row
from ..database.errors import database_label, explained
from ..database.tables import ARTIFACTS, CHUNKS, FILES
from ..database.transactions import writing
from ..database.urls import file_url
from ..store.store import Store, open_store
from .copy import copy_study

DRAFT_BYTES = len("..draft-4194304-journal")  # what the names of a draft and of its log are longer


@dataclass(frozen=True)
class Backup:
    """Where it is, what is in it, and how large it is."""

    path: Path
    studies: list[str]
    num_bytes: int


def back_up(store: Store, path: Path) -> Backup:
    """Writes a database to an SQLite file, all of it or nothing, and checks the file.

    Of SQLite it is the very database at one moment. Of PostgreSQL it is a copy of each study, each at one moment; to
    restore one, copy it back. Its rows hold what are files elsewhere, so it needs nothing beside it.

    Raises:
        InputError: the file is there, or can't be written.
        StorageError: the database or its files are out of reach, or the backup is not sound.
    """
    studies = store.studies.names()
    with _draft(path) as draft:
        if store.engine.url.get_backend_name() == "sqlite":
            _copy_file(store.engine, draft)
            with open_store(file_url(draft)) as target:
                _pack(target, store.files)
        else:
            with open_store(file_url(draft)) as target:
                for study in studies:
                    copy_study(store, target, study, packs=True)
    return Backup(path, studies, path.stat().st_size)


def back_up_file(engine: Engine, path: Path) -> None:
    """Writes an SQLite database of any version to a file as it is, and checks it; files beside it stay where they are.

    Errors are those of `back_up`.
    """
    with _draft(path) as draft:
        _copy_file(engine, draft)


def _copy_file(engine: Engine, draft: Path) -> None:
    try:
        with closing(engine.raw_connection()) as raw, closing(sqlite3.connect(draft)) as target:
            source = raw.driver_connection
            assert isinstance(source, sqlite3.Connection)
            source.backup(target)
    except sqlite3.Error as error:
        raise explained(error, database_label(engine)) from error


def _pack(target: Store, files: Files) -> None:
    """Takes what are files into their rows, one at a time, since they need not all fit into memory."""
    files.find()
    with writing(target.engine) as connection:
        connection.execute(ARTIFACTS.delete())
        for table in (CHUNKS, FILES):
            key, column = list(table.primary_key.columns), table.c[CONTENTS[table.name]]
            empty = func.length(column) == 0
            for values in connection.execute(select(*key).where(empty)).all():
                same = and_(*(each == value for each, value in zip(key, values, strict=True)))
                row = dict(connection.execute(select(table).where(same)).mappings().one())
                held = in_row(table, contents(table, row, files))
                connection.execute(table.update().where(same).values({column: held}))


@contextmanager
def _draft(path: Path) -> Generator[Path]:
    """A file beside `path` that takes its place once the block has ended and the file was checked."""
    path = path.absolute()
    if path_exists(path):
        raise InputError(f"backup: {path} must not exist yet, but does. Choose another name.")
    if not is_folder(path.parent) or not os.access(path.parent, os.W_OK):
        raise InputError(f"backup: no file can be written in {path.parent}. Make the folder, or choose another one.")
    if len(os.fsencode(path.name)) > (most := os.pathconf(path.parent, "PC_NAME_MAX") - DRAFT_BYTES):
        raise InputError(
            f"backup: a file's name must have at most {most} bytes in {path.parent}. Choose a shorter one."
        )
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        yield draft
        _check(draft)
        draft.replace(path)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _check(draft: Path) -> None:
    """Makes one file of it, which needs no log beside it, waits for the disk, and reads it whole."""
    with closing(sqlite3.connect(draft)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        found = connection.execute("PRAGMA integrity_check").fetchall()
    if found != [("ok",)]:
        raise StorageError(f"backup: the file is damaged ({found[0][0]}). Run `exeunt db check` on the database.")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
