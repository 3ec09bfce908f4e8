"""Questions to Optuna's tables that need none of its objects: how many trials there are, what a study is doing."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, TypeVarTuple

from sqlalchemy import Connection, Select, String, cast, func, select

from .tables import STUDIES, STUDY_SYSTEM_ATTRIBUTES, STUDY_USER_ATTRIBUTES, TRIALS, USER_ATTRIBUTES

_STATE = cast(TRIALS.c.state, String)
_MARK = USER_ATTRIBUTES.c

Ts = TypeVarTuple("Ts")


def trial_counts(connection: Connection, study: str | None = None) -> dict[str, dict[str, int]]:
    """How many trials there are of each state (`complete`, `running`, …), by study; of all studies or of one."""
    name = STUDIES.c.study_name
    query = select(name, _STATE, func.count()).join_from(STUDIES, TRIALS).group_by(name, _STATE).order_by(name, _STATE)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, kind, count in connection.execute(_of(query, study)):
        found[name][kind.lower()] = count
    return dict(found)


def study_attributes(connection: Connection, key: str, study: str | None = None) -> dict[str, Any]:
    """An attribute of all studies that have it, or of one, by study."""
    table = STUDY_USER_ATTRIBUTES
    query = select(STUDIES.c.study_name, table.c.value_json).join_from(STUDIES, table).where(table.c.key == key)
    return {name: json.loads(value) for name, value in connection.execute(_of(query, study))}


def system_attribute(connection: Connection, key: str, study: str) -> Any:
    """An attribute of a study that is no user's: those are read again and again, and shown in dashboards. Or None."""
    table = STUDY_SYSTEM_ATTRIBUTES
    query = select(table.c.value_json).join_from(table, STUDIES).where(table.c.key == key)
    found = connection.execute(_of(query, study)).scalar_one_or_none()
    return None if found is None else json.loads(found)


def marked_trials(connection: Connection, key: str, study: str) -> int:
    """How many trials of a study have an attribute."""
    joined = USER_ATTRIBUTES.join(TRIALS).join(STUDIES)
    query = select(func.count()).select_from(joined).where(_MARK.key == key)
    return connection.execute(_of(query, study)).scalar_one()


def marks_of_running(connection: Connection, key: str, study: str) -> list[Any]:
    """An attribute of each running trial of a study; None for those without."""
    marked = (_MARK.trial_id == TRIALS.c.trial_id) & (_MARK.key == key)
    query = select(_MARK.value_json).select_from(TRIALS.outerjoin(USER_ATTRIBUTES, marked).join(STUDIES))
    found = connection.execute(_of(query.where(_STATE == "RUNNING"), study)).scalars()
    return [None if mark is None else json.loads(mark) for mark in found]


def _of(query: Select[*Ts], study: str | None) -> Select[*Ts]:
    return query if study is None else query.where(STUDIES.c.study_name == study)
