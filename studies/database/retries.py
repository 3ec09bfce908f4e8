"""Transactions again: a server that restarts, or a connection that is cut, costs a worker a wait and nothing else.

A transaction that was cut off may have been committed without its answer. So everything that is repeated here is
written to be repeated: rows are inserted once by a key, and a fencing token refuses those that come too late.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from .. import interruption
from .errors import Unreachable
from .transactions import is_read_only, reading, writing

P = ParamSpec("P")
_R = TypeVar("_R")

_LOG = logging.getLogger("exeunt.storage")
_FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
PATIENCE = 180.0  # seconds; a database server takes less to start again

_spent, _retried = 0.0, 0


class _HasEngine(Protocol):
    engine: Engine


def retrying(method: Callable[Concatenate[Any, P], _R]) -> Callable[Concatenate[Any, P], _R]:
    """Repeats a method of a store whose one transaction was cut off, as `retry` does."""

    @wraps(method)
    def repeat(self: _HasEngine, *arguments: P.args, **options: P.kwargs) -> _R:
        return retry(self.engine, lambda: method(self, *arguments, **options))

    return repeat


def retry(engine: Engine, action: Callable[[], _R]) -> _R:
    """What the action returns; while the database is out of reach it is done again, with longer and longer pauses.

    An engine that is only read from is not waited for: the user wants to know that it is out of reach.

    Raises:
        Unreachable: it stayed so for `PATIENCE` seconds.
        Interrupted: a signal came meanwhile.
    """
    global _spent, _retried
    began, pauses = time.monotonic(), _pauses()
    while True:
        start = time.perf_counter()
        try:
            return action()
        except Unreachable as error:
            pause = next(pauses)
            left = began + PATIENCE - time.monotonic()
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
    """What a change returns that is one transaction, with `retry`; `durable` is as for `transactions.writing`."""

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


def _pauses() -> Iterator[float]:
    """Doubling, up to a limit, and drawn at random so that workers don't come back all at once."""
    longest = _FIRST_PAUSE
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(2 * longest, LONGEST_PAUSE)
