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


def _part(name: str, owner: Table, key: Column[Any], *columns: Column[Any]) -> Table:
    """A table that has several rows of a study or a trial, told apart by `key`."""
    (identifier,) = owner.primary_key
    return Table(name, _METADATA, Column(identifier.name, ForeignKey(identifier)), key, *columns)


def _attributes(name: str, owner: Table) -> Table:
    return _part(name, owner, Column("key", String), Column("value_json", Text))


STUDY_USER_ATTRIBUTES = _attributes("study_user_attributes", STUDIES)
STUDY_SYSTEM_ATTRIBUTES = _attributes("study_system_attributes", STUDIES)
PARAMETERS = _part(
    "trial_params",
    TRIALS,
    Column("param_name", String),
    Column("param_value", Float),
    Column("distribution_json", Text),
)
VALUES = _part(
    "trial_values",
    TRIALS,
    Column("objective", Integer),
    Column("value", Float),
    Column("value_type", Enum(*_KINDS, name="trialvaluetype")),
)
INTERMEDIATE_VALUES = _part(
    "trial_intermediate_values",
    TRIALS,
    Column("step", Integer),
    Column("intermediate_value", Float),
    Column("intermediate_value_type", Enum(*_KINDS, "NAN", name="trialintermediatevaluetype")),
)
USER_ATTRIBUTES = _attributes("trial_user_attributes", TRIALS)
SYSTEM_ATTRIBUTES = _attributes("trial_system_attributes", TRIALS)
