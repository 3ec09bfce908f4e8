"""A study's target: the one device, with its versions and threads, whose throughput the study is about.

Seconds that were measured in two environments are never compared, so one environment is the study's. Workers in another
one measure quality alone, which does not depend on it.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from ...backends.timing.samples import Environment
from ..database.retries import read, write
from ..database.tables import STUDIES, WORKERS
from ..store.store import Store
from ..store.studies import TARGET
from .workers import dead_workers


def target(store: Store, study: str) -> Environment | None:
    """The environment that a study times in; None before any worker could be it."""
    return read(store.engine, lambda connection: _pinned(_pins(connection, study)))


def has_timing_worker(store: Store, study: str, environment: Environment) -> bool:
    """Whether any worker of a study lives in an environment."""
    return read(store.engine, lambda connection: _lives_in(connection, study, environment, but=""))


def take_target(store: Store, study: str, environment: Mapping[str, Any], owner: str, *, move: bool) -> Environment:
    """Makes a worker's environment the study's target if it has none, and returns what the target is then.

    With `move`, a target that no other living worker than `owner` is in is given up for this one.
    """

    def take(connection: Connection) -> Environment:
        pins = _pins(connection, study, lock=True)
        found = _pinned(pins)
        if found is not None and (not move or _lives_in(connection, study, found, owner)):
            return found
        pins = {**pins, TARGET: json.dumps(environment, sort_keys=True)}
        connection.execute(STUDIES.update().where(STUDIES.c.name == study).values(pins=pins))
        return dict(environment)

    return write(store.engine, take)


def _pins(connection: Connection, study: str, lock: bool = False) -> dict[str, str]:
    query = select(STUDIES.c.pins).where(STUDIES.c.name == study)
    return dict(connection.execute(query.with_for_update() if lock else query).scalar_one())


def _pinned(pins: Mapping[str, str]) -> Environment | None:
    return json.loads(pins[TARGET]) if TARGET in pins else None


def _lives_in(connection: Connection, study: str, environment: Environment, but: str) -> bool:
    """Whether another worker than this one lives in an environment."""
    dead = dead_workers(connection)
    query = select(WORKERS.c.owner, WORKERS.c.environment).where(WORKERS.c.study == study, WORKERS.c.ended.is_(None))
    return any(
        row.environment == environment
        for row in connection.execute(query)
        if row.owner not in dead and row.owner != but
    )
