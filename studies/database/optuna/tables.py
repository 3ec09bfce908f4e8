"""Optuna's tables, as its migrations have made them: the columns that are read or written without its own storage."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, Enum, Float, ForeignKey, Integer, MetaData, String, Table, Text

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
