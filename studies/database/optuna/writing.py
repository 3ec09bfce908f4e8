"""What a worker makes and changes of trials of its own, stored by one transaction of few statements.

Optuna stores each parameter, attribute and value by a transaction of its own, and reads the trial again for each. Rows
are those that it would write, in its own tables.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb.models import (  # pyright: ignore[reportPrivateUsage]
    StudyModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

_STUDIES: Table = StudyModel.__table__
_TRIALS: Table = TrialModel.__table__
_PARAMETERS: Table = TrialParamModel.__table__
_VALUES: Table = TrialValueModel.__table__
_OWN: Table = TrialUserAttributeModel.__table__
_SYSTEM: Table = TrialSystemAttributeModel.__table__


@dataclass(frozen=True)
class Parameter:
    """A parameter's value, as Optuna stores it; `previous` is the distribution that others of the study have."""

    name: str
    value: float
    distribution: BaseDistribution
    previous: BaseDistribution | None


@dataclass(frozen=True)
class Ending:
    """What becomes of a trial."""

    state: TrialState
    values: Sequence[float] | None


@dataclass
class Changes:
    """Changes of one trial, in the order in which they were made."""

    parameters: list[Parameter] = field(default_factory=list[Parameter])
    own: dict[str, Any] = field(default_factory=dict[str, Any])
    system: dict[str, Any] = field(default_factory=dict[str, Any])
    ending: Ending | None = None


def changed(trial: FrozenTrial, changes: Changes) -> FrozenTrial:
    """A running trial as it is with changes that don't end it."""
    found = deepcopy(trial)
    kinds = {each.name: each.distribution for each in changes.parameters}
    found.params |= {each.name: kinds[each.name].to_external_repr(each.value) for each in changes.parameters}
    found.distributions |= kinds
    found.user_attrs |= json.loads(json.dumps(changes.own))
    found.system_attrs |= json.loads(json.dumps(changes.system))
    return found


def start_trial(connection: Connection, study_id: int) -> FrozenTrial:
    """Makes a trial that runs, with the study's next number. Raises `KeyError` if there is no such study."""
    _lock(connection, study_id)
    query = select(func.count()).select_from(_TRIALS).where(_TRIALS.c.study_id == study_id)
    number, now = connection.execute(query).scalar_one(), datetime.now(UTC)
    values = {"study_id": study_id, "number": number, "state": TrialState.RUNNING}
    made = connection.execute(_TRIALS.insert().values(**values, datetime_start=now.replace(tzinfo=None)))
    key = made.inserted_primary_key
    assert key is not None, "one row was inserted"
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=now.astimezone().replace(tzinfo=None),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=key[0],
    )


def add_once(connection: Connection, study_id: int, trial: FrozenTrial, unique: str) -> None:
    """Adds a finished trial, unless the study has one with the same attribute `unique`.

    Raises:
        KeyError: there is no such study.
        ValueError: a parameter's distribution is not that of the study's other trials.
    """
    _lock(connection, study_id)
    mark = (_OWN.c.key == unique) & (_OWN.c.value_json == json.dumps(trial.user_attrs[unique]))
    query = select(_OWN.c.trial_id).join(_TRIALS, _TRIALS.c.trial_id == _OWN.c.trial_id)
    if connection.execute(query.where(_TRIALS.c.study_id == study_id, mark).limit(1)).first() is not None:
        return
    parameters = [
        Parameter(name, kind.to_internal_repr(trial.params[name]), kind, None)
        for name, kind in trial.distributions.items()
    ]
    changes = Changes(parameters, trial.user_attrs, trial.system_attrs, Ending(trial.state, trial.values))
    store_changes(connection, start_trial(connection, study_id)._trial_id, changes)  # pyright: ignore[reportPrivateUsage]


def _lock(connection: Connection, study_id: int) -> None:
    """Keeps all others from adding trials to the study until this transaction ends, whatever their clocks say."""
    study = select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == study_id)
    if connection.execute(study.with_for_update()).one_or_none() is None:
        raise KeyError(f"no study with identifier {study_id}")


def store_changes(connection: Connection, trial_id: int, changes: Changes) -> None:
    """Stores all changes of a trial. Storing them again, because an answer was lost, changes nothing.

    Raises:
        KeyError: there is no such trial.
        UpdateFinishedTrialError: it is finished, and not by these very changes.
        ValueError: a parameter's distribution is not that of the study's other trials.
    """
    query = select(_TRIALS.c.study_id, _TRIALS.c.number, _TRIALS.c.state).where(_TRIALS.c.trial_id == trial_id)
    trial = connection.execute(query.with_for_update()).one_or_none()
    if trial is None:
        raise KeyError(f"no trial with identifier {trial_id}")
    if trial.state.is_finished():
        if changes.ending is not None and _is_ended_so(connection, trial_id, trial.state, changes.ending):
            return
        raise UpdateFinishedTrialError(f"Trial {trial.number} is finished and can't be changed any more.")
    _store_parameters(connection, trial_id, trial.study_id, changes.parameters)
    for table, attributes in ((_OWN, changes.own), (_SYSTEM, changes.system)):
        rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(attributes[key])} for key in attributes]
        _put(connection, table, ("trial_id", "key"), rows)
    if changes.ending is not None:
        _end(connection, trial_id, changes.ending)


def _is_ended_so(connection: Connection, trial_id: int, state: TrialState, ending: Ending) -> bool:
    query = select(_VALUES.c.value, _VALUES.c.value_type).where(_VALUES.c.trial_id == trial_id)
    rows = connection.execute(query.order_by(_VALUES.c.objective)).all()
    values = [TrialValueModel.stored_repr_to_value(row.value, row.value_type) for row in rows]
    return (state, values) == (ending.state, list(ending.values or []))


def _store_parameters(connection: Connection, trial_id: int, study_id: int, parameters: Sequence[Parameter]) -> None:
    for each in parameters:
        previous = each.previous or _distribution(connection, study_id, each.name)
        if previous is not None:
            check_distribution_compatibility(previous, each.distribution)
    rows = [
        {
            "trial_id": trial_id,
            "param_name": each.name,
            "param_value": each.value,
            "distribution_json": distribution_to_json(each.distribution),
        }
        for each in parameters
    ]
    _put(connection, _PARAMETERS, ("trial_id", "param_name"), rows)


def _distribution(connection: Connection, study_id: int, name: str) -> BaseDistribution | None:
    """The one that some trial of the study has for a parameter."""
    query = (
        select(_PARAMETERS.c.distribution_json)
        .join(_TRIALS, _TRIALS.c.trial_id == _PARAMETERS.c.trial_id)
        .where(_TRIALS.c.study_id == study_id, _PARAMETERS.c.param_name == name)
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else json_to_distribution(found)


def _end(connection: Connection, trial_id: int, ending: Ending) -> None:
    rows = list[dict[str, Any]]()
    for objective, value in enumerate(ending.values or ()):
        stored, kind = TrialValueModel.value_to_stored_repr(value)
        rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
    _put(connection, _VALUES, ("trial_id", "objective"), rows)
    now = datetime.now(UTC).replace(tzinfo=None)
    values = {"state": ending.state, "datetime_complete": now}
    connection.execute(_TRIALS.update().where(_TRIALS.c.trial_id == trial_id).values(values))


def _put(connection: Connection, table: Table, key: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Inserts rows, or replaces those with the same key."""
    if rows:
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        replaced = {name: insert.excluded[name] for name in rows[0] if name not in key}
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=replaced), rows)
