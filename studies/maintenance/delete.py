"""Deleting studies, and what no study refers to any more.

What a deleted study measured stays, since another study may ask the same questions, until it is collected. Rows go
first and the files that they named afterwards, so that a collection that is cut off leaves files, never rows without.

Files that no row names: of workers that died between a file and its row, and of rows that were collected.

A worker may be about to commit the row of a file that is being looked at. So nothing is removed but under a lock that
keeps such commits out, after rows were looked at once more; and a commit looks once more for its file, which it writes
again if it is gone. Beyond that, files that nobody ever named are left alone until they are a day old.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, Table, and_, exists, func, not_, or_, select, text, true

from ...backends.errors import InputError
from ..artifacts.files import CONTENT_KINDS, FEATURES_SUFFIX, STORED, Files
from ..database.tables import (
    CALL_TIMINGS,
    CHUNKS,
    EVALUATIONS,
    FAILURES,
    FILES,
    LEASES,
    MEMBERS,
    QUALITIES,
    SCHEDULES,
    STUDIES,
    THROUGHPUTS,
    TIMING_KEYS,
)
from ..database.transactions import clock, reading, writing
from ..store.evaluation_queries import batches, is_of_member
from ..store.store import Store
from ..workers.workers import bury_dead_workers, living_workers
from .rows import rows_of_study

OLD_ENOUGH = 86_400.0  # seconds
_BATCH = 100
_ALL = true()


def named(connection: Connection, chunks: ColumnElement[bool] = _ALL, files: ColumnElement[bool] = _ALL) -> set[str]:
    """The names of the files that rows refer to, of those chunks and those files of studies that meet a condition."""
    features = select(CHUNKS.c.sha256).where(func.length(CHUNKS.c.features) == 0, chunks)
    others = select(FILES.c.kind, FILES.c.sha256).where(FILES.c.content == "", files)
    return {f"{digest}.{FEATURES_SUFFIX}" for digest in connection.execute(features).scalars()} | {
        f"{digest}.{CONTENT_KINDS[kind]}" for kind, digest in connection.execute(others) if kind in CONTENT_KINDS
    }


def loose(files: Files, kept: Collection[str], forgotten: Collection[str], older_than: float) -> dict[str, int]:
    """The files that `kept` has not, with their bytes: those of rows that go as well, others if they are old enough."""
    return {
        stored.name: stored.num_bytes
        for stored in files.listed()
        if stored.name not in kept and (stored.name in forgotten or stored.age_seconds >= older_than)
    }


def remove_orphans(store: Store, names: Collection[str]) -> list[str]:
    """Removes those of some files that no row names, and returns their names."""
    removed: list[str] = []
    store.files.find()
    for batch in batches(sorted(names), _BATCH):
        with writing(store.engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE exeunt_chunks, exeunt_files IN SHARE ROW EXCLUSIVE MODE"))
            digests = [name.partition(".")[0] for name in batch]
            there = named(connection, CHUNKS.c.sha256.in_(digests), FILES.c.sha256.in_(digests))
            gone = [name for name in batch if name not in there]
            for name in gone:
                store.files.store.remove(name)
            removed += gone
    return removed


def delete_study(store: Store, study: str) -> dict[str, int]:
    """Deletes a study: configuration, members, trials, workers. Returns how many rows of each table that was.

    Its evaluations and timings stay, for other studies and the next one.

    Raises:
        InputError: there is no such study, or workers work on it.
    """
    store.studies.require(study)
    bury_dead_workers(store)
    alive = living_workers(store, study)
    if alive:
        raise InputError(
            f"study: `{study}` has running workers ({', '.join(alive[:3])}). Type `exeunt study stop {study}`, and "
            "delete it when they have ended."
        )
    with writing(store.engine, durable=True) as connection:
        own = [part for part in rows_of_study(connection, study) if not part.shared]
        return {part.table.name: _delete(connection, part.table, part.belongs) for part in reversed(own)}


@dataclass(frozen=True)
class Garbage:
    """What no study refers to.

    Attributes:
        evaluations: the digest of each with its number of images and the bytes of its features.
        rows: how many rows of each table it makes.
        files: the files that no row refers to then, with their bytes.
    """

    evaluations: dict[str, tuple[int, int]]
    rows: dict[str, int]
    files: dict[str, int]

    @property
    def is_empty(self) -> bool:
        return not (any(self.rows.values()) or self.files)

    @property
    def feature_bytes(self) -> int:
        return sum(size for _, size in self.evaluations.values())

    @property
    def file_bytes(self) -> int:
        return sum(self.files.values())


def find_garbage(store: Store, older_than: float = OLD_ENOUGH) -> Garbage:
    """What no study refers to, found without changing anything.

    Files that no row ever referred to count once they are `older_than` seconds old: a worker may be about to commit
    the row of a younger one.
    """
    with reading(store.engine) as connection:
        found, before = _garbage(connection), named(connection)
        kept = named(connection, CHUNKS.c.evaluation_id.not_in(select(EVALUATIONS.c.id).where(_forgotten())))
    return replace(found, files=loose(store.files, kept, before - kept, older_than))


def collect_garbage(store: Store, older_than: float = OLD_ENOUGH) -> Garbage:
    """Removes what no study refers to: rows in one transaction, then files. Gives SQLite's file back what they took."""
    with writing(store.engine, durable=True) as connection:
        if connection.dialect.name == "postgresql":
            # A worker stores a schedule and makes it a member in two steps of one transaction.
            connection.execute(text("LOCK TABLE exeunt_members, exeunt_evaluations IN SHARE ROW EXCLUSIVE MODE"))
        found, before = _garbage(connection), named(connection)
        for table, condition in _conditions():
            _delete(connection, table, condition)
        kept = named(connection)
    files = loose(store.files, kept, before - kept, older_than)
    removed = remove_orphans(store, files)
    found = replace(found, files={name: files[name] for name in removed})
    if found.evaluations and store.engine.url.get_backend_name() == "sqlite":
        # SQLite would use the room for what comes next; this gives it back to the disk. It needs as much, for a while.
        with closing(store.engine.raw_connection()) as raw:
            raw.cursor().execute("VACUUM")
    return found


