"""What somebody wants of all workers of a study, wherever they are: that they pause, or stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import select

from ..database.retries import retry
from ..database.tables import ORDERS
from ..database.transactions import clock, reading, writing
from ..store.store import Store

Wanted = Literal["pause", "stop"]


@dataclass(frozen=True)
class ControlRequest:
    """Workers finish and commit what they are at, give back their claims, and then wait (`pause`) or end (`stop`).

    `since` is the database's clock in seconds since 1970.
    """

    wanted: Wanted
    since: float


def request(store: Store, study: str, wanted: Wanted) -> None:
    """Wants it of every worker that the study has or gets, in place of what was wanted before.

    Raises:
        InputError: there is no such study.
    """

    def give() -> None:
        with writing(store.engine, durable=True) as connection:
            connection.execute(ORDERS.delete().where(ORDERS.c.study == study))
            connection.execute(ORDERS.insert().values(study=study, wanted=wanted, since=clock()))

    store.studies.require(study)
    retry(store.engine, give)


def withdraw_order(store: Store, study: str) -> bool:
    """Lets workers work again; returns whether there was an order."""

    def withdraw() -> bool:
        with writing(store.engine, durable=True) as connection:
            return connection.execute(ORDERS.delete().where(ORDERS.c.study == study)).rowcount > 0

    return retry(store.engine, withdraw)


def order(store: Store, study: str) -> ControlRequest | None:
    """What is wanted of a study's workers now; None: that they work."""

    def ask() -> ControlRequest | None:
        with reading(store.engine) as connection:
            row = connection.execute(select(ORDERS).where(ORDERS.c.study == study)).one_or_none()
        return None if row is None else ControlRequest(cast(Wanted, row.wanted), row.since)

    return retry(store.engine, ask)
