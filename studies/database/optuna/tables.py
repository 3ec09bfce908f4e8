"""Optuna's tables, as its migrations have made them: the columns that are read or written without its own storage.

Questions to them that need none of Optuna's objects: how many trials there are, what a study is doing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, TypeVarTuple

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    cast,
    func,
    select,
)

_METADATA = MetaData()
_KINDS = "FINITE", "INF_POS", "INF_NEG"

STUDIES = Table("studies", _METADATA, Column("study_id", Integer, primary_key=True), Column("study_name", String))
TRIALS = Table(
    "trials",
    _METADATA,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", ForeignKey(STUDIES.c.study_id)),
    Column("state", Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")),
    Column("datetime_start", DateTime),  # in UTC, like the next
    Column("datetime_complete", DateTime),
)


def _part(name: str, owner: Table, columns: dict[str, Any]) -> Table:
    """A table that has several rows of a study or a trial, told apart by the first of `columns`."""
    (identifier,) = owner.primary_key
    own = [Column(name, kind) for name, kind in columns.items()]
    return Table(name, _METADATA, Column(identifier.name, ForeignKey(identifier)), *own)


_ATTRIBUTES = {"key": String, "value_json": Text}
STUDY_USER_ATTRIBUTES = _part("study_user_attributes", STUDIES, _ATTRIBUTES)
STUDY_SYSTEM_ATTRIBUTES = _part("study_system_attributes", STUDIES, _ATTRIBUTES)
USER_ATTRIBUTES = _part("trial_user_attributes", TRIALS, _ATTRIBUTES)
SYSTEM_ATTRIBUTES = _part("trial_system_attributes", TRIALS, _ATTRIBUTES)
PARAMETERS = _part("trial_params", TRIALS, {"param_name": String, "param_value": Float, "distribution_json": Text})
_KIND = Enum(*_KINDS, name="trialvaluetype")
VALUES = _part("trial_values", TRIALS, {"objective": Integer, "value": Float, "value_type": _KIND})
_KIND_OR_NAN = Enum(*_KINDS, "NAN", name="trialintermediatevaluetype")
INTERMEDIATE_VALUES = _part(
    "trial_intermediate_values",
    TRIALS,
    {"step": Integer, "intermediate_value": Float, "intermediate_value_type": _KIND_OR_NAN},
)


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
