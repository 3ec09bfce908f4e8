"""Transactions on a study database, and its clock.

A transaction is opened by `reading` (a consistent view that blocks nobody) or by `writing` (the database's only writer,
from its first statement on). With SQLite's own default, a transaction that reads first and writes later fails or acts
on what is no longer true; Optuna hands one queued trial to two workers that way. So whatever Optuna may write in is
opened for writing. What it only reads is not: thousands of trials take a second, for which nobody else could write.

A server that restarts, or a connection that is cut, costs a worker a wait and nothing else: transactions are repeated.
One that was cut off may have been committed without its answer. So everything that is repeated is written to be
repeated: rows are inserted once by a key, and a fencing token refuses those that come too late.
"""

import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, Float, Table, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ...backends.errors import InputError
from .. import interruption
from . import errors
from .errors import Unreachable, database_label, storage_errors

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

READ_ONLY = "exeunt_read_only"
WRITE = "exeunt_write"


class clock(FunctionElement[float]):
    """The database's clock in seconds since 1970, with milliseconds. It moves within a transaction."""

    type = Float()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql_clock(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def pool_arguments(url: URL) -> dict[str, Any]:
    """One connection an engine, so that a worker has two with Optuna's; a server that restarted is noticed."""
    sizes = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 2 * errors.BUSY_SECONDS}
    return sizes if url.get_backend_name() == "sqlite" else {**sizes, "pool_pre_ping": True}


# No value of ours is longer; one that is, in a file that somebody made, is refused before memory is taken for it.
_MOST_BYTES = 2**28


class _Connection(sqlite3.Connection):
    """Leaves transactions to SQLAlchemy's events, and waits for the disk only in durable transactions."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.isolation_level = None
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
        self.execute("PRAGMA synchronous=NORMAL")
        self.execute("PRAGMA foreign_keys=ON")


def sqlite_arguments() -> dict[str, Any]:
    """What the driver's `connect` takes for our transactions."""
    return {"timeout": errors.BUSY_SECONDS, "factory": _Connection}


def postgresql_arguments(url: URL, read_only: bool, name: str) -> dict[str, Any]:
    """What the driver's `connect` takes: a connection that died is noticed, and a stuck writer's locks are freed."""
    seconds = round(errors.BUSY_SECONDS)
    own = "default_transaction_read_only=on" if read_only else f"idle_in_transaction_session_timeout={seconds}s"
    arguments: dict[str, Any] = {
        "application_name": name,
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * seconds,
    }
    given = {option: value for option, value in arguments.items() if option not in url.query}
    return {**given, "options": f"{url.query.get('options', '')} -c {own}".strip()}


def open_transactions(engine: Engine, may_write: Callable[[], bool] = lambda: False) -> None:
    """Makes an SQLite engine open its transactions as `reading` and `writing` say; for writing if `may_write()`."""

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        options = connection.get_execution_options()
        if (may_write() or options.get(WRITE, False)) and not options.get(READ_ONLY, False):
            _begin_writing(connection)
        else:
            connection.exec_driver_sql("BEGIN")


# Between two looks at SQLite's lock, in seconds. SQLite's own pauses grow to 100 ms, in which the lock is free and
# nobody takes it: with 24 writers a transaction of 1 ms was waited for 20 ms and more.
FIRST_LOOK, LONGEST_LOOK = 0.0005, 0.008


def _begin_writing(connection: Connection) -> None:
    """Waits until nobody else writes, for `BUSY_SECONDS` at most."""
    driver: Any = connection.connection.dbapi_connection
    end, pause = time.monotonic() + errors.BUSY_SECONDS, FIRST_LOOK
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < end:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    break
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(1.5 * pause, LONGEST_LOOK)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # which says in SQLAlchemy's words why it can't be
    finally:
        driver.execute(f"PRAGMA busy_timeout={round(1000 * errors.BUSY_SECONDS)}")


