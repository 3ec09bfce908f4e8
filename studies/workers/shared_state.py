"""What the workers of a study share beside measurements.

The budget that they spend together, the schedules that they compare in the end, and what they are doing are attributes
of Optuna's study. What is spent is counted from committed rows. A request to pause or to stop reaches all workers, on
every machine.

The study's target is the one device, with its versions and threads, whose throughput the study is about. Seconds that
were measured in two environments are never compared, so one environment is the study's. Workers in another one measure
quality alone, which does not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import Connection, case, func, select

from ...backends.timing.samples import Environment
from ..database.tables import CHUNKS, ORDERS, STUDIES, WORKERS
from ..database.transactions import clock, read, write
from ..store.evaluation_queries import paid_by
from ..store.store import Store
from ..store.studies import TARGET
from .workers import dead_workers

if TYPE_CHECKING:
    import optuna


STATE, GRANT, CHOICE = "state", "exeunt:grant", "exeunt:front"
BASELINES, SEARCHING, FRONT, FINISHED = "measuring baselines", "searching", "measuring the front", "finished"
STATES = (BASELINES, SEARCHING, FRONT, FINISHED)


@dataclass(frozen=True)
class BudgetShare:
    """A budget of a study, as text, with a random identifier.

    `started` is the moment, on the database's clock; `trials` and `images` are what the study had spent by then.
    """

    id: str
    budget: str
    started: float
    trials: int
    images: int


NOTHING = BudgetShare("", "", 0.0, 0, 0)


@dataclass(frozen=True)
class FrontChoice:
    """The schedules that are measured again at the end of a grant: digests and names of weights, the baseline first.

    `measured` says that the end is reached, `ended` why the search ended before its budget was spent.
    """

    grant: str
    compared: tuple[tuple[str, str], ...]
    measured: bool = False
    ended: str = ""


def share_and_choice(study: optuna.Study) -> tuple[BudgetShare | None, FrontChoice | None]:
    """The newest budget that a study was given, and what it compares in its end; None while it searches."""
    attributes = study.user_attrs
    if GRANT not in attributes:
        return None, None
    share, found = BudgetShare(**attributes[GRANT]), attributes.get(CHOICE)
    if found is None or found["grant"] != share.id:
        return share, None
    compared = tuple((digest, weights) for digest, weights in found["compared"])
    return share, FrontChoice(found["grant"], compared, found["measured"], found.get("ended", ""))


def end_reason(grant: Mapping[str, Any] | None, choice: Mapping[str, Any] | None) -> str:
    """Why a study's last search ended before its budget was spent, of its attributes; empty where it did not."""
    return choice.get("ended", "") if grant and choice and choice["grant"] == grant["id"] else ""


def give(study: optuna.Study, grant: BudgetShare) -> None:
    """Gives a study another budget, which it begins to spend."""
    study.set_user_attr(STATE, BASELINES)
    study.set_user_attr(GRANT, asdict(grant))


def choice_of(study: optuna.Study) -> FrontChoice | None:
    """What the study compares in the end of its newest budget; None while it searches."""
    return share_and_choice(study)[1]


def publish_choice(study: optuna.Study, choice: FrontChoice) -> None:
    """Says what is compared, or that it was measured."""
    study.set_user_attr(CHOICE, asdict(choice))


def is_spent(study: optuna.Study) -> bool:
    """Whether the newest budget is spent and the front was measured."""
    choice = choice_of(study)
    return choice is not None and choice.measured


def enter(study: optuna.Study, state: str, *, beside_others: bool) -> None:
    """Notes what the study is doing; a worker that comes late to it notes nothing that others have done before."""
    now = study.user_attrs.get(STATE) if beside_others else None
    if now not in STATES or STATES.index(state) > STATES.index(now):
        study.set_user_attr(STATE, state)


Wanted = Literal["pause", "stop"]


@dataclass(frozen=True)
class ControlRequest:
    """Workers finish and commit what they are doing, give back their claims, and then wait (`pause`) or end (`stop`).

    `since` is the database's clock in seconds since 1970.
    """

    wanted: Wanted
    since: float


def request(store: Store, study: str, wanted: Wanted) -> None:
    """Wants it of every worker that the study has or gets, in place of what was wanted before.

    Raises:
        InputError: there is no such study.
    """

    def give(connection: Connection) -> None:
        connection.execute(ORDERS.delete().where(ORDERS.c.study == study))
        connection.execute(ORDERS.insert().values(study=study, wanted=wanted, since=clock()))

    store.studies.require(study)
    write(store.engine, give, durable=True)


