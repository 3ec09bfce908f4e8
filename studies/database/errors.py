"""What a database's errors mean: which can be waited for, which a user must fix, and what to type next.

Among them are rows that no Exeunt wrote: SQLite takes any value in any column, and anybody can edit a file.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ...backends.errors import ExeuntError, InputError, StorageError
from .urls import masked_url, redact

if TYPE_CHECKING:  # every command names this module, and SQLAlchemy is imported where a database is opened
    from sqlalchemy import Engine

BUSY_SECONDS = 60.0
NO_ROOM = (ENOSPC, EDQUOT)


class Unreachable(StorageError):
    """The database could not be reached, or the transaction was cut off: the same one may succeed in a moment."""

    identifier = "storage-unreachable"


class NoRoom(Unreachable):
    """The database's disk is full; nothing was committed. Somebody may make room."""

    identifier = "storage-full"


def database_label(engine: Engine) -> str:
    """The database in words, without a password: a file's path, or a URL."""
    url = engine.url
    if url.get_backend_name() != "sqlite":
        return masked_url(url)
    database = str(url.database)
    return unquote(database.removeprefix("file:")) if database.startswith("file:") else database


@contextmanager
def storage_errors(engine: Engine) -> Generator[None]:
    """Within this block, a database that cannot do what it should raises `StorageError` or `InputError` with a fix.

    Violated constraints are mistakes of ours and pass through as they are.
    """
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, sqlite3.Error, *_optunas()) as error:
        raise explained(error, database_label(engine)) from error


def _optunas() -> tuple[type[Exception], ...]:
    """What Optuna wraps a database's error into; none where nothing has imported Optuna, which costs `status` half."""
    found = sys.modules.get("optuna.exceptions")
    return () if found is None else (found.StorageInternalError,)


def explained(error: BaseException, where: str) -> ExeuntError:
    """The driver's error with what to do about it. Optuna's wrapper around one counts as the one inside."""
    from sqlalchemy.exc import DBAPIError, OperationalError

    if isinstance(error, _optunas()):
        error = error.__cause__ or error
    if found := _recognised(error, where):
        return found
    original = error.orig if isinstance(error, DBAPIError) else error
    reason, state = _reason(original), _state(original)
    # libpq gives no code for a connection that it could not make, and none for one that broke.
    at_libpq = isinstance(error, OperationalError) and not state and not isinstance(original, sqlite3.Error)
    if at_libpq or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return Unreachable(f"storage: {where} {_AGAIN.format(reason=reason)}")
    return StorageError(f"storage: {where} cannot do this ({reason}). Check the database, and try again.")


def _recognised(error: BaseException, where: str) -> ExeuntError | None:
    """The driver's error with what to do about it, where its code or its words tell."""
    from sqlalchemy.exc import DBAPIError

    original = error.orig if isinstance(error, DBAPIError) else error
    reason, state = _reason(original), _state(original)
    by_code = ((kind, words) for codes, kind, words in _BY_CODE if state.startswith(codes))
    by_words = ((kind, words) for sign, kind, words in _BY_WORDS if sign in reason)
    for kind, words in by_code if state else by_words:
        if words is _DISK and not _has_room(Path(where)):
            kind, words = NoRoom, _ROOM
        return kind(f"storage: {where} {words.format(reason=reason, seconds=BUSY_SECONDS)}")
    return None


def _reason(original: object) -> str:
    return redact(str(original).strip().split("\n")[0])


def _state(original: object) -> str:
    return str(getattr(original, "sqlstate", None) or "")


def explained_by_disk(error: OSError, where: str) -> ExeuntError:
    """The same of what a database's file system says."""
    if error.errno in NO_ROOM:
        return NoRoom(f"storage: {where} {_ROOM}")
    return StorageError(f"storage: {where} {_DISK}")


def _has_room(file: Path) -> bool:
    """Whether a little more can be written beside a file. SQLite calls it an I/O error where a quota is reached, and
    where its shared memory finds no room: https://sqlite.org/rescode.html#ioerr."""
    try:
        with TemporaryFile(dir=file.parent) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


