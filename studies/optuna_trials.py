"""All trials of a study at once, as Optuna's storage reads them, in less time.

Optuna makes an object of its tables for each row, and reads each parameter's distribution again for each trial,
although a study has a handful of them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, DateTime, Float, Integer, Row, String, column, select, table
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
INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
Parts: TypeAlias = "dict[int, list[Row[*tuple[Any, ...]]]]"


def read_trials(connection: Connection, study_id: int) -> list[FrozenTrial]:
    """The trials of a study in the order of their identifiers, as `RDBStorage.get_all_trials` has them.

    Raises:
        KeyError: there is no such study.
    """
    studies = table("studies", column("study_id"))
    if connection.execute(select(studies.c.study_id).where(studies.c.study_id == study_id)).first() is None:
        raise KeyError(f"no study with identifier {study_id}")

    def parts(name: str, order: str, *columns: str) -> Parts:
        return _parts(connection, study_id, name, order, columns)

    parameters = parts("trial_params", "param_id", "param_name", "param_value", "distribution_json")
    values = parts("trial_values", "objective", "objective", "value", "value_type")
    steps = parts("trial_intermediate_values", "step", "step", "intermediate_value", "intermediate_value_type")
    own = parts("trial_user_attributes", "key", "key", "value_json")
    system = parts("trial_system_attributes", "key", "key", "value_json")
    state = sql_cast(_TRIALS.c.state, String)
    rows = connection.execute(
        select(_TRIALS, state.label("name")).where(_TRIALS.c.study_id == study_id).order_by(_TRIALS.c.trial_id)
    )
    distribution = cache(json_to_distribution)
    return [
        _trial(
            row,
            _parameters(parameters[row.trial_id], distribution),
            [_number(value, kind) for _, _, value, kind in values[row.trial_id]],
            {step: _number(value, kind) for _, step, value, kind in steps[row.trial_id]},
            {key: json.loads(value) for _, key, value in own[row.trial_id]},
            {key: json.loads(value) for _, key, value in system[row.trial_id]},
        )
        for row in rows
    ]


def _parts(connection: Connection, study_id: int, name: str, order: str, columns: tuple[str, ...]) -> Parts:
    """The rows of a table by trial: the trial's identifier, then the columns."""
    numbers = {"param_value": Float(), "value": Float(), "intermediate_value": Float()}
    kinds = {"value_type", "intermediate_value_type"}
    inner = table(name, column("trial_id"), *(column(each, numbers.get(each)) for each in {*columns, order}))
    chosen = [sql_cast(inner.c[each], String) if each in kinds else inner.c[each] for each in columns]
    query = (
        select(inner.c.trial_id, *chosen)
        .join(_TRIALS, _TRIALS.c.trial_id == inner.c.trial_id)
        .where(_TRIALS.c.study_id == study_id)
        .order_by(inner.c[order])
    )
    found: Parts = defaultdict(list)
    for row in connection.execute(query):
        found[row[0]].append(row)
    return found


def _parameters(
    rows: list[Row[*tuple[Any, ...]]], distribution: Callable[[str], BaseDistribution]
) -> dict[str, tuple[Any, BaseDistribution]]:
    found = [(name, value, distribution(text)) for _, name, value, text in rows]
    return {name: (kind.to_external_repr(value), kind) for name, value, kind in found}


def _trial(
    row: Row[*tuple[Any, ...]],
    parameters: dict[str, tuple[Any, BaseDistribution]],
    values: list[float],
    steps: dict[int, float],
    own: dict[str, Any],
    system: dict[str, Any],
) -> FrozenTrial:
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
