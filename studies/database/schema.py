"""The version of our tables: made in an empty database, checked in any other, upgraded when a user says so.

A database that is current is only read, so workers need no right to change tables. Creation and upgrade happen under a
lock that the kernel or the server frees when its holder dies, and commit whole, so one that is cut off is completed by
the next.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, select, text

from ...backends.errors import InputError, StorageError
from .errors import database_label
from .migrations import CURRENT
from .tables import METADATA, VERSION_TABLE
from .transactions import postgresql_arguments, reading, writing
from .urls import file_url, typed_url

OPTUNA_TABLES = frozenset({"studies", "trials", "version_info"})
ADVISORY_LOCK = 0x657865756E74  # "exeunt"


class NoStudyYet(InputError):
    """The database is empty, or another process is making its tables at this moment."""

    identifier = "no-study-yet"


@dataclass(frozen=True)
class FoundTables:
    """What is in a database: its tables, our version (0 without our tables), and whether Optuna's are whole."""

    tables: frozenset[str]
    version: int
    optuna: bool

    @property
    def is_current(self) -> bool:
        return self.version == CURRENT and self.optuna


def inspect_tables(connection: Connection) -> FoundTables:
    """Looks without changing anything."""
    tables = frozenset(inspect(connection).get_table_names())
    version = connection.execute(select(VERSION_TABLE.c.version)).scalar() if VERSION_TABLE.name in tables else None
    stamped = "alembic_version" in tables and connection.execute(text("SELECT 1 FROM alembic_version")).first()
    return FoundTables(tables, version or 0, bool(stamped))


def check_tables(engine: Engine) -> None:
    """Raises `InputError` unless the database has our current tables and Optuna's; `NoStudyYet` if it has none."""
    with reading(engine) as connection:
        found = inspect_tables(connection)
    _refuse(found, engine)
    if not found.is_current:
        raise NoStudyYet(
            f"storage: {database_label(engine)} holds no study yet. "
            f"Start one with `exeunt optimize --storage {engine_url(engine)}`."
        )


def ensure_tables(engine: Engine) -> None:
    """Makes the tables in an empty database.

    Raises:
        InputError: it has another version than this Exeunt, or belongs to something else; nothing was changed.
    """
    with reading(engine) as connection:
        found = inspect_tables(connection)
    _refuse(found, engine)
    sqlite = engine.url.get_backend_name() == "sqlite"
    if found.is_current and (not sqlite or _journal_mode(engine) == "wal"):
        return
    with creation_lock(engine):
        if sqlite:
            use_wal(engine)
        with writing(engine) as connection:
            if inspect_tables(connection).version == 0:
                METADATA.create_all(connection)
                stamp(connection)
        from .optuna.storage import create_optuna_tables

        create_optuna_tables(engine)


def stamp(connection: Connection) -> None:
    connection.execute(VERSION_TABLE.delete())
    connection.execute(VERSION_TABLE.insert().values(version=CURRENT))


def engine_url(engine: Engine) -> str:
    """The URL that a user types for this engine, without a password."""
    sqlite = engine.url.get_backend_name() == "sqlite"
    return file_url(database_label(engine)) if sqlite else typed_url(engine.url)


def _refuse(found: FoundTables, engine: Engine) -> None:
    """Refuses what `refuse_foreign` does, and an older version, which only `upgrade` may change."""
    refuse_foreign(found, engine)
    if 0 < found.version < CURRENT:
        raise InputError(
            f"storage: this Exeunt works on databases of version {CURRENT}, but {database_label(engine)} has version "
            f"{found.version}. Type `exeunt db upgrade --storage {engine_url(engine)}`; a backup is made first."
        )


def refuse_foreign(found: FoundTables, engine: Engine) -> None:
    where = database_label(engine)
    if found.version > CURRENT:
        raise InputError(
            f"storage: this Exeunt reads databases up to version {CURRENT}, but {where} has version {found.version}. "
            "Install a newer one: pip install --upgrade exeunt."
        )
    if found.version == 0 and found.tables >= OPTUNA_TABLES:
        raise InputError(
            f"storage: {where} is a database of Optuna studies without Exeunt's tables. Choose another one for Exeunt."
        )
    if found.version == 0 and found.tables:
        listed = ", ".join(sorted(found.tables)[:3])
        raise InputError(
            f"storage: {where} belongs to another program (it has the tables {listed}). Choose another one."
        )


@contextmanager
def creation_lock(engine: Engine) -> Generator[None]:
    """Keeps two processes from creating tables at once, for as long as the block lasts or its process lives.

    For SQLite the lock is on the folder: closing a second handle of the database file would drop SQLite's own locks.
    """
    if engine.url.get_backend_name() == "sqlite":
        folder = os.open(Path(database_label(engine)).parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    else:
        arguments = postgresql_arguments(engine.url, False, "exeunt-creation")
        # It waits for another creation in the middle of a transaction of its own.
        arguments["options"] += " -c idle_in_transaction_session_timeout=0"
        beside = create_engine(engine.url, poolclass=NullPool, connect_args=arguments)
        with beside.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
            yield


def _journal_mode(engine: Engine, wanted: str = "") -> str:
    """SQLite's journal mode, after asking for another one where that is wanted."""
    with closing(engine.raw_connection()) as raw:
        return raw.cursor().execute(f"PRAGMA journal_mode{wanted}").fetchone()[0]


def use_wal(engine: Engine) -> None:
    mode = _journal_mode(engine, "=WAL")
    if mode != "wal":
        raise StorageError(
            f"storage: SQLite cannot keep a write-ahead log for {database_label(engine)} (its mode is {mode}), because "
            "the file system does not share memory. Use a local folder."
        )
