"""Rows of trials, read and stored by few statements, as Optuna's storage reads and stores them by many.

It makes an object of its tables for each row, and reads each parameter's distribution again for each trial, although a
study has a handful of them. Each parameter, attribute and value it stores by a transaction of its own, and reads the
trial again for each.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Row, Table, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from .tables import INTERMEDIATE_VALUES, PARAMETERS, STUDIES, SYSTEM_ATTRIBUTES, TRIALS, USER_ATTRIBUTES, VALUES

_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_FEW = 500  # how many identifiers go into one IN; for more, the condition itself does
_Rows: TypeAlias = list[Row[*tuple[Any, ...]]]

_distribution = lru_cache(maxsize=4096)(json_to_distribution)


def read_trials(
    connection: Connection, wanted: ColumnElement[bool], known: Mapping[int, FrozenTrial]
) -> dict[int, FrozenTrial]:
    """The trials that a condition on their table finds, by their identifiers and in the order of their numbers.

    Of those that are known, with parameters and notes, and run, nothing is read but that they run still: all of these
    are stored at once, and only a trial's own worker changes it from then on, when it ends. One that was queued has
    some notes before, but not its worker's name yet.
    """
    rows = connection.execute(select(TRIALS).where(wanted).order_by(TRIALS.c.number)).all()
    same: dict[int, FrozenTrial] = {
        row.trial_id: trial
        for row in rows
        if (trial := known.get(row.trial_id)) and trial.params and trial.user_attrs
        if row.state == trial.state.name == TrialState.RUNNING.name
    }
    changed = [row.trial_id for row in rows if row.trial_id not in same]
    if not changed:
        return same
    among = changed if len(changed) <= _FEW else select(TRIALS.c.trial_id).where(wanted)

    def parts(table: Table, order: str = "") -> dict[int, _Rows]:
        query = select(table).where(table.c.trial_id.in_(among)).order_by(text(order) if order else table.columns[1])
        found = defaultdict[int, _Rows](list)
        for row in connection.execute(query):
            found[row[0]].append(row)
        return found

    parameters, values, steps = parts(PARAMETERS, "param_id"), parts(VALUES), parts(INTERMEDIATE_VALUES)
    own, system = parts(USER_ATTRIBUTES), parts(SYSTEM_ATTRIBUTES)

    def made(key: int, number: Any, state: str, start: datetime | None, complete: datetime | None) -> FrozenTrial:
        if not isinstance(number, int):
            raise TypeError(f"a trial's number is {type(number).__name__}")
        kinds = {name: _distribution(kind) for _, name, _, kind in parameters[key]}
        return FrozenTrial(
            number=number,
            state=TrialState[state],
            value=None,
            values=[_number(value, kind) for _, _, value, kind in values[key]] or None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params={name: kinds[name].to_external_repr(value) for _, name, value, _ in parameters[key]},
            distributions=kinds,
            user_attrs={name: json.loads(value) for _, name, value in own[key]},
            system_attrs={name: json.loads(value) for _, name, value in system[key]},
            intermediate_values={step: _number(value, kind) for _, step, value, kind in steps[key]},
            trial_id=key,
        )

    return {key: same.get(key) or made(key, number, *others) for key, number, _, *others in rows}


def add_once(connection: Connection, study_id: int, trial: FrozenTrial, unique: str) -> None:
    """Adds a finished trial, unless the study has one with the same attribute `unique`."""
    # Keeps all others from adding trials to the study until this transaction ends, whatever their clocks say.
    connection.execute(select(STUDIES).where(STUDIES.c.study_id == study_id).with_for_update())
    mine, value = TRIALS.c.study_id == study_id, json.dumps(trial.user_attrs[unique])
    same = select(TRIALS.c.trial_id).join(USER_ATTRIBUTES).where(mine, USER_ATTRIBUTES.c.key == unique)
    if connection.execute(same.where(USER_ATTRIBUTES.c.value_json == value).limit(1)).first() is not None:
        return
    number, now = connection.execute(select(func.count()).select_from(TRIALS).where(mine)).scalar_one(), datetime.now()
    row = {"study_id": study_id, "number": number, "state": "RUNNING", "datetime_start": _utc(now)}
    key = connection.execute(TRIALS.insert().values(row)).inserted_primary_key
    assert key is not None, "one row was inserted"
    added = copy(trial)
    added.datetime_complete = now
    store_changes(connection, key[0], None, added)


def store_changes(connection: Connection, trial_id: int, before: FrozenTrial | None, after: FrozenTrial) -> None:
    """Stores what was changed of a trial. Storing it again, because an answer was lost, changes nothing.

    Raises:
        UpdateFinishedTrialError: it is finished, and not by this very change.
    """
    this, ended = TRIALS.c.trial_id == trial_id, after.datetime_complete and _utc(after.datetime_complete)
    trial = connection.execute(select(TRIALS).where(this).with_for_update()).one()
    if TrialState[trial.state].is_finished():
        if trial.datetime_complete == ended:
            return
        raise UpdateFinishedTrialError(f"Trial {after.number} is finished and can't be changed any more.")
    old = {} if before is None else _rows(before)
    for table, rows in _rows(after).items():
        _put(connection, table, trial_id, [row for row in rows if row not in old.get(table, ())])
    if ended is not None:
        connection.execute(TRIALS.update().where(this).values(state=after.state.name, datetime_complete=ended))


def _rows(trial: FrozenTrial) -> dict[Table, list[tuple[Any, ...]]]:
    """What a trial has in the tables beside its own, without its identifier."""
    kinds = trial.distributions.items()
    return {
        PARAMETERS: [
            (key, kind.to_internal_repr(trial.params[key]), distribution_to_json(kind)) for key, kind in kinds
        ],
        VALUES: [(objective, *_stored(value)) for objective, value in enumerate(trial.values or ())],
        INTERMEDIATE_VALUES: [(step, *_stored(value)) for step, value in trial.intermediate_values.items()],
        USER_ATTRIBUTES: [(key, json.dumps(value)) for key, value in trial.user_attrs.items()],
        SYSTEM_ATTRIBUTES: [(key, json.dumps(value)) for key, value in trial.system_attrs.items()],
    }


def _put(connection: Connection, table: Table, trial_id: int, rows: list[tuple[Any, ...]]) -> None:
    """Inserts rows of a trial, or replaces those with the same key."""
    if rows:
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        names = table.columns.keys()
        replaced = {name: insert.excluded[name] for name in names[2:]}
        statement = insert.on_conflict_do_update(index_elements=names[:2], set_=replaced)
        connection.execute(statement, [dict(zip(names, (trial_id, *row), strict=True)) for row in rows])


def _number(value: float | None, kind: str) -> float:
    return _INFINITE[kind] if value is None else value


def _stored(value: float) -> tuple[float | None, str]:
    """The reverse of `_number`: a value as Optuna stores it, with its kind."""
    if math.isfinite(value):
        return value, "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _local(moment: datetime | None) -> datetime | None:
    """Optuna stores moments in UTC and shows them in local time."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
