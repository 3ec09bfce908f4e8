"""Rows that tests put into a store, or look at, by themselves."""

from collections.abc import Sequence
from typing import Any

from exeunt.backends.schedule import Schedule
from exeunt.studies.database.tables import SCHEDULES, WORKERS
from exeunt.studies.database.transactions import insert_once, reading, writing
from exeunt.studies.store import leases
from exeunt.studies.store.evaluation_queries import schedule_row
from exeunt.studies.store.records import Claim
from exeunt.studies.store.store import Store
from sqlalchemy import Row, select


def put_schedule(store: Store, schedule: Schedule) -> str:
    """Stores a schedule, unless it is there, and returns its digest."""
    with writing(store.engine) as connection:
        insert_once(connection, SCHEDULES, schedule_row(schedule))
    return schedule.digest


def renew(store: Store, claim: Claim) -> None:
    """Starts a claim's lease again. Raises `StaleClaim` if another worker has taken it over."""
    name = leases.lease_name(claim.evaluation)
    with writing(store.engine) as connection:
        leases.hold_lease(connection, name, claim.owner, claim.token, claim.lease_seconds)


def workers_of(store: Store, study: str) -> Sequence[Row[Any]]:
    """The workers that a study has and had, oldest first."""
    with reading(store.engine) as connection:
        return connection.execute(select(WORKERS).where(WORKERS.c.study == study).order_by(WORKERS.c.started)).all()
