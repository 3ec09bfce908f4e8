"""Changes of a trial, stored by one transaction of few statements, in the rows that Optuna's storage would write.

That stores each parameter, attribute and value by a transaction of its own, and reads the trial again for each.
"""

from __future__ import annotations

import json
import math
from copy import copy
from datetime import UTC, datetime
from typing import Any, TypeAlias

from optuna.distributions import check_distribution_compatibility, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

from .reading import distribution_of
from .tables import INTERMEDIATE_VALUES, PARAMETERS, STUDIES, SYSTEM_ATTRIBUTES, TRIALS, USER_ATTRIBUTES, VALUES

# Of a parameter in a study, by the study's identifier and its name, as Optuna writes it.
Distributions: TypeAlias = dict[tuple[int, str], str]


def add_once(
    connection: Connection, study_id: int, trial: FrozenTrial, unique: str, distributions: Distributions
) -> None:
    """Adds a finished trial, unless the study has one with the same attribute `unique`."""
    # Keeps all others from adding trials to the study until this transaction ends, whatever their clocks say.
    connection.execute(select(STUDIES).where(STUDIES.c.study_id == study_id).with_for_update())
    mine, text = TRIALS.c.study_id == study_id, json.dumps(trial.user_attrs[unique])
    same = select(TRIALS.c.trial_id).join(USER_ATTRIBUTES).where(mine, USER_ATTRIBUTES.c.key == unique)
    if connection.execute(same.where(USER_ATTRIBUTES.c.value_json == text).limit(1)).first() is not None:
        return
    number, now = connection.execute(select(func.count()).select_from(TRIALS).where(mine)).scalar_one(), datetime.now()
    row = {"study_id": study_id, "number": number, "state": "RUNNING", "datetime_start": _utc(now)}
    key = connection.execute(TRIALS.insert().values(row)).inserted_primary_key
    assert key is not None, "one row was inserted"
    added = copy(trial)
    added.datetime_complete = now
    store_changes(connection, key[0], None, added, distributions)


def store_changes(
    connection: Connection, trial_id: int, before: FrozenTrial | None, after: FrozenTrial, distributions: Distributions
) -> None:
    """Stores what was changed of a trial. Storing it again, because an answer was lost, changes nothing.

    Raises:
        UpdateFinishedTrialError: it is finished, and not by this very change.
        ValueError: a parameter's distribution is not that of the study's other trials.
    """
    this, ended = TRIALS.c.trial_id == trial_id, after.datetime_complete and _utc(after.datetime_complete)
    trial = connection.execute(select(TRIALS).where(this).with_for_update()).one()
    if TrialState[trial.state].is_finished():
        if trial.datetime_complete == ended:
            return
        raise UpdateFinishedTrialError(f"Trial {after.number} is finished and can't be changed any more.")
    old = {} if before is None else _rows(before)
    for table, rows in _rows(after).items():
        new = [row for row in rows if row not in old.get(table, ())]
        for name, _, kind in new if table is PARAMETERS else ():
            _check(connection, trial.study_id, name, kind, distributions)
        _put(connection, table, trial_id, new)
    if ended is not None:
        connection.execute(TRIALS.update().where(this).values(state=after.state.name, datetime_complete=ended))


def _check(connection: Connection, study_id: int, name: str, distribution: str, known: Distributions) -> None:
    """Compares a parameter's distribution with the one that some trial of the study has, which is looked up once."""
    if (study_id, name) not in known:
        query = select(PARAMETERS.c.distribution_json).join(TRIALS).where(TRIALS.c.study_id == study_id).limit(1)
        found = connection.execute(query.where(PARAMETERS.c.param_name == name)).scalar()
        if found is None:
            return
        known[study_id, name] = found
    if known[study_id, name] != distribution:
        check_distribution_compatibility(distribution_of(known[study_id, name]), distribution_of(distribution))


def _rows(trial: FrozenTrial) -> dict[Table, list[tuple[Any, ...]]]:
    """What a trial has in the tables beside its own, without its identifier."""
    kinds = trial.distributions.items()
    return {
        PARAMETERS: [
            (name, kind.to_internal_repr(trial.params[name]), distribution_to_json(kind)) for name, kind in kinds
        ],
        VALUES: [(objective, *_stored(value)) for objective, value in enumerate(trial.values or ())],
        INTERMEDIATE_VALUES: [(step, *_stored(value)) for step, value in trial.intermediate_values.items()],
        USER_ATTRIBUTES: [(key, json.dumps(value)) for key, value in trial.user_attrs.items()],
        SYSTEM_ATTRIBUTES: [(key, json.dumps(value)) for key, value in trial.system_attrs.items()],
    }


def _stored(value: float) -> tuple[float | None, str]:
    """A number as Optuna stores it, with its kind."""
    if math.isfinite(value):
        return value, "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _put(connection: Connection, table: Table, trial_id: int, rows: list[tuple[Any, ...]]) -> None:
    """Inserts rows of a trial, or replaces those with the same key."""
    if rows:
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        names = table.columns.keys()
        replaced = {name: insert.excluded[name] for name in names[2:]}
        statement = insert.on_conflict_do_update(index_elements=names[:2], set_=replaced)
        connection.execute(statement, [dict(zip(names, (trial_id, *row), strict=True)) for row in rows])


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