def withdraw_order(store: Store, study: str) -> bool:
    """Lets workers work again; returns whether there was an order."""
    withdrawal = ORDERS.delete().where(ORDERS.c.study == study)
    return write(store.engine, lambda connection: connection.execute(withdrawal).rowcount > 0, durable=True)


def order(store: Store, study: str) -> ControlRequest | None:
    """What is wanted of a study's workers now; None: that they work."""
    query = select(ORDERS).where(ORDERS.c.study == study)
    row = read(store.engine, lambda connection: connection.execute(query).one_or_none())
    return None if row is None else ControlRequest(cast(Wanted, row.wanted), row.since)


def now(store: Store) -> float:
    """The database's clock, in seconds since 1970."""
    return read(store.engine, lambda connection: float(connection.execute(select(clock())).scalar_one()))


def images_spent(store: Store, study: str) -> int:
    """The images that a study has paid for."""
    query = select(func.coalesce(func.sum(CHUNKS.c.num_images), 0)).where(paid_by(study))
    return read(store.engine, lambda connection: int(connection.execute(query).scalar_one()))


def seconds_at_work(store: Store, study: str, since: float) -> float:
    """Wall-clock seconds since a moment on the database's clock in which anybody worked on a study.

    Workers side by side count once, and gaps without any worker don't count, except the one before the first: that is
    the time in which it started.
    """
    alive = WORKERS.c.ended.is_(None) & (clock() - WORKERS.c.heartbeat <= WORKERS.c.lease_seconds)
    last = case((alive, clock()), else_=func.coalesce(WORKERS.c.ended, WORKERS.c.heartbeat))
    query = select(WORKERS.c.started, last).where(WORKERS.c.study == study, last >= since)
    rows = read(store.engine, lambda connection: connection.execute(query).all())
    return covered(((start, end) for start, end in rows), since)


def covered(spans: Iterable[tuple[float, float]], since: float) -> float:
    """The length of the union of spans after a moment, with the gap between it and the first of them."""
    total, reached, first = 0.0, since, True
    for start, end in sorted(spans):
        begin = reached if first else max(start, reached)
        total += max(0.0, end - begin)
        reached, first = max(reached, end), False
    return total


def target(store: Store, study: str) -> Environment | None:
    """The environment that a study times in; None before any worker could be it."""
    return read(store.engine, lambda connection: _pinned(_pins(connection, study)))


def has_timing_worker(store: Store, study: str, environment: Environment) -> bool:
    """Whether any worker of a study lives in an environment."""
    return read(store.engine, lambda connection: _lives_in(connection, study, environment, but=""))


def take_target(store: Store, study: str, environment: Mapping[str, Any], owner: str, *, move: bool) -> Environment:
    """Makes a worker's environment the study's target if it has none, and returns what the target is then.

    With `move`, a target that no other living worker than `owner` is in is given up for this one.
    """

    def take(connection: Connection) -> Environment:
        pins = _pins(connection, study, lock=True)
        found = _pinned(pins)
        if found is not None and (not move or _lives_in(connection, study, found, owner)):
            return found
        pins = {**pins, TARGET: json.dumps(environment, sort_keys=True)}
        connection.execute(STUDIES.update().where(STUDIES.c.name == study).values(pins=pins))
        return dict(environment)

    return write(store.engine, take)


def _pins(connection: Connection, study: str, lock: bool = False) -> dict[str, str]:
    query = select(STUDIES.c.pins).where(STUDIES.c.name == study)
    return dict(connection.execute(query.with_for_update() if lock else query).scalar_one())


def _pinned(pins: Mapping[str, str]) -> Environment | None:
    return json.loads(pins[TARGET]) if TARGET in pins else None


def _lives_in(connection: Connection, study: str, environment: Environment, but: str) -> bool:
    """Whether another worker than this one lives in an environment."""
    dead = dead_workers(connection)
    query = select(WORKERS.c.owner, WORKERS.c.environment).where(WORKERS.c.study == study, WORKERS.c.ended.is_(None))
    return any(
        row.environment == environment
        for row in connection.execute(query)
        if row.owner not in dead and row.owner != but
    )
