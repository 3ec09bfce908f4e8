"""Requests to all workers of a study, on every machine: to pause, or to stop."""

from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import Connection, select

from ..database.retries import read, write
from ..database.tables import ORDERS
from ..database.transactions import clock
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

    def give(connection: Connection) -> None:
        connection.execute(ORDERS.delete().where(ORDERS.c.study == study))
        connection.execute(ORDERS.insert().values(study=study, wanted=wanted, since=clock()))

    store.studies.require(study)
    write(store.engine, give, durable=True)


def withdraw_order(store: Store, study: str) -> bool:
    """Lets workers work again; returns whether there was an order."""
    withdrawal = ORDERS.delete().where(ORDERS.c.study == study)
    return write(store.engine, lambda connection: connection.execute(withdrawal).rowcount > 0, durable=True)


def order(store: Store, study: str) -> ControlRequest | None:
    """What is wanted of a study's workers now; None: that they work."""
    query = select(ORDERS).where(ORDERS.c.study == study)
    row = read(store.engine, lambda connection: connection.execute(query).one_or_none())
    return None if row is None else ControlRequest(cast(Wanted, row.wanted), row.since)
