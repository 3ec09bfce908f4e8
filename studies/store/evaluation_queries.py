"""Queries on the tables of evaluations, their chunks and failures, and of schedules and members."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, fields
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Executable, Table, and_, case, exists, func, select, true

from ...backends.schedule import Schedule
from ..database.tables import CHUNKS, EVALUATIONS, FAILURES, MEMBERS, SCHEDULES, STUDIES
from ..database.transactions import clock, insert_once
from .records import (
    EvaluationKey,
    EvaluationRecord,
    Member,
    ScheduleSummary,
    stored_schedule,
    summarized,
    summary_to_json,
)

T = TypeVar("T")

_FEW = 500  # how many values go into one IN, well under every database's limit


def columns_of(table: Table, record: Any) -> list[Column[Any]]:
    """The columns of a table that a dataclass has fields for, in its order."""
    return [table.c[each.name] for each in fields(record) if each.name in table.c]


def schedule_row(schedule: Schedule) -> dict[str, Any]:
    """The columns of a stored schedule, without its name, measurements and provenance."""
    outline = summary_to_json(summarized(schedule))
    return {"digest": schedule.digest, "schedule": schedule.bare.decode(), "outline": outline}


def insert_member(connection: Connection, study: str, member: Member) -> None:
    """Adds a stored schedule to a stored study, unless it is there."""
    insert_once(connection, MEMBERS, {"study": study, **asdict(member)})


def of_study(study: str | None) -> ColumnElement[bool]:
    """The condition that an evaluation is of a study's schedule on the weights that it has there; None: of any."""
    if study is None:
        return true()
    return exists().where(MEMBERS.c.study == study, is_of_member())


def is_of_member() -> ColumnElement[bool]:
    """The condition that joins an evaluation with the members that it belongs to."""
    return and_(
        MEMBERS.c.schedule_digest == EVALUATIONS.c.schedule_digest,
        MEMBERS.c.weights_sha256 == EVALUATIONS.c.weights_sha256,
    )


def began(study: str) -> ColumnElement[float]:
    """When a study was started, on the database's clock."""
    created = select(STUDIES.c.created).where(STUDIES.c.name == study).scalar_subquery()
    return func.coalesce(created, 0.0)


def moment(study: str | None) -> ColumnElement[float]:
    """Now, on the database's clock; the moment when a study was started where that clock was put back since."""
    if study is None:
        return clock()
    return case((clock() < began(study), began(study)), else_=clock())


def paid_by(study: str) -> ColumnElement[bool]:
    """The condition that a chunk was paid for by a study, and not by a deleted one that had its name before."""
    return (CHUNKS.c.study == study) & (CHUNKS.c.committed >= began(study))


def evaluation_id(connection: Connection, digest: str) -> int:
    """An evaluation's identifier in the tables; it must be there."""
    return connection.execute(select(EVALUATIONS.c.id).where(EVALUATIONS.c.digest == digest)).scalar_one()


def held_schedules(connection: Connection, condition: ColumnElement[bool]) -> dict[str, ScheduleSummary]:
    """Schedules that fulfil a condition, by digest."""
    rows = connection.execute(select(SCHEDULES).where(condition))
    return {row.digest: stored_schedule(row.digest, row.schedule, row.outline) for row in rows}


def batches(values: Iterable[T], size: int = _FEW) -> Iterator[list[T]]:
    """Lists of so many values, by default few enough for one IN."""
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch


def is_committed(connection: Connection, evaluation: int, chunk: dict[str, Any]) -> bool:
    """Whether this very chunk is there. Another one with some of its images is a mistake of the caller."""
    last = chunk["first_image"] + chunk["num_images"]
    rows = connection.execute(
        select(CHUNKS.c.first_image, CHUNKS.c.num_images, CHUNKS.c.sha256)
        .where(CHUNKS.c.evaluation_id == evaluation)
        .where(CHUNKS.c.first_image < last)
        .where(CHUNKS.c.first_image + CHUNKS.c.num_images > chunk["first_image"])
    ).all()
    same = (chunk["first_image"], chunk["num_images"], chunk["sha256"])
    assert all(tuple(row) == same for row in rows), "some of these images are committed already: ask missing() first"
    return bool(rows)


def has_row(connection: Connection, table: Table, **values: Any) -> bool:
    """Whether a table has a row with these values."""
    same = [table.c[name] == value for name, value in values.items()]
    return connection.execute(select(exists().where(*same))).scalar_one()


def chunks_of(key: EvaluationKey, images: range, *columns: Any) -> Executable:
    """The chunks with some of these images, in order."""
    assert images.step == 1
    return (
        select(*columns)
        .join(EVALUATIONS)
        .where(EVALUATIONS.c.digest == key.digest)
        .where(CHUNKS.c.first_image < images.stop)
        .where(CHUNKS.c.first_image + CHUNKS.c.num_images > images.start)
        .order_by(CHUNKS.c.first_image)
    )


def reasons_of(connection: Connection, evaluations: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Why evaluations failed, by their identifiers; those without failures are left out."""
    found: dict[int, tuple[str, ...]] = {}
    for some in batches(evaluations):
        query = select(FAILURES).where(FAILURES.c.evaluation_id.in_(some)).order_by(FAILURES.c.id)
        for row in connection.execute(query):
            found[row.evaluation_id] = (*found.get(row.evaluation_id, ()), row.reason)
    return found


def evaluation_records(connection: Connection, condition: Any) -> Iterator[EvaluationRecord]:
    """The evaluations that fulfil a condition, in the order of their first claims."""
    query = (
        select(
            EVALUATIONS,
            func.coalesce(func.sum(CHUNKS.c.num_images), 0).label("num_images"),
            func.coalesce(func.sum(CHUNKS.c.seconds), 0.0).label("seconds"),
        )
        .outerjoin(CHUNKS)
        .where(condition)
        .group_by(EVALUATIONS.c.id)
        .order_by(EVALUATIONS.c.id)
    )
    rows = connection.execute(query).all()
    reasons = reasons_of(connection, [row.id for row in rows])
    for row in rows:
        key = EvaluationKey(*(getattr(row, each.name) for each in fields(EvaluationKey)))
        failures = reasons.get(row.id, ())
        yield EvaluationRecord(key, row.digest, int(row.num_images), float(row.seconds), row.failed, failures)
