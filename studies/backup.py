"""Backups while work goes on: one SQLite file that `--storage` opens."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from ..backends.errors import InputError, StorageError
from .copying import copy_study
from .faults import explained, place
from .store import Store, open_store


@dataclass(frozen=True)
class Backup:
    """Where it is, what is in it, and how large it is."""

    path: Path
    studies: list[str]
    num_bytes: int


def back_up(store: Store, path: Path) -> Backup:
    """Writes a database to an SQLite file, all of it or nothing, and checks the file.

    Of SQLite it is the very database at one moment. Of PostgreSQL it is a copy of each study, each at one moment; to
    restore one, copy it back.

    Raises:
        InputError: the file is there, or can't be written.
        StorageError: the database is out of reach, or the backup is not sound.
    """
    studies = store.studies.names()
    if store.engine.url.get_backend_name() == "sqlite":
        back_up_file(store.engine, path)
    else:
        with _draft(path) as draft, open_store(f"sqlite:///{draft}") as target:
            for study in studies:
                copy_study(store, target, study)
    return Backup(path, studies, path.stat().st_size)


def back_up_file(engine: Engine, path: Path) -> None:
    """The same of an SQLite database of any version."""
    with _draft(path) as draft:
        raw = engine.raw_connection()
        try:
            with closing(sqlite3.connect(draft)) as target:
                source = raw.driver_connection
                assert isinstance(source, sqlite3.Connection)
                source.backup(target)
        except sqlite3.Error as error:
            raise explained(error, place(engine)) from error
        finally:
            raw.close()


@contextmanager
def _draft(path: Path) -> Generator[Path]:
    """A file beside `path` that takes its place once the block has ended and the file was checked."""
    path = path.absolute()
    if path.exists():
        raise InputError(f"backup: {path} is there already. Choose another name.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"backup: no file can be written in {path.parent}. Make the folder, or choose another one.")
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
        raise StorageError(f"backup: the file is not sound ({found[0][0]}). Run `exeunt db check` on the database.")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
