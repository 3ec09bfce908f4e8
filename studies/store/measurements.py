"""Values that were measured or worked out: qualities, timings of kinds of calls, and end-to-end timings."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, final
from uuid import uuid4

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Row, exists, select, true

from ..database.errors import corrupt_values, database_label
from ..database.tables import CALL_TIMINGS, EVALUATIONS, MEMBERS, QUALITIES, THROUGHPUTS, TIMING_KEYS
from ..database.transactions import clock, insert_once, read, retrying, write, writing
from .evaluation_queries import columns_of, moment, of_study
from .records import QualityRecord, ThroughputRecord, TimingKey

INFLUENCE = np.dtype("<f4")


@final
class MeasurementStore:
    """Measurements in the database of an engine. Every method is one transaction, or raises `StorageError`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @retrying
    def put_qualities(self, *records: QualityRecord) -> None:
        """Stores values of evaluations that are there, together. A value at the same count replaces the one before."""
        numbers = [(each.value, each.lower, each.upper, each.standard_error) for each in records]
        assert all(math.isfinite(number) for each in numbers for number in each), (
            "a value that is not finite is a failure, with its reason"
        )
        with writing(self.engine, durable=True) as connection:
            for record in records:
                values = asdict(record) | {"influence": np.asarray(record.influence, INFLUENCE).tobytes()}
                # Locked, so that two workers cannot both replace the value.
                query = select(EVALUATIONS.c.id).where(EVALUATIONS.c.digest == values.pop("evaluation"))
                values |= {"finished": clock(), "evaluation_id": connection.scalar(query.with_for_update())}
                same = [QUALITIES.c[name] == values[name] for name in _QUALITY_KEY]
                connection.execute(QUALITIES.delete().where(*same))
                connection.execute(QUALITIES.insert().values(values))

    def qualities(self, study: str | None = None, since: float = -math.inf) -> list[QualityRecord]:
        """All values, or those of a study's schedules on their weights, in the order in which they were finished.

        Those that were finished before `since`, on the database's clock, are left out.
        """
        query = select(QUALITIES, EVALUATIONS.c.digest).join(EVALUATIONS).order_by(QUALITIES.c.id)
        query = query if math.isinf(since) else query.where(QUALITIES.c.finished >= since)
        with corrupt_values(database_label(self.engine)):
            rows = read(self.engine, lambda connection: connection.execute(query.where(of_study(study))).all())
            return [_quality(row) for row in rows]

    @retrying
    def put_call_timings(self, key: TimingKey, seconds: Mapping[str, Sequence[float]]) -> None:
        """Stores the raw seconds of kinds of calls. Kinds that are there stay as they are, so that costs don't move."""
        with writing(self.engine, durable=True) as connection:
            key_id = _timing_key(connection, key)
            for kind, raw in seconds.items():
                digest = hashlib.sha256(kind.encode()).hexdigest()
                values = {"timing_key_id": key_id, "kind_digest": digest, "kind": kind, "seconds": list(raw)}
                insert_once(connection, CALL_TIMINGS, values | {"measured": clock()})

    def call_timings(self, key: TimingKey) -> dict[str, tuple[float, ...]]:
        """The raw seconds of each kind that was timed under these conditions."""
        query = select(CALL_TIMINGS.c.kind, CALL_TIMINGS.c.seconds).join(TIMING_KEYS).order_by(CALL_TIMINGS.c.id)
        query = query.where(TIMING_KEYS.c.digest == key.digest)
        with corrupt_values(database_label(self.engine)):
            rows = read(self.engine, lambda connection: connection.execute(query).all())
            return {row.kind: _seconds(row.seconds) for row in rows}

    def put_throughput(self, record: ThroughputRecord) -> None:
        """Stores one end-to-end timing of stored schedules, beside earlier ones."""
        values = {name: value for name, value in asdict(record).items() if name != "key"}
        values |= {
            "measured": moment(record.study),
            "entry": uuid4().hex,
        }  # by which it is put once, however often that is tried

        def put(connection: Connection) -> None:
            insert_once(connection, THROUGHPUTS, {**values, "timing_key_id": _timing_key(connection, record.key)})

        write(self.engine, put, durable=True)

    def throughputs(self, study: str | None = None) -> list[ThroughputRecord]:
        """All end-to-end timings, or those of a study's schedules on their weights, oldest first."""
        query = select(THROUGHPUTS, *columns_of(TIMING_KEYS, TimingKey)).join(TIMING_KEYS).order_by(THROUGHPUTS.c.id)
        with corrupt_values(database_label(self.engine)):
            rows = read(self.engine, lambda connection: connection.execute(query.where(_timed_for(study))).all())
            return [_throughput(row) for row in rows]


_QUALITY_KEY = ("evaluation_id", "metric", "reference", "first_image", "num_images")


def _timing_key(connection: Connection, key: TimingKey) -> int:
    insert_once(connection, TIMING_KEYS, {"digest": key.digest, **asdict(key)})
    return connection.execute(select(TIMING_KEYS.c.id).where(TIMING_KEYS.c.digest == key.digest)).scalar_one()


def _timed_for(study: str | None) -> ColumnElement[bool]:
    """The condition that a timing is of a study's schedule on the weights that it has there; None: of any."""
    if study is None:
        return true()
    same = MEMBERS.c.schedule_digest == THROUGHPUTS.c.schedule_digest
    return exists().where(MEMBERS.c.study == study, same, MEMBERS.c.weights_sha256 == TIMING_KEYS.c.weights_sha256)


def _values(row: Row[Any], record: Any, *but: str) -> dict[str, Any]:
    """What a row has of a dataclass's fields."""
    return {each.name: getattr(row, each.name) for each in fields(record) if each.name not in but}


def _quality(row: Row[Any]) -> QualityRecord:
    values = _values(row, QualityRecord, "evaluation")
    values["influence"] = tuple(np.frombuffer(row.influence, INFLUENCE).tolist())
    return QualityRecord(evaluation=row.digest, **values)


def _throughput(row: Row[Any]) -> ThroughputRecord:
    key, values = TimingKey(**_values(row, TimingKey)), _values(row, ThroughputRecord, "key")
    values |= {name: _seconds(values[name]) for name in ("seconds", "baseline_seconds", "latency_seconds")}
    if len(values["seconds"]) != len(values["baseline_seconds"]):
        raise ValueError("a timing has as many seconds as its neighbours")
    if not isinstance(row.batch_size, int) or row.batch_size < 1:
        raise ValueError("a batch has an image or more")
    return ThroughputRecord(key=key, **values)


def _seconds(raw: Any) -> tuple[float, ...]:
    """Raises TypeError or ValueError for what are no seconds that something took."""
    found = tuple(map(float, raw)) if isinstance(raw, list) else ()
    if not found or not all(0 < each < math.inf for each in found):
        raise ValueError("timings are a list of seconds above 0")
    return found
