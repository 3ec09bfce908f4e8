"""Rows that tests put into a store by themselves."""

from exeunt.backends.schedule import Schedule
from exeunt.studies.database.tables import SCHEDULES
from exeunt.studies.database.transactions import insert_once, writing
from exeunt.studies.store.evaluation_queries import schedule_row
from exeunt.studies.store.store import Store


def put_schedule(store: Store, schedule: Schedule) -> str:
    """Stores a schedule, unless it is there, and returns its digest."""
    with writing(store.engine) as connection:
        insert_once(connection, SCHEDULES, schedule_row(schedule))
    return schedule.digest
