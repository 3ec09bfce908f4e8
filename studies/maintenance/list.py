"""The studies of a database at a glance, in as many queries for a thousand studies as for one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ..database.optuna.queries import study_attributes, trial_counts
from ..database.retries import retry
from ..database.tables import CHUNKS, MEMBERS, ORDERS, STUDIES, WORKERS
from ..database.transactions import clock, reading
from ..store.store import Store


@dataclass(frozen=True)
class Summary:
    """A study at a glance.

    Attributes:
        study: its name.
        state: what it is doing or did last, in words.
        started: on the database's clock, in seconds since 1970.
        trials: how many there are of each state.
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

    def ask() -> list[Summary]:
        with reading(store.engine) as connection:
            return _summaries(connection)

    return retry(store.engine, ask)


def _summaries(connection: Connection) -> list[Summary]:
    states, trials = study_attributes(connection, "state"), trial_counts(connection)
    schedules, workers = _members(connection), _workers(connection)
    images = _images(connection)
    orders = dict(connection.execute(select(ORDERS.c.study, ORDERS.c.wanted)).all())
    rows = connection.execute(select(STUDIES.c.name, STUDIES.c.created).order_by(STUDIES.c.created))
    return [
        Summary(
            study=name,
            state=str(states.get(name, "not started")),
            started=created,
            trials=trials.get(name, {}),
            schedules=schedules.get(name, 0),
            images=images.get(name, 0),
            workers=workers.get(name, 0),
            order=orders.get(name),
        )
        for name, created in rows
    ]


def _members(connection: Connection) -> dict[str, int]:
    query = select(MEMBERS.c.study, func.count()).group_by(MEMBERS.c.study)
    return dict(connection.execute(query).all())


def _images(connection: Connection) -> dict[str, int]:
    query = (
        select(STUDIES.c.name, func.sum(CHUNKS.c.num_images))
        .join(CHUNKS, (CHUNKS.c.study == STUDIES.c.name) & (CHUNKS.c.committed >= STUDIES.c.created))
        .group_by(STUDIES.c.name)
    )
    return {name: int(count) for name, count in connection.execute(query)}


def _workers(connection: Connection) -> dict[str, int]:
    alive = WORKERS.c.ended.is_(None) & (clock() - WORKERS.c.heartbeat <= WORKERS.c.lease_seconds)
    query = select(WORKERS.c.study, func.count()).where(alive).group_by(WORKERS.c.study)
    return dict(connection.execute(query).all())
