"""Opening a study for work: whatever could refuse it does so before a database is touched.

Giving a study a budget, or joining those who spend it already.
"""

import logging
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
import torch

from ...backends.errors import InputError, Interrupted, StorageError
from ...reports.uncollected import uncollected
from ...studies.database.engine import optuna_storage
from ...studies.database.foreign import contradicting_rows, corrupt_rows
from ...studies.database.transactions import storage_errors
from ...studies.interruption import Interruption
from ...studies.store.store import Store, open_store
from ...studies.workers import shared_state, spending
from ...studies.workers.orders import withdraw_order
from ...studies.workers.shared_state import BudgetShare
from ...studies.workers.target import Environment, take_target, target
from ...studies.workers.trials import TrialKeeper
from ...studies.workers.workers import Worker, exclusive
from ..measuring.costs import Costs
from ..measuring.objective import Objective, Paused
from ..measuring.setup import StudySetup
from ..monitoring.progress import ProgressListener
from ..spaces.registry import make_space
from .budget import BudgetMeter
from .device_check import DeviceCheck
from .peers import Peers
from .proposer import Proposer, open_study
from .session import NoTimingWorker, Session


def join_budget(session: Session, *, joins: bool, budget_id: str | None) -> None:
    """Gives the session's budget to its study, or makes the session spend what the study was given before.

    Args:
        session: whose meter is what its command may spend.
        joins: whether a budget that is there holds, spent or not.
        budget_id: names the budget that several processes give together: the first of them gives it.
    """
    while True:
        with exclusive(session.store, f"budget {session.name}", session.peers.worker) as mine:
            if mine:
                _take(session, joins, budget_id)
                return
        session.rest(0.1)


def _take(session: Session, joins: bool, budget_id: str | None) -> None:
    study = session.proposer.study
    session.proposer.warm_start()
    found = shared_state.grant_of(study)
    if found is not None and (joins or found.id == budget_id or _is_being_spent(session, budget_id)):
        session.spend(found)
        if session.peers.others and budget_id is None:
            workers = f"{session.peers.others} other worker{'s' if session.peers.others > 1 else ''}"
            session.watch.say(f"joining {workers} on a budget of {found.budget}")
        return
    session.grant = BudgetShare(
        id=budget_id or secrets.token_hex(8),
        budget=str(session.meter.budget),
        started=spending.now(session.store) - session.meter.seconds,
        trials=session.trials_spent(),
        images=spending.images_spent(session.store, session.name),
    )
    shared_state.give(study, session.grant)


def _is_being_spent(session: Session, budget_id: str | None) -> bool:
    return budget_id is None and session.peers.others > 0 and not shared_state.is_spent(session.proposer.study)


_LOG = logging.getLogger("exeunt.work")


@dataclass(frozen=True)
class WorkerRole:
    """How a process comes to a study.

    Attributes:
        joins: the study is there already, and its settings and its budget hold; else they are given to it.
        budget_id: the name of the budget that several processes, started together, give to the study; drawn if not
            given.
        takes_target: whether it makes its device the target of a study whose target no worker lives on.
        works: whether it measures anything.
    """

    joins: bool = False
    budget_id: str | None = None
    takes_target: bool = True
    works: bool = True

    @property
    def is_one_of_many(self) -> bool:
        """Whether it proposes apart from others, and has to show that its device can be trusted."""
        return self.joins or self.budget_id is not None


@contextmanager
def open_session(
    study_setup: StudySetup,
    url: str,
    meter: BudgetMeter,
    watch: ProgressListener,
    interruption: Interruption,
    arrival: WorkerRole | None = None,
) -> Generator[Session]:
    """A session on the study, which is made in the database if it is not there.

    Raises:
        InputError: the study is there and has other settings, or the database or its files can't be used.
        StorageError: the database is out of reach.
    """
    config, arrival = study_setup.config, arrival or WorkerRole()
    artifacts = config.run.artifacts
    with open_store(url, artifacts=artifacts) as store, contradicting_rows(store.url), storage_errors(store.engine):
        with corrupt_rows(store.url):
            _ = store.files.store  # this database's, which its marker proves
            _agree(store, study_setup, arrival)
        with Worker(store, config.name, config.run.lease_seconds, study_setup.environment) as worker:
            with corrupt_rows(store.url), uncollected():
                session = _session(study_setup, store, worker, meter, watch, interruption, arrival)
            if arrival.works:
                about = {"study": config.name, "worker": worker.owner, "device": study_setup.environment["device"]}
                _LOG.info("working", extra={"about": {**about, "dtype": config.checkpoint.dtype}})
            reason = None
            try:
                yield session
            except StorageError as error:
                reason = str(error)
                raise
            finally:
                _leave(session, reason)