_PROBE_BYTES = 2**16  # twice what SQLite's shared memory grows by
_AGAIN = "is out of reach ({reason}). Check that it is running, and try again."
_ROOM = "has no room left on its disk. Make room and run `exeunt resume`; nothing committed is lost."
_DISK = "had a disk error while it was read or written. Check the disk, then run `exeunt resume`."
_PASSWORD = (
    "refuses this user's password ({reason}). Put the right one into the URL in EXEUNT_STORAGE, or into ~/.pgpass."
)

# Words of SQLite, of SQLAlchemy's pool, and of libpq while it connects, when there is no code yet.
_BY_WORDS: tuple[tuple[str, type[ExeuntError], str], ...] = (
    (
        "file is not a database",
        InputError,
        "must be an SQLite database, but is another kind of file. Choose another name.",
    ),
    (
        "is locked",
        Unreachable,
        "stayed locked for {seconds:g} s by another process. Try again when that one has ended.",
    ),
    ("readonly database", StorageError, "cannot be written. Check the permissions of the file and its folder."),
    ("unable to open", StorageError, "cannot be opened. Check the permissions of the file and its folder."),
    ("disk is full", NoRoom, _ROOM),
    ("malformed", StorageError, "is damaged. Restore it from a backup."),
    ("disk I/O error", StorageError, _DISK),
    ("QueuePool limit", Unreachable, "was busy for two minutes in this process. Try again."),
    ("password authentication failed", InputError, _PASSWORD),
    ("no password supplied", InputError, _PASSWORD),
    (
        "no pg_hba.conf entry",
        InputError,
        "does not accept connections of this user from here ({reason}). Ask its administrator.",
    ),
    ("FATAL:  database", InputError, "does not exist ({reason}). Make it with `createdb`, or correct the URL."),
    ("FATAL:  role", InputError, "does not know this user ({reason}). Correct the URL."),
    ("invalid connection option", InputError, "has an option that libpq does not know. Correct the URL."),
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_CODE: tuple[tuple[tuple[str, ...], type[ExeuntError], str], ...] = (
    (("53100",), NoRoom, _ROOM),
    (
        ("25006",),
        StorageError,
        "accepts no changes at the moment ({reason}). Check that it is the primary server, and try again.",
    ),
    (
        ("42501",),
        InputError,
        "does not grant this user enough rights ({reason}). Grant SELECT, INSERT, UPDATE and DELETE on its tables.",
    ),
    # Connections that break, shortage, shut-downs, deadlocks, transactions that were too slow or too late.
    (("08", "53", "57P", "40", "25P03", "55P03"), Unreachable, _AGAIN),
)


# What taking a value for something else raises; a file that can't be read at all is for `storage_errors`.
STRANGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError)


@contextmanager
def contradicting_rows(where: str) -> Generator[None]:
    """Within this block, which works on a study, rows that contradict what is written beside them raise `StorageError`.

    `where` is the database in words, without a password.
    """
    from sqlalchemy.exc import IntegrityError

    try:
        yield
    except IntegrityError as error:
        raise _foreign(where, error) from error


@contextmanager
def corrupt_rows(where: str) -> Generator[None]:
    """Within this block rows that make no sense raise `StorageError` with what to do.

    It reads, or writes in transactions that such an error takes back.

    `where` is the database in words, without a password.
    """
    from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

    try:
        yield
    except (ExeuntError, IntegrityError):
        raise
    except (*STRANGE, SQLAlchemyError) as error:
        # A disk or a lock that is in the way is no fault of the rows.
        known = _recognised(error, where) if isinstance(error, OperationalError) else None
        if isinstance(known, Unreachable) or (known is not None and str(known).endswith(_DISK)):
            raise known from error
        raise _foreign(where, error) from error


@contextmanager
def corrupt_values(where: str) -> Generator[None]:
    """Within this block, which reads rows, values that make no sense raise `StorageError`; a database's own errors
    stay what they are, since waiting may help with them."""
    try:
        yield
    except STRANGE as error:
        raise _foreign(where, error) from error


def foreign(where: str, reason: str) -> StorageError:
    """The error for a database, in words, with contents that Exeunt cannot have written."""
    return StorageError(
        f"storage: {where} holds something that Exeunt did not write ({reason}). "
        "Type `exeunt db check`, or restore it from a backup."
    )


def _foreign(where: str, error: Exception) -> StorageError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return foreign(where, f"{type(error).__name__}: {reason}")
