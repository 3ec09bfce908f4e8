"""Questions to Optuna's tables that need none of its objects: how many trials there are, what a study is doing."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, TypeVarTuple

from sqlalchemy import Connection, Select, String, cast, column, func, select, table

_STUDIES = table("studies", column("study_id"), column("study_name"))
_TRIALS = table("trials", column("trial_id"), column("study_id"), column("state"))
_ATTRIBUTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))
_SYSTEM = table("study_system_attributes", column("study_id"), column("key"), column("value_json"))
_MARKS = table("trial_user_attributes", column("trial_id"), column("key"), column("value_json"))

Ts = TypeVarTuple("Ts")


def trial_counts(connection: Connection, study: str | None = None) -> dict[str, dict[str, int]]:
    """How many trials there are of each state (`complete`, `running`, …), by study; of all studies or of one."""
    state = cast(_TRIALS.c.state, String)
    query = (
        select(_STUDIES.c.study_name, state, func.count())
        .join(_TRIALS, _TRIALS.c.study_id == _STUDIES.c.study_id)
        .group_by(_STUDIES.c.study_name, state)
        .order_by(_STUDIES.c.study_name, state)
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, kind, count in connection.execute(_of(query, study)):
        found[name][kind.lower()] = count
    return dict(found)


def study_attributes(connection: Connection, key: str, study: str | None = None) -> dict[str, Any]:
    """An attribute of all studies that have it, or of one, by study."""
    query = (
        select(_STUDIES.c.study_name, _ATTRIBUTES.c.value_json)
        .join(_ATTRIBUTES, _ATTRIBUTES.c.study_id == _STUDIES.c.study_id)
        .where(_ATTRIBUTES.c.key == key)
    )
    return {name: json.loads(value) for name, value in connection.execute(_of(query, study))}


def system_attribute(connection: Connection, key: str, study: str) -> Any:
    """An attribute of a study that is no user's: those are read again and again, and shown in dashboards. Or None."""
    query = (
        select(_SYSTEM.c.value_json)
        .join(_STUDIES, _STUDIES.c.study_id == _SYSTEM.c.study_id)
        .where(_SYSTEM.c.key == key, _STUDIES.c.study_name == study)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else json.loads(found)


def marked_trials(connection: Connection, key: str, study: str) -> int:
    """How many trials of a study have an attribute."""
    query = (
        select(func.count())
        .select_from(_MARKS)
        .join(_TRIALS, _TRIALS.c.trial_id == _MARKS.c.trial_id)
        .join(_STUDIES, _STUDIES.c.study_id == _TRIALS.c.study_id)
        .where(_MARKS.c.key == key, _STUDIES.c.study_name == study)
    )
    return connection.execute(query).scalar_one()


def marks_of_running(connection: Connection, key: str, study: str) -> list[Any]:
    """An attribute of each running trial of a study; None for those without."""
    marked = (_MARKS.c.trial_id == _TRIALS.c.trial_id) & (_MARKS.c.key == key)
    query = (
        select(_MARKS.c.value_json)
        .select_from(_TRIALS.outerjoin(_MARKS, marked))
        .join(_STUDIES, _STUDIES.c.study_id == _TRIALS.c.study_id)
        .where(cast(_TRIALS.c.state, String) == "RUNNING", _STUDIES.c.study_name == study)
    )
    return [None if mark is None else json.loads(mark) for mark in connection.execute(query).scalars()]


def _of(query: Select[*Ts], study: str | None) -> Select[*Ts]:
    return query if study is None else query.where(_STUDIES.c.study_name == study)