def _agree(store: Store, study_setup: StudySetup, arrival: WorkerRole) -> None:
    """Stores the study's settings, or checks that this worker measures what they say."""
    config = study_setup.config
    if not arrival.joins:
        store.studies.put_config(config, study_setup.pins)
        if arrival.budget_id is None:
            withdraw_order(store, config.name)
        return
    store.studies.check_config(config, study_setup.pins, free=("throughput.device",))
    members = store.studies.members(config.name)
    full = next((each.schedule_digest for each in members if each.family == "full"), None)
    if full not in (None, study_setup.baseline.schedule.digest):
        raise InputError(
            f"study `{config.name}`: its full schedule is {str(full)[:12]}, but this machine works it out as "
            f"{study_setup.baseline.schedule.digest[:12]}. Install the versions of exeunt and numpy that it began with."
        )


def _session(
    study_setup: StudySetup,
    store: Store,
    worker: Worker,
    meter: BudgetMeter,
    watch: ProgressListener,
    interruption: Interruption,
    arrival: WorkerRole,
) -> Session:
    """Puts the parts together, and takes in what the study has."""
    name = study_setup.config.name
    study = open_study(optuna_storage(store.engine), name)
    keeper = TrialKeeper(store, study, worker)
    peers = Peers(store, name, worker, keeper)
    peers.look(now=True)
    proposer = _proposer(study_setup, study, keeper, peers, arrival)

    def spent(images: int) -> None:
        meter.images += images
        watch.advance(meter.share_spent, images)
        if peers.wanted() is not None:
            raise Paused(f"study `{name}` is to {peers.wanted()}.")

    costs = Costs(study_setup, store, _target(study_setup, store, worker, arrival))
    if arrival.works and not costs.can_time:
        watch.say(_quality_alone(study_setup, costs))
    objective = Objective(study_setup, store, worker, costs, check=interruption.check, spent=spent, say=watch.say)
    trust = DeviceCheck(objective, watch.say, interruption.check, doubted=arrival.is_one_of_many)
    session = Session(study_setup, store, objective, costs, proposer, peers, meter, trust, watch, interruption.check)
    session.restore()
    join_budget(session, joins=arrival.joins, budget_id=arrival.budget_id)
    return session


def _proposer(
    study_setup: StudySetup, study: optuna.Study, keeper: TrialKeeper, peers: Peers, arrival: WorkerRole
) -> Proposer:
    search = study_setup.config.search
    space = make_space(search.space, study_setup.frame)
    salt = secrets.randbits(32) if arrival.is_one_of_many or peers.others else None
    return Proposer(study, space, search.sampler, search.seed, keeper.own, salt)


def _target(study_setup: StudySetup, store: Store, worker: Worker, arrival: WorkerRole) -> Environment:
    """The environment that the study times in. A device of another kind than the study's can't be it by itself."""
    name, own = study_setup.config.name, study_setup.environment
    if not arrival.works:
        return {"device": "a device that works on the study"}
    found = target(store, name)
    wanted = torch.device(store.studies.config(name).throughput.device).type
    if found is None and not arrival.takes_target and own["device_type"] != wanted:
        raise NoTimingWorker(
            f"study `{name}` is about a device of type {wanted}, and no worker has begun on one yet. Start one there "
            "first, or make this device the target: exeunt worker --target."
        )
    return take_target(store, name, own, worker.owner, move=arrival.takes_target)


def _quality_alone(study_setup: StudySetup, costs: Costs) -> str:
    own = study_setup.environment
    different = [
        f"{key} is {own.get(key)} here and {value} there"
        for key, value in costs.target.items()
        if own.get(key) != value
    ]
    return f"This worker measures quality alone: the study times on {costs.target['device']} ({'; '.join(different)})."


def _leave(session: Session, reason: str | None = None) -> None:
    """Gives back what was proposed and not measured. A database that is out of reach finds it out by itself.

    `reason` is kept with the trials, where it is the storage that ended this worker: a full disk of files.
    """
    try:
        for number in session.proposer.unfinished:
            if reason is not None:
                with storage_errors(session.store.engine):
                    session.proposer.note(number, reason)
            session.peers.keeper.give_back(number)
    except (StorageError, Interrupted):
        return
