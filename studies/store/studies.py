"""The studies of a database: their configurations, members, workers, and what they have spent."""

import json
from collections.abc import Collection, Mapping
from typing import Any, final

from sqlalchemy import ColumnElement, Connection, Engine, case, distinct, func, select

from ...backends.errors import InputError
from ...backends.schedule import Schedule
from ..config.reading import config_from_dict, config_to_dict, refuse_difference
from ..config.rules import nearest_setting
from ..config.study import StudyConfig
from ..database.errors import database_label
from ..database.tables import CHUNKS, EVALUATIONS, MEMBERS, SCHEDULES, STUDIES, THROUGHPUTS, WORKERS
from ..database.transactions import clock, insert_once, read, reading, retrying, writing
from .evaluation_queries import began, columns_of, insert_member, of_study, paid_by, schedule_row
from .records import Member, Progress

# Beside the digests of what settings name: the environment that a study times in, as JSON; see `shared_state.py`.
TARGET = "throughput.target"
# The values of what a checkpoint leaves open, as text.
# How weights are read, by what their pin is.
READINGS = {"checkpoint.reading": "checkpoint.path", "checkpoint.small_reading": "checkpoint.small"}


@final
class StudyStore:
    """Studies in the database of an engine. Every method is one transaction, or raises `StorageError`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def names(self) -> list[str]:
        """The names of all studies, oldest first."""
        query = select(STUDIES.c.name).order_by(STUDIES.c.created)
        return read(self.engine, lambda connection: list(connection.execute(query).scalars()))

    @retrying
    def put_config(self, config: StudyConfig, pins: Mapping[str, str] | None = None) -> None:
        """Starts a study, or resumes one, whose settings may then differ only where no number depends on them.

        `pins` are the digests of what settings name: `{"checkpoint.path": "3f5a…"}`. A setting whose spelling differs
        and whose pin is the same has not changed; one whose pin differs has.

        Raises:
            InputError: resuming with this would change a number; the message shows the differences.
        """
        pins = dict(pins or {})
        values = {"config": config_to_dict(config), "pins": pins}
        with writing(self.engine, durable=True) as connection:
            insert_once(connection, STUDIES, {"name": config.name, **values, "created": _beginning(config.name)})
            stored = connection.execute(_study(config.name).with_for_update()).one()
            _refuse_change(stored, config, pins)
            _refuse_other_reading(connection, config.name, pins)
            values["pins"] = stored.pins | pins
            connection.execute(STUDIES.update().where(STUDIES.c.name == config.name).values(values))

    def check_config(self, config: StudyConfig, pins: Mapping[str, str], free: Collection[str] = ()) -> None:
        """Raises `InputError` unless a study's settings and their pins are these, but for settings named in `free`."""
        stored = read(self.engine, lambda connection: connection.execute(_study(config.name)).one())
        _refuse_change(stored, config, pins, free)

    def config(self, study: str) -> StudyConfig:
        """The configuration of a study. Raises `InputError`, with the nearest name, if there is none of that name."""
        row = read(self.engine, lambda connection: connection.execute(_study(study)).one_or_none())
        if row is None:
            raise _unknown(study, self.names(), database_label(self.engine))
        return config_from_dict(row.config)

    def require(self, study: str) -> str:
        """The study's name. Raises `InputError`, with the nearest name, if there is none of that name."""
        names = self.names()
        if study not in names:
            raise _unknown(study, names, database_label(self.engine))
        return study

    def pins(self, study: str) -> dict[str, str]:
        """The digests of what the settings of a study name."""
        return dict(read(self.engine, lambda connection: connection.execute(_study(study)).one().pins))

    @retrying
    def add_member(self, study: str, member: Member, schedule: Schedule | None = None) -> None:
        """Adds a schedule to a study, which must be stored, or is with `schedule`. The same again changes nothing."""
        row = None if schedule is None else schedule_row(schedule)
        with writing(self.engine) as connection:
            if row is not None:
                insert_once(connection, SCHEDULES, row)
            insert_member(connection, study, member)

    def members(self, study: str) -> list[Member]:
        """The members of a study, in the order in which they were added."""
        query = select(*columns_of(MEMBERS, Member)).where(MEMBERS.c.study == study).order_by(MEMBERS.c.id)
        return [Member(*row) for row in read(self.engine, lambda connection: connection.execute(query).all())]

    @retrying
    def environment(self, study: str) -> dict[str, str]:
        """What a study times in: device, versions, threads. Unless a worker said so, its newest one's; or empty."""
        query = select(WORKERS.c.environment).where(WORKERS.c.study == study).order_by(WORKERS.c.started.desc())
        with reading(self.engine) as connection:
            row = connection.execute(_study(study)).one_or_none()
            if row is not None and TARGET in row.pins:
                return json.loads(row.pins[TARGET])
            return dict(connection.execute(query).scalars().first() or {})

    @retrying
    def progress(self, study: str) -> Progress:
        """What a study has spent and has, from its committed rows."""
        with reading(self.engine) as connection:
            return Progress(**_sampled(connection, study), **_evaluated(connection, study), **_spent(connection, study))


