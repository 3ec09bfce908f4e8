"""The rows of a study in every table, ours and Optuna's, identified by names and not by numbers.

Identifiers hold in one database only. So a row stands here without its own, and with the name of what it refers to: an
evaluation's digest, a trial's number. Rows like that can be compared between databases, and put into another one.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, MetaData, Select, Table, inspect, or_, select

from ..database.tables import (
    CALL_TIMINGS,
    CHUNKS,
    EVALUATIONS,
    FAILURES,
    FILES,
    MEMBERS,
    ORDERS,
    QUALITIES,
    SCHEDULES,
    STUDIES,
    THROUGHPUTS,
    TIMING_KEYS,
    WORKERS,
)
from ..store.evaluation_queries import of_study, paid_by

Row = dict[str, Any]
OPTUNA = (
    "studies",
    "study_directions",
    "study_user_attributes",
    "trials",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
    # After the trials that it names.
    "study_system_attributes",
)


@dataclass(frozen=True)
class RowReference:
    """A column that holds a row's identifier in another table, where `name` tells the rows apart."""

    column: str
    target: Column[Any]
    name: Column[Any]
    among: ColumnElement[bool]


@dataclass(frozen=True)
class StudyRows:
    """The rows of one table that belong to a study.

    Attributes:
        belongs: the condition that a row does.
        key: the columns by which a row is known in every database; empty where a row only stands below another.
        same: the columns in which rows of one key must agree, if the database has one already.
        shared: whether the rows may belong to other studies too.
        references: what stands for identifiers of other tables.
        left_out: the row's own identifier.
    """

    table: Table
    belongs: ColumnElement[bool]
    key: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    shared: bool = False
    references: tuple[RowReference, ...] = ()
    left_out: str = "id"

    @property
    def rows(self) -> Select[Any]:
        """The rows with names in place of identifiers, in the order in which they were stored."""
        return self.all_rows().where(self.belongs).order_by(*self.table.primary_key.columns)

    def all_rows(self, *without: str) -> Select[Any]:
        """The same of all studies, without some columns."""
        names = {reference.column: reference.name for reference in self.references}
        query = select(
            *(
                names.get(column.name, column).label(column.name)
                for column in self.table.columns
                if column.name != self.left_out and column.name not in without
            )
        ).select_from(self.table)
        for reference in self.references:
            if reference.name.table is not self.table:
                query = query.join(reference.name.table, self.table.c[reference.column] == reference.target)
        return query


def rows_of_study(connection: Connection, study: str) -> list[StudyRows]:
    """What a study is made of, each after those that it refers to."""
    return [*_ours(study), *_optunas(connection, study)]


def _ours(study: str) -> list[StudyRows]:
    # Evaluations are of the study's schedules on its weights, or were paid for by it.
    paid = select(CHUNKS.c.id).where(CHUNKS.c.evaluation_id == EVALUATIONS.c.id, paid_by(study))
    evaluations = or_(of_study(study), paid.exists())
    members = select(MEMBERS.c.schedule_digest).where(MEMBERS.c.study == study)
    known = select(EVALUATIONS.c.id).where(evaluations)
    weights = select(MEMBERS.c.weights_sha256).where(MEMBERS.c.study == study)
    timed = TIMING_KEYS.c.weights_sha256.in_(weights)
    keys = select(TIMING_KEYS.c.id).where(timed)
    throughputs = or_(
        THROUGHPUTS.c.study == study,
        THROUGHPUTS.c.timing_key_id.in_(keys) & THROUGHPUTS.c.schedule_digest.in_(members),
    )
    keys_too = or_(timed, TIMING_KEYS.c.id.in_(select(THROUGHPUTS.c.timing_key_id).where(throughputs)))
    mentions = (
        members,
        select(EVALUATIONS.c.schedule_digest).where(evaluations),
        select(THROUGHPUTS.c.schedule_digest).where(throughputs),
        select(THROUGHPUTS.c.baseline_digest).where(throughputs),
    )
    schedules = or_(*(SCHEDULES.c.digest.in_(each) for each in mentions))
    evaluation = RowReference("evaluation_id", EVALUATIONS.c.id, EVALUATIONS.c.digest, evaluations)
    timing = RowReference("timing_key_id", TIMING_KEYS.c.id, TIMING_KEYS.c.digest, keys_too)
    timings = CALL_TIMINGS.c.timing_key_id.in_(select(TIMING_KEYS.c.id).where(keys_too))
    quality = ("evaluation_id", "metric", "reference", "first_image", "num_images")
    values = ("value", "lower", "upper", "standard_error", "level", "floor", "influence")
    failure, chunk = ("evaluation_id", "owner", "token"), ("evaluation_id", "first_image")

    def measured(
        table: Table, belongs: ColumnElement[bool], key: tuple[str, ...], same: tuple[str, ...], *to: RowReference
    ) -> StudyRows:
        return StudyRows(table, belongs, key, same, shared=True, references=to)

    return [
        StudyRows(STUDIES, STUDIES.c.name == study, ("name",)),
        measured(SCHEDULES, schedules, ("digest",), ("schedule",)),
        StudyRows(MEMBERS, MEMBERS.c.study == study),
        measured(EVALUATIONS, evaluations, ("digest",), ("failed",)),
        measured(FAILURES, FAILURES.c.evaluation_id.in_(known), failure, ("reason",), evaluation),
        measured(CHUNKS, CHUNKS.c.evaluation_id.in_(known), chunk, ("num_images", "width", "sha256"), evaluation),
        measured(QUALITIES, QUALITIES.c.evaluation_id.in_(known), quality, values, evaluation),
        measured(TIMING_KEYS, keys_too, ("digest",), ()),
        measured(CALL_TIMINGS, timings, ("timing_key_id", "kind_digest"), ("seconds",), timing),
        measured(THROUGHPUTS, throughputs, ("entry",), ("seconds",), timing),
        StudyRows(WORKERS, WORKERS.c.study == study, ("owner",)),
        StudyRows(ORDERS, ORDERS.c.study == study, ("study",)),
        StudyRows(FILES, FILES.c.study == study),
    ]


def _optunas(connection: Connection, study: str) -> list[StudyRows]:
    """A study's rows in Optuna's tables, which are read as the database has them."""
    metadata = MetaData()
    there = set(inspect(connection).get_table_names())
    metadata.reflect(connection, only=[name for name in OPTUNA if name in there])
    tables = metadata.tables
    studies, trials = tables["studies"], tables["trials"]
    named = studies.c.study_name == study
    mine = select(studies.c.study_id).where(named)
    of_mine = select(trials.c.trial_id).where(trials.c.study_id.in_(mine))
    to_study = RowReference("study_id", studies.c.study_id, studies.c.study_name, named)
    to_trial = RowReference("trial_id", trials.c.trial_id, trials.c.number, trials.c.study_id.in_(mine))
    found = [StudyRows(studies, named, ("study_name",), left_out="study_id")]
    for name in OPTUNA[1:]:
        table = tables[name]
        own = next(iter(table.primary_key.columns)).name
        reference = to_study if "study_id" in table.columns else to_trial
        inside = table.c[reference.column].in_(mine if reference is to_study else of_mine)
        key = ("number",) if table is trials else ()
        found.append(StudyRows(table, inside, key, references=(reference,), left_out=own))
    return found
