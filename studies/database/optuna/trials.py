"""Rows of trials, read and stored by few statements, as Optuna's storage reads and stores them by many.

It makes an object of its tables for each row, and reads each parameter's distribution again for each trial, although a
study has a handful of them. Each parameter, attribute and value it stores by a transaction of its own, and reads the
trial again for each.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Row, Table, func, select, text

from ..transactions import inserting
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

    tables = PARAMETERS, VALUES, INTERMEDIATE_VALUES, USER_ATTRIBUTES, SYSTEM_ATTRIBUTES
    found = [parts(table, "param_id" if table is PARAMETERS else "") for table in tables]
    return {row[0]: same.get(row[0]) or _trial(row, *(each[row[0]] for each in found)) for row in rows}


def _trial(
    row: Sequence[Any], parameters: _Rows, values: _Rows, steps: _Rows, own: _Rows, system: _Rows
) -> FrozenTrial:
    key, number, _, state, start, complete = row
    if not isinstance(number, int):
        raise TypeError(f"a trial's number is {type(number).__name__}")
    kinds = {name: _distribution(kind) for _, name, _, kind in parameters}
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        values=[_number(value, kind) for _, _, value, kind in values] or None,
        datetime_start=_local(start),
        datetime_complete=_local(complete),
        params={name: kinds[name].to_external_repr(value) for _, name, value, _ in parameters},
        distributions=kinds,
        user_attrs={name: json.loads(value) for _, name, value in own},
        system_attrs={name: json.loads(value) for _, name, value in system},
        intermediate_values={step: _number(value, kind) for _, step, value, kind in steps},
        trial_id=key,
    )


def start_trial(connection: Connection, study_id: int) -> tuple[int, FrozenTrial]:
    """Makes a trial that runs, with the study's next number; returns its identifier as well.

    Raises:
        KeyError: there is no such study.
    """
    _lock(connection, study_id)
    count = select(func.count()).select_from(TRIALS).where(TRIALS.c.study_id == study_id)
    number, now = connection.execute(count).scalar_one(), datetime.now(UTC).replace(tzinfo=None)
    row = {"study_id": study_id, "number": number, "state": "RUNNING", "datetime_start": now}
    key = connection.execute(TRIALS.insert().values(row)).inserted_primary_key
    assert key is not None, "one row was inserted"
    return key[0], _trial((key[0], number, study_id, "RUNNING", now, None), [], [], [], [], [])


def add_once(connection: Connection, study_id: int, trial: FrozenTrial, unique: str) -> None:
    """Adds a finished trial, unless the study has one with the same attribute `unique`."""
    _lock(connection, study_id)
    own, value = USER_ATTRIBUTES.c, json.dumps(trial.user_attrs[unique])
    same = select(own.trial_id).join(TRIALS).where(TRIALS.c.study_id == study_id, own.key == unique)
    if connection.execute(same.where(own.value_json == value).limit(1)).first() is None:
        trial_id, started = start_trial(connection, study_id)
        added = copy(trial)
        added.datetime_complete = datetime.now()
        store_changes(connection, trial_id, started, added)


def _lock(connection: Connection, study_id: int) -> None:
    """Keeps all others from adding trials to the study until this transaction ends, whatever their clocks say."""
    study = select(STUDIES).where(STUDIES.c.study_id == study_id).with_for_update()
    if connection.execute(study).one_or_none() is None:
        raise KeyError(f"no study with identifier {study_id}")


def store_changes(connection: Connection, trial_id: int, before: FrozenTrial, after: FrozenTrial) -> None:
    """Stores what was changed of a trial. Storing it again, because an answer was lost, changes nothing.

    Raises:
        UpdateFinishedTrialError: it is finished, and not by this very change.
    """
    this, ended = TRIALS.c.trial_id == trial_id, after.datetime_complete
    ended = ended and ended.astimezone(UTC).replace(tzinfo=None)
    trial = connection.execute(select(TRIALS).where(this).with_for_update()).one()
    if TrialState[trial.state].is_finished():
        if trial.datetime_complete == ended:
            return
        raise UpdateFinishedTrialError(f"Trial {after.number} is finished and can't be changed any more.")
    old = _rows(before)
    for table, rows in _rows(after).items():
        _put(connection, table, trial_id, [row for row in rows if row not in old[table]])
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
        insert = inserting(connection, table)
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
