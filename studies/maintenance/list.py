"""The studies of a database at a glance, in as many queries for a thousand studies as for one."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from ..database.optuna.tables import study_attributes, trial_counts
from ..database.tables import CHUNKS, MEMBERS, ORDERS, STUDIES, WORKERS
from ..database.transactions import clock, read
from ..store.store import Store


@dataclass(frozen=True)
class Summary:
    """A study at a glance: what it is doing or did last, and how many trials of each state it has.

    Attributes:
        started: on the database's clock, in seconds since 1970.
        schedules: members, baselines among them.
        images: what it paid for.
        workers: those that gave a sign of life within their leases.
        order: "pause", "stop" or None.
    """

    study: str
    state: str
    started: float
    trials: dict[str, int]
    schedules: int
    images: int
    workers: int
    order: str | None


def summaries(store: Store) -> list[Summary]:
    """All studies, oldest first."""
    return read(store.engine, _summaries)


def _summaries(connection: Connection) -> list[Summary]:
    states, trials = study_attributes(connection, "state"), trial_counts(connection)
    schedules = select(MEMBERS.c.study, func.count()).group_by(MEMBERS.c.study)
    paid = (CHUNKS.c.study == STUDIES.c.name) & (CHUNKS.c.committed >= STUDIES.c.created)
    images = select(STUDIES.c.name, func.sum(CHUNKS.c.num_images)).join(CHUNKS, paid).group_by(STUDIES.c.name)
    alive = WORKERS.c.ended.is_(None) & (clock() - WORKERS.c.heartbeat <= WORKERS.c.lease_seconds)
    workers = select(WORKERS.c.study, func.count()).where(alive).group_by(WORKERS.c.study)
    orders = select(ORDERS.c.study, ORDERS.c.wanted)
    found: list[dict[str, Any]] = [
        dict(connection.execute(query).all()) for query in (schedules, images, workers, orders)
    ]
    members, paid_images, living, wanted = found
    rows = connection.execute(select(STUDIES.c.name, STUDIES.c.created).order_by(STUDIES.c.created))
    return [
        Summary(
            study=name,
            state=str(states.get(name, "not started")),
            started=created,
            trials=trials.get(name, {}),
            schedules=members.get(name, 0),
            images=int(paid_images.get(name, 0)),
            workers=living.get(name, 0),
            order=wanted.get(name),
        )
        for name, created in rows
    ]