def _garbage(connection: Connection) -> Garbage:
    images, size = func.sum(CHUNKS.c.num_images), func.sum(CHUNKS.c.num_images * CHUNKS.c.width * STORED.itemsize)
    query = (
        select(EVALUATIONS.c.digest, func.coalesce(images, 0), func.coalesce(size, 0))
        .outerjoin(CHUNKS, CHUNKS.c.evaluation_id == EVALUATIONS.c.id)
        .where(_forgotten())
        .group_by(EVALUATIONS.c.id, EVALUATIONS.c.digest)
        .order_by(EVALUATIONS.c.id)
    )
    evaluations = {digest: (int(count), int(bytes)) for digest, count, bytes in connection.execute(query)}
    rows = {
        table.name: connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
        for table, condition in _conditions()
    }
    return Garbage(evaluations, rows, {})


def _conditions() -> list[tuple[Table, ColumnElement[bool]]]:
    """Which rows of each table nothing refers to, those first that refer to others."""
    forgotten = select(EVALUATIONS.c.id).where(_forgotten())
    unused = _unused_key()
    return [
        (QUALITIES, QUALITIES.c.evaluation_id.in_(forgotten)),
        (FAILURES, FAILURES.c.evaluation_id.in_(forgotten)),
        (CHUNKS, CHUNKS.c.evaluation_id.in_(forgotten)),
        (LEASES, _free() & LEASES.c.name.in_(select("evaluation " + EVALUATIONS.c.digest).where(_forgotten()))),
        (EVALUATIONS, _forgotten()),
        (THROUGHPUTS, _untimed()),
        (CALL_TIMINGS, CALL_TIMINGS.c.timing_key_id.in_(select(TIMING_KEYS.c.id).where(unused))),
        (TIMING_KEYS, unused),
        (SCHEDULES, _unmentioned()),
    ]


def _forgotten() -> ColumnElement[bool]:
    """An evaluation that is of no study's schedule on its weights, that no study paid for and no worker claimed."""
    member = exists(MEMBERS.c.id).where(is_of_member())
    theirs = (CHUNKS.c.study == STUDIES.c.name) & (CHUNKS.c.committed >= STUDIES.c.created)
    paid = exists().where(CHUNKS.c.evaluation_id == EVALUATIONS.c.id, theirs)
    claimed = exists().where(LEASES.c.name == "evaluation " + EVALUATIONS.c.digest, not_(_free()))
    return and_(~member, ~paid, ~claimed)


def _free() -> ColumnElement[bool]:
    return or_(LEASES.c.owner.is_(None), LEASES.c.expires <= clock())


def _untimed() -> ColumnElement[bool]:
    """A timing that is of no study's schedule on its weights, and that no study took."""
    key = TIMING_KEYS.alias()
    member = exists().where(
        key.c.id == THROUGHPUTS.c.timing_key_id,
        MEMBERS.c.schedule_digest == THROUGHPUTS.c.schedule_digest,
        MEMBERS.c.weights_sha256 == key.c.weights_sha256,
    )
    took = exists().where(STUDIES.c.name == THROUGHPUTS.c.study, THROUGHPUTS.c.measured >= STUDIES.c.created)
    return and_(~member, ~took)


def _unused_key() -> ColumnElement[bool]:
    """Conditions of timing whose weights no study has, and under which nothing is kept."""
    weights = exists().where(MEMBERS.c.weights_sha256 == TIMING_KEYS.c.weights_sha256)
    kept = exists().where(THROUGHPUTS.c.timing_key_id == TIMING_KEYS.c.id, not_(_untimed()))
    return and_(~weights, ~kept)


def _unmentioned() -> ColumnElement[bool]:
    """A schedule of no study, no evaluation and no timing that stays."""
    digest = SCHEDULES.c.digest
    member = exists().where(MEMBERS.c.schedule_digest == digest)
    evaluated = exists().where(EVALUATIONS.c.schedule_digest == digest, not_(_forgotten()))
    of_it = or_(THROUGHPUTS.c.schedule_digest == digest, THROUGHPUTS.c.baseline_digest == digest)
    timed = exists().where(of_it, not_(_untimed()))
    filed = exists().where(FILES.c.schedule_digest == digest)
    return and_(~member, ~evaluated, ~timed, ~filed)


def _delete(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    return connection.execute(table.delete().where(condition)).rowcount
