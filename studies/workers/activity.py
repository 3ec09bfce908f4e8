"""What goes on in a study at this moment: who works, how fast trials come, and what went wrong lately."""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, distinct, func, select

from ..database.tables import EVALUATIONS, FAILURES, LEASES, MEMBERS, ORDERS, QUALITIES, STUDIES, WORKERS
from ..database.transactions import clock, read
from ..store.evaluation_queries import is_of_member
from ..store.leases import lease_name
from ..store.store import Store
from .workers import FINISHED, GONE, SILENT, dead_workers

LATELY_SECONDS = 3600.0
LAST_MISHAPS = 5


@dataclass(frozen=True)
class LivingWorker:
    """A worker that gave a sign of life within its lease: the last one was `silent_seconds` ago.

    `device` is empty where it did not say. `measures` has the labels of the schedules that it has claimed.
    """

    owner: str
    device: str
    seconds: float
    silent_seconds: float
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """An evaluation that failed, or a worker that ended before its study did.

    `at` is on the database's clock, in seconds since 1970; `who` is the schedule's label, or the worker.
    """

    at: float
    who: str
    reason: str


@dataclass(frozen=True)
class Activity:
    """A study at one moment.

    Attributes:
        now: the database's clock, in seconds since 1970.
        order: "pause", "stop" or None.
        workers: the living ones, oldest first.
        workers_lost: those that ended without saying so, ever.
        trials_lately: measured within the last `lately_seconds`.
        lately_seconds: an hour, or the study's life if that is shorter.
        mishaps: the last few, newest last.
    """

    now: float
    order: str | None
    workers: tuple[LivingWorker, ...]
    workers_lost: int
    trials_lately: int
    lately_seconds: float
    mishaps: tuple[Failure, ...]

    @property
    def trials_per_hour(self) -> float | None:
        """At the pace of lately; None in a study's first moment."""
        return 3600.0 * self.trials_lately / self.lately_seconds if self.lately_seconds > 0 else None


def activity(store: Store, study: str, search_seed: int) -> Activity:
    """What goes on in a study whose search samples with this seed, read in one transaction."""
    return read(store.engine, lambda connection: _activity(connection, study, search_seed))


def _activity(connection: Connection, study: str, search_seed: int) -> Activity:
    dead, now = dead_workers(connection), connection.execute(select(clock())).scalar_one()
    created = connection.execute(select(STUDIES.c.created).where(STUDIES.c.name == study)).scalar_one()
    lately = min(LATELY_SECONDS, now - created)
    is_lost = WORKERS.c.reason.in_((GONE, SILENT)) | WORKERS.c.owner.in_(list(dead))
    lost = select(func.count()).where(WORKERS.c.study == study, is_lost)
    return Activity(
        now=now,
        order=connection.execute(select(ORDERS.c.wanted).where(ORDERS.c.study == study)).scalar(),
        workers=_workers(connection, study, dead, now),
        workers_lost=connection.execute(lost).scalar_one(),
        trials_lately=_measured(connection, study, search_seed, now - lately),
        lately_seconds=lately,
        mishaps=_mishaps(connection, study, dead),
    )


def _workers(connection: Connection, study: str, dead: dict[str, str], now: float) -> tuple[LivingWorker, ...]:
    query = select(WORKERS).where(WORKERS.c.study == study, WORKERS.c.ended.is_(None)).order_by(WORKERS.c.started)
    claims = _claims(connection, study)
    return tuple(
        LivingWorker(
            owner=row.owner,
            device=str(row.environment.get("device", "")),
            seconds=max(0.0, now - row.started),
            silent_seconds=max(0.0, now - row.heartbeat),
            measures=tuple(claims[row.owner]),
        )
        for row in connection.execute(query)
        if row.owner not in dead
    )


def _claims(connection: Connection, study: str) -> dict[str, list[str]]:
    """The labels of what each owner has claimed."""
    query = (
        select(LEASES.c.owner, MEMBERS.c.label)
        .select_from(LEASES)
        .join(EVALUATIONS, LEASES.c.name == lease_name("") + EVALUATIONS.c.digest)
        .join(MEMBERS, is_of_member())
        .where(MEMBERS.c.study == study, LEASES.c.owner.is_not(None))
    )
    found: dict[str, list[str]] = defaultdict(list)
    for owner, label in connection.execute(query):
        found[owner].append(label)
    return found


def _measured(connection: Connection, study: str, search_seed: int, since: float) -> int:
    """How many trials got their values since a moment, by the database's clock, which no worker's can upset."""
    query = (
        select(func.count(distinct(MEMBERS.c.id)))
        .select_from(QUALITIES)
        .join(EVALUATIONS)
        .join(MEMBERS, is_of_member())
        .where(QUALITIES.c.finished >= since, EVALUATIONS.c.seed == search_seed)
        .where(MEMBERS.c.study == study, MEMBERS.c.role == "trial")
    )
    return connection.execute(query).scalar_one()


def _mishaps(connection: Connection, study: str, dead: dict[str, str]) -> tuple[Failure, ...]:
    failures, workers = _failures(connection, study), _departures(connection, study, dead)
    found = [Failure(at, label, reason) for at, _, label, reason in failures]
    for at, owner, reason in workers:
        # What a worker was lost at, or left for, is said there already.
        if not any(owner == each and reason in said for _, each, _, said in failures):
            found.append(Failure(at, f"worker {owner}", reason))
    return tuple(sorted(found, key=lambda each: each.at)[-LAST_MISHAPS:])


def _failures(connection: Connection, study: str) -> list[tuple[float, str, str, str]]:
    """The newest failures of a study's evaluations: when, whose, the schedule's label, and why."""
    label = func.min(MEMBERS.c.label)
    query = (
        select(FAILURES.c.at, FAILURES.c.owner, label, FAILURES.c.reason)
        .join(EVALUATIONS)
        .join(MEMBERS, is_of_member())
        .where(MEMBERS.c.study == study)
        .group_by(FAILURES.c.id, FAILURES.c.at, FAILURES.c.owner, FAILURES.c.reason)
        .order_by(FAILURES.c.at.desc())
        .limit(LAST_MISHAPS)
    )
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]


def _departures(connection: Connection, study: str, dead: dict[str, str]) -> list[tuple[float, str, str]]:
    """The newest workers that ended before the study did: when, who, and why."""
    at = func.coalesce(WORKERS.c.ended, WORKERS.c.heartbeat)
    early = (WORKERS.c.ended.is_not(None) & (WORKERS.c.reason != FINISHED)) | WORKERS.c.owner.in_(list(dead))
    query = select(at, WORKERS.c.owner, WORKERS.c.reason).where(WORKERS.c.study == study, early)
    rows = connection.execute(query.order_by(at.desc()).limit(LAST_MISHAPS))
    return [(row[0], row[1], row[2] or dead[row[1]]) for row in rows]
