"""Trials as Optuna's storage reads them, in less time.

Optuna makes an object of its tables for each row, and reads each parameter's distribution again for each trial,
although a study has a handful of them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, DateTime, Float, Integer, Row, String, column, select, table
from sqlalchemy import cast as sql_cast

_TRIALS = table(
    "trials",
    column("trial_id", Integer),
    column("number", Integer),
    column("study_id", Integer),
    column("state", String),
    column("datetime_start", DateTime),
    column("datetime_complete", DateTime),
)
_NOTES = table("study_user_attributes", column("study_id"), column("key"), column("value_json"))
INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
Parts: TypeAlias = "dict[int, list[Row[*tuple[Any, ...]]]]"
_FEW = 500  # how many identifiers go into one IN; for more, all of the study are read


def read_trials(
    connection: Connection,
    study_id: int,
    *,
    after: int = -1,
    among: Collection[int] = (),
    running: Mapping[int, FrozenTrial] = MappingProxyType({}),
) -> list[FrozenTrial]:
    """The trials of a study in the order of their identifiers, as `RDBStorage.get_all_trials` has them.

    With `after`, only those with higher identifiers than that, and those whose identifiers are `among` the given ones.
    Those that were `running` before, by their identifiers, are not read again while they run.

    Raises:
        KeyError: there is no such study.
    """
    wanted = _TRIALS.c.study_id == study_id
    if after >= 0 and len(among) <= _FEW:
        wanted &= (_TRIALS.c.trial_id > after) | _TRIALS.c.trial_id.in_(sorted(among))
    found = _read(connection, wanted, running)
    if not found:
        _require_study(connection, study_id)
    return found


def read_notes(connection: Connection, study_id: int) -> dict[str, Any]:
    """The attributes of a study, as `RDBStorage.get_study_user_attrs` has them. Raises `KeyError` if it isn't there."""
    rows = connection.execute(select(_NOTES.c.key, _NOTES.c.value_json).where(_NOTES.c.study_id == study_id))
    found = {key: json.loads(value) for key, value in rows}
    if not found:
        _require_study(connection, study_id)
    return found


def _require_study(connection: Connection, study_id: int) -> None:
    studies = table("studies", column("study_id"))
    if connection.execute(select(studies.c.study_id).where(studies.c.study_id == study_id)).first() is None:
        raise KeyError(f"no study with identifier {study_id}")


def read_trial(connection: Connection, trial_id: int) -> FrozenTrial:
    """One trial, as `RDBStorage.get_trial` has it. Raises `KeyError` if it isn't there."""
    found = _read(connection, _TRIALS.c.trial_id == trial_id, {})
    if not found:
        raise KeyError(f"no trial with identifier {trial_id}")
    return found[0]


def _read(connection: Connection, wanted: ColumnElement[bool], running: Mapping[int, FrozenTrial]) -> list[FrozenTrial]:
    state = sql_cast(_TRIALS.c.state, String)
    query = select(_TRIALS, state.label("name")).where(wanted).order_by(_TRIALS.c.trial_id)
    rows = connection.execute(query).all()
    same = {row.trial_id for row in rows if row.name == TrialState.RUNNING.name} & running.keys()
    changed = _whole(connection, wanted, [row for row in rows if row.trial_id not in same])
    return [running[row.trial_id] if row.trial_id in same else changed[row.trial_id] for row in rows]


def _whole(
    connection: Connection, wanted: ColumnElement[bool], rows: list[Row[*tuple[Any, ...]]]
) -> dict[int, FrozenTrial]:
    """Trials by their identifiers, with what other tables have of them."""
    if not rows:
        return {}

    def parts(name: str, order: str, *columns: str) -> Parts:
        few = [row.trial_id for row in rows] if len(rows) <= _FEW else None
        return _parts(connection, wanted, few, name, order, columns)

    parameters = parts("trial_params", "param_id", "param_name", "param_value", "distribution_json")
    values = parts("trial_values", "objective", "objective", "value", "value_type")
    steps = parts("trial_intermediate_values", "step", "step", "intermediate_value", "intermediate_value_type")
    own = parts("trial_user_attributes", "key", "key", "value_json")
    system = parts("trial_system_attributes", "key", "key", "value_json")
    return {
        row.trial_id: _trial(
            row,
            _parameters(parameters[row.trial_id]),
            [_number(value, kind) for _, _, value, kind in values[row.trial_id]],
            {step: _number(value, kind) for _, step, value, kind in steps[row.trial_id]},
            {key: json.loads(value) for _, key, value in own[row.trial_id]},
            {key: json.loads(value) for _, key, value in system[row.trial_id]},
        )
        for row in rows
    }


def _parts(
    connection: Connection,
    wanted: ColumnElement[bool],
    few: list[int] | None,
    name: str,
    order: str,
    columns: tuple[str, ...],
) -> Parts:
    """The rows of a table by trial: the trial's identifier, then the columns."""
    numbers = {"param_value": Float(), "value": Float(), "intermediate_value": Float()}
    kinds = {"value_type", "intermediate_value_type"}
    inner = table(name, column("trial_id"), *(column(each, numbers.get(each)) for each in {*columns, order}))
    chosen = [sql_cast(inner.c[each], String) if each in kinds else inner.c[each] for each in columns]
    query = select(inner.c.trial_id, *chosen).order_by(inner.c[order])
    if few is None:
        query = query.join(_TRIALS, _TRIALS.c.trial_id == inner.c.trial_id).where(wanted)
    else:
        query = query.where(inner.c.trial_id.in_(few))
    found: Parts = defaultdict(list)
    for row in connection.execute(query):
        found[row[0]].append(row)
    return found


# A study has a handful of them, which all of its trials share.
_distribution = lru_cache(maxsize=4096)(json_to_distribution)


def _parameters(rows: list[Row[*tuple[Any, ...]]]) -> dict[str, tuple[Any, BaseDistribution]]:
    found = [(name, value, _distribution(text)) for _, name, value, text in rows]
    return {name: (kind.to_external_repr(value), kind) for name, value, kind in found}


def _trial(
    row: Row[*tuple[Any, ...]],
    parameters: dict[str, tuple[Any, BaseDistribution]],
    values: list[float],
    steps: dict[int, float],
    own: dict[str, Any],
    system: dict[str, Any],
) -> FrozenTrial:
    if not isinstance(row.number, int):
        raise TypeError(f"a trial's number is {type(row.number).__name__}")
    return FrozenTrial(
        number=row.number,
        state=TrialState[row.name],
        value=None,
        values=values or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={name: value for name, (value, _) in parameters.items()},
        distributions={name: kind for name, (_, kind) in parameters.items()},
        user_attrs=own,
        system_attrs=system,
        intermediate_values=steps,
        trial_id=row.trial_id,
    )


def _number(value: float | None, kind: str) -> float:
    return INFINITE[kind] if value is None else value


def _local(moment: datetime | None) -> datetime | None:
    """Optuna stores moments in UTC and shows them in local time."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
