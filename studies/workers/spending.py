"""What a study has spent of its budget, all workers together, counted from committed rows."""

from collections.abc import Iterable

from sqlalchemy import case, func, select

from ..database.retries import read
from ..database.tables import CHUNKS, WORKERS
from ..database.transactions import clock
from ..store.evaluation_queries import paid_by
from ..store.store import Store


def now(store: Store) -> float:
    """The database's clock, in seconds since 1970."""
    return read(store.engine, lambda connection: float(connection.execute(select(clock())).scalar_one()))


def images_spent(store: Store, study: str) -> int:
    """The images that a study has paid for."""
    query = select(func.coalesce(func.sum(CHUNKS.c.num_images), 0)).where(paid_by(study))
    return read(store.engine, lambda connection: int(connection.execute(query).scalar_one()))


def seconds_at_work(store: Store, study: str, since: float) -> float:
    """Wall-clock seconds since a moment on the database's clock in which anybody worked on a study.

    Workers side by side count once, and gaps without any worker don't count, except the one before the first: that is
    the time in which it started.
    """
    alive = WORKERS.c.ended.is_(None) & (clock() - WORKERS.c.heartbeat <= WORKERS.c.lease_seconds)
    last = case((alive, clock()), else_=func.coalesce(WORKERS.c.ended, WORKERS.c.heartbeat))
    query = select(WORKERS.c.started, last).where(WORKERS.c.study == study, last >= since)
    rows = read(store.engine, lambda connection: connection.execute(query).all())
    return covered(((start, end) for start, end in rows), since)


def covered(spans: Iterable[tuple[float, float]], since: float) -> float:
    """The length of the union of spans after a moment, with the gap between it and the first of them."""
    total, reached, first = 0.0, since, True
    for start, end in sorted(spans):
        begin = reached if first else max(start, reached)
        total += max(0.0, end - begin)
        reached, first = max(reached, end), False
    return total