def _unknown(study: str, names: list[str], where: str) -> InputError:
    hint = nearest_setting(study, names) if names else "The database has none yet: start one with `exeunt optimize`."
    return InputError(f"study: `{study}` is not in {where}. {hint}")


def _study(name: str) -> Any:
    return select(STUDIES).where(STUDIES.c.name == name)


def _beginning(study: str) -> ColumnElement[float]:
    """Now, or where the clock was put back just after the last images of a deleted study that had the name before."""
    after = select(func.max(CHUNKS.c.committed) + 0.001).where(CHUNKS.c.study == study).scalar_subquery()
    return case((after > clock(), after), else_=clock())


def _refuse_change(stored: Any, config: StudyConfig, pins: Mapping[str, str], free: Collection[str] = ()) -> None:
    """Refuses settings, and digests of what they name, by which a number of a stored study would change."""
    for key, pin in pins.items():
        if (old := stored.pins.get(key, pin)) != pin:
            if key in READINGS:
                raise InputError(
                    f"study `{config.name}` reads its checkpoint with {old}, but it is now read with {pin}; results "
                    f"would not be comparable. Continue as stored with `exeunt resume --study {config.name}`, or start "
                    "another study with --study NAME."
                )
            raise InputError(
                f"study `{config.name}` was started with other contents of {key}: their digest was {old[:12]} and is "
                f"now {pin[:12]}; results would not be comparable. Restore the old contents, or start another study."
            )
    same = [key for key, pin in pins.items() if stored.pins.get(key) == pin]
    refuse_difference(config_from_dict(stored.config), config, [*same, *free])


def _refuse_other_reading(connection: Connection, study: str, pins: Mapping[str, str]) -> None:
    """Studies share the images of equal weights, which are other images where the weights are read otherwise."""
    others = connection.execute(select(STUDIES.c.name, STUDIES.c.pins).where(STUDIES.c.name != study))
    for other in others:
        for pin, weights in READINGS.items():
            own = pins.get(pin)
            have = other.pins.get(pin, own)
            if own and have != own and other.pins.get(weights) == pins.get(weights):
                raise InputError(
                    f"study `{study}` reads its checkpoint with {own}, but study `{other.name}` of this database reads "
                    f"the same weights with {have}, and both would share their images. Give another --storage."
                )


def _sampled(connection: Connection, study: str) -> dict[str, Any]:
    columns = (
        func.coalesce(func.sum(CHUNKS.c.num_images), 0),
        func.count(),
        func.coalesce(func.sum(CHUNKS.c.seconds), 0.0),
    )
    images, chunks, seconds = connection.execute(select(*columns).where(paid_by(study))).one()
    return {"images": int(images), "chunks": chunks, "sampling_seconds": float(seconds)}


def _evaluated(connection: Connection, study: str) -> dict[str, int]:
    """Distinct schedules with committed images, and evaluations that failed."""
    some = select(CHUNKS.c.id).where(CHUNKS.c.evaluation_id == EVALUATIONS.c.id).exists()
    measured = select(func.count(distinct(EVALUATIONS.c.schedule_digest))).where(of_study(study), some)
    failed = select(func.count()).select_from(EVALUATIONS).where(of_study(study), EVALUATIONS.c.failed)
    return {
        "schedules_measured": connection.execute(measured).scalar_one(),
        "evaluations_failed": connection.execute(failed).scalar_one(),
    }


def _spent(connection: Connection, study: str) -> dict[str, Any]:
    """The baseline's neighbours are left out, since they are the rows of the baseline itself."""
    timings = select(THROUGHPUTS.c.seconds, THROUGHPUTS.c.latency_seconds).where(
        THROUGHPUTS.c.study == study, THROUGHPUTS.c.measured >= began(study)
    )
    there = func.coalesce(WORKERS.c.ended, WORKERS.c.heartbeat) - WORKERS.c.started
    workers = select(func.coalesce(func.sum(there), 0.0)).where(WORKERS.c.study == study)
    return {
        "timing_seconds": float(sum(sum(each) + sum(latency) for each, latency in connection.execute(timings))),
        "worker_seconds": float(connection.execute(workers).scalar_one()),
    }