def is_read_only(engine: Engine) -> bool:
    """Whether `open_engine` was told to open it read-only."""
    return bool(engine.get_execution_options().get(READ_ONLY, False))


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """A transaction that sees one moment of the database and blocks nobody."""
    sqlite = engine.url.get_backend_name() == "sqlite"
    reader = engine if sqlite else engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with storage_errors(engine), reader.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, durable: bool = False) -> Generator[Connection]:
    """A transaction that commits whole when the block ends, or not at all. On SQLite no other one writes meanwhile.

    Every commit survives the death of this process. A `durable` one, and all before it, survive the machine's as well.
    """
    if is_read_only(engine):
        raise InputError(f"storage: {database_label(engine)} was opened read-only. Open it for writing.")
    writer = engine.execution_options(**{WRITE: True})
    with storage_errors(engine):
        with writer.begin() as connection:
            yield connection
        if durable and engine.url.get_backend_name() == "sqlite":
            _await_disk(engine)


def _await_disk(engine: Engine) -> None:
    """Waits until SQLite's log is on the disk, with all that was committed so far.

    SQLite would do it within the commit (`synchronous=FULL`) and let nobody else write meanwhile, for some milliseconds
    or, on a busy disk, a tenth of a second. Who takes commits out of the log into the database waits for the disk
    before and after (`NORMAL`), so they are on the disk wherever they are by now.
    https://sqlite.org/pragma.html#pragma_synchronous
    """
    try:
        log = os.open(f"{database_label(engine)}-wal", os.O_RDWR)
        try:
            os.fsync(log)
        finally:
            os.close(log)
    except FileNotFoundError:
        return  # All of it was taken into the database.
    except OSError as error:
        raise errors.explained_by_disk(error, database_label(engine)) from error


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Inserts a row, unless one with the same unique columns is there."""
    connection.execute(inserting(connection, table).values(**values).on_conflict_do_nothing())


def inserting(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """An insertion that can say what happens where a row with the same unique columns is there."""
    from sqlalchemy.dialects import postgresql, sqlite

    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


P = ParamSpec("P")
_R = TypeVar("_R")

_LOG = logging.getLogger("exeunt.storage")
_FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
PATIENCE = 180.0  # seconds; a database server takes less to start again

_spent, _retried = 0.0, 0


def retrying(method: Callable[Concatenate[Any, P], _R]) -> Callable[Concatenate[Any, P], _R]:
    """Repeats a method of a store whose one transaction was cut off, as `retry` does."""

    @wraps(method)
    def repeat(self: Any, *arguments: P.args, **options: P.kwargs) -> _R:
        return retry(self.engine, lambda: method(self, *arguments, **options))

    return repeat


def retry(engine: Engine, action: Callable[[], _R]) -> _R:
    """What the action returns; while the database is out of reach it is done again, with pauses that double.

    An engine that is only read from is not waited for: the user wants to know that it is out of reach.

    Raises:
        Unreachable: it stayed so for `PATIENCE` seconds.
        Interrupted: a signal came meanwhile.
    """
    global _spent, _retried
    end, longest = time.monotonic() + PATIENCE, _FIRST_PAUSE
    while True:
        start = time.perf_counter()
        try:
            return action()
        except Unreachable as error:
            pause = random.uniform(longest / 2, longest)  # so that workers don't come back all at once
            longest = min(2 * longest, LONGEST_PAUSE)
            left = end - time.monotonic()
            if is_read_only(engine) or pause > left:
                raise
            _retried += 1
            _LOG.warning("%s Trying again in %.1f s, for %.0f s at most.", error, pause, left)
            interruption.wait(pause)
        finally:
            _spent += time.perf_counter() - start


def read(engine: Engine, ask: Callable[[Connection], _R]) -> _R:
    """What is asked of one moment of the database, with `retry`."""

    def attempt() -> _R:
        with reading(engine) as connection:
            return ask(connection)

    return retry(engine, attempt)


def write(engine: Engine, change: Callable[[Connection], _R], *, durable: bool = False) -> _R:
    """What a change returns that is one transaction, with `retry`; `durable` is as for `writing`."""

    def attempt() -> _R:
        with writing(engine, durable) as connection:
            return change(connection)

    return retry(engine, attempt)


def seconds_spent() -> float:
    """Seconds that this process has spent on transactions so far, waiting for other writers included."""
    return _spent


def retries() -> int:
    """How often this process has waited to do a transaction again so far."""
    return _retried
