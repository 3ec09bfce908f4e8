"""Bringing an older database to the current version."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, select, text

from ...backends.errors import InputError
from ...backends.schedule import parse
from ..database.errors import database_label
from ..database.migrations import CURRENT, migrate
from ..database.optuna.storage import upgradable_optuna, upgrade_optuna_tables
from ..database.schema import creation_lock, inspect_tables, refuse_foreign, stamp, use_wal
from ..database.tables import SCHEDULES
from ..database.transactions import clock, reading, writing
from ..store.records import COSTS_VERSION, summarized, summary_to_json


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did: versions before and after, ours and Optuna's."""

    before: int
    after: int
    optuna_before: str
    optuna_after: str

    @property
    def changed(self) -> bool:
        return (self.before, self.optuna_before) != (self.after, self.optuna_after)


def versions(engine: Engine) -> Upgrade:
    """What an upgrade would do.

    Raises:
        InputError: the database is newer than this Exeunt or this Optuna, belongs to something else, or is empty.
    """
    with reading(engine) as connection:
        found = inspect_tables(connection)
    refuse_foreign(found, engine)
    if found.version == 0 or not found.optuna:
        raise InputError(f"storage: {database_label(engine)} holds no study yet. Start one with `exeunt optimize`.")
    return Upgrade(found.version, CURRENT, *upgradable_optuna(engine))


def upgrade_database(engine: Engine) -> Upgrade:
    """Brings an older database to the current version, Optuna's tables too; a current one stays as it is.

    Ours are changed in one transaction. Optuna changes its own, step by step, afterwards; what is cut off in between
    goes on with the next call.

    Raises:
        InputError: it is newer than this Exeunt or this Optuna, belongs to something else, or workers work on it;
            nothing was changed.
    """
    planned = versions(engine)
    with creation_lock(engine):
        if engine.url.get_backend_name() == "sqlite":
            use_wal(engine)
        with writing(engine, durable=True) as connection:
            before = inspect_tables(connection).version
            if before < CURRENT:
                _refuse_workers(connection)
                migrate(connection, before)
                fill(connection)
                stamp(connection)
        upgrade_optuna_tables(engine)
    return replace(planned, before=before)


def _refuse_workers(connection: Connection) -> None:
    """An older Exeunt at work would go on with the tables that it knows."""
    query = text("SELECT owner, heartbeat + lease_seconds FROM exeunt_workers WHERE ended IS NULL")
    now = connection.execute(select(clock())).scalar_one()
    alive = [owner for owner, until in connection.execute(query) if until > now]
    if alive:
        raise InputError(
            f"storage: workers are at work on this database ({', '.join(alive[:3])}). Stop them with Ctrl-C, then "
            "upgrade. A killed worker counts until its lease ends."
        )


def fill(connection: Connection) -> None:
    """Works out the costs that are missing, or were worked out in another way."""
    rows = connection.execute(select(SCHEDULES)).all()
    for row in rows:
        if row.outline is None or row.outline["version"] != COSTS_VERSION:
            found = summary_to_json(summarized(parse(row.schedule)))
            connection.execute(SCHEDULES.update().where(SCHEDULES.c.digest == row.digest).values(outline=found))
