"""Taking turns: what one worker of a study at a time may do, such as choosing the front that all of them measure."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ...backends.errors import StorageError
from ..database.retries import retry
from ..database.transactions import writing
from ..store import leases
from ..store.store import Store
from .workers import Worker


@contextmanager
def exclusive(store: Store, name: str, worker: Worker) -> Generator[bool]:
    """Whether it is this worker's turn, for as long as the block lasts; False while another one has it.

    The worker's heartbeats keep the turn, and its death ends it. Not re-entrant: within the block it is taken.
    """
    token = retry(store.engine, lambda: _take(store, name, worker))
    try:
        yield token is not None
    finally:
        if token is not None:
            _give_back(store, name, worker, token)


def _take(store: Store, name: str, worker: Worker) -> int | None:
    with writing(store.engine) as connection:
        return leases.take(connection, name, worker.owner, worker.lease_seconds)


def _give_back(store: Store, name: str, worker: Worker, token: int) -> None:
    try:
        with writing(store.engine) as connection:
            leases.free(connection, name, worker.owner, token)
    except StorageError:
        # What went wrong in the block says more, and the turn ends with its lease.
        return
