"""Trials as Optuna's storage reads them, in less time.

Optuna makes an object of its tables for each row, and reads each parameter's distribution again for each trial,
although a study has a handful of them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Row, Table, select, text

from .tables import INTERMEDIATE_VALUES, PARAMETERS, SYSTEM_ATTRIBUTES, TRIALS, USER_ATTRIBUTES, VALUES

INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_FEW = 500  # how many identifiers go into one IN; for more, the condition itself does
_Rows: TypeAlias = list[Row[*tuple[Any, ...]]]

# A study has a handful of them, which all of its trials share.
distribution_of = lru_cache(maxsize=4096)(json_to_distribution)


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
        kinds = {name: distribution_of(kind) for _, name, _, kind in parameters[key]}
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


def _number(value: float | None, kind: str) -> float:
    return INFINITE[kind] if value is None else value


def _local(moment: datetime | None) -> datetime | None:
    """Optuna stores moments in UTC and shows them in local time."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
