"""Opening a study for work. Everything that could fail on bad input is checked before the database is touched.

Then the study gets a budget, or this worker joins those that spend one already.
"""

import logging
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ...backends.errors import InputError, Interrupted, StorageError
from ...studies.database.errors import contradicting_rows, corrupt_rows
from ...studies.database.optuna.storage import optuna_storage
from ...studies.database.transactions import storage_errors
from ...studies.interruption import Interruption
from ...studies.store.store import Store, open_store
from ...studies.workers import shared_state
from ...studies.workers.shared_state import take_target, target, withdraw_order
from ...studies.workers.trials import TrialKeeper
from ...studies.workers.workers import Worker
from ..measuring.costs import Costs
from ..measuring.objective import Objective, Paused
from ..measuring.setup import StudySetup
from ..monitoring.progress import ProgressListener
from ..spaces.levers import Parameters
from .budget import BudgetMeter, SharedBudget
from .device_check import DeviceCheck
from .proposer import Proposer, optuna_study
from .results import Results
from .session import NoTimingWorker, Peers, Session

_LOG = logging.getLogger("exeunt.work")


@dataclass(frozen=True)
class WorkerRole:
    """The role of one process in a study.

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
    role: WorkerRole | None = None,
    points: Sequence[Parameters] = (),
) -> Generator[Session]:
    """A session on the study, which is made in the database if it is not there.

    `points` are proposed first.

    Raises:
        InputError: the study is there and has other settings, or the database or its files can't be used.
        StorageError: the database is out of reach.
    """
    config, role = study_setup.config, role or WorkerRole()
    artifacts = config.run.artifacts
    with open_store(url, artifacts=artifacts) as store, contradicting_rows(store.url), storage_errors(store.engine):
        with corrupt_rows(store.url):
            _ = store.files.store  # this database's, which its marker proves
            _agree(store, study_setup, role)
        with Worker(store, config.name, config.run.lease_seconds, study_setup.environment) as worker:
            with corrupt_rows(store.url):
                session = _session(study_setup, store, worker, meter, watch, interruption, role, points)
            if role.works:
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


def _agree(store: Store, study_setup: StudySetup, role: WorkerRole) -> None:
    """Stores the study's settings, or checks that this worker measures what they say."""
    config = study_setup.config
    if not role.joins:
        store.studies.put_config(config, study_setup.pins)
        if role.budget_id is None:
            withdraw_order(store, config.name)
        return
    store.studies.check_config(config, study_setup.pins, free=("throughput.device",))
    members, own = store.studies.members(config.name), study_setup.baseline.key[0]
    full = next((each.schedule_digest for each in members if each.family == "full"), own)
    if full != own:
        raise InputError(
            f"study `{config.name}`: its full schedule has the digest {full[:12]}, but on this machine it has "
            f"{own[:12]}. Install the versions of exeunt and numpy that the study was started with."
        )


def _session(
    study_setup: StudySetup,
    store: Store,
    worker: Worker,
    meter: BudgetMeter,
    watch: ProgressListener,
    interruption: Interruption,
    role: WorkerRole,
    points: Sequence[Parameters],
) -> Session:
    """Puts the parts together, and takes in what the study has."""
    name, search = study_setup.config.name, study_setup.config.search
    storage = optuna_storage(store.engine)
    study = optuna_study(storage, name)
    keeper = TrialKeeper(store, study, worker)
    peers = Peers(store, name, worker, keeper)
    peers.look(now=True)
    salt = secrets.randbits(32) if role.is_one_of_many or peers.others else None
    weights = study_setup.weights
    fits = None if search.max_memory is None else lambda schedule: study_setup.too_large(weights, schedule) is None
    proposer = Proposer(study, storage, study_setup.space, weights, search.sampler, search.seed, keeper.own, salt, fits)

    def spent(images: int) -> None:
        meter.images += images
        watch.advance(meter.share_spent, images)
        if peers.wanted() is not None:
            raise Paused(f"study `{name}`: a user requested {peers.wanted()}.")

    costs = Costs(study_setup, store, _target(study_setup, store, worker, role))
    if role.works and not costs.can_time:
        there, here = costs.target, study_setup.environment
        different = [
            f"{key} is {here.get(key)} here and {there[key]} there" for key in there if here.get(key) != there[key]
        ]
        watch.say(
            f"This worker measures only quality, since the study is timed on {there['device']} "
            f"({'; '.join(different)})."
        )
    objective = Objective(study_setup, store, worker, costs, check=interruption.check, spent=spent, say=watch.say)
    results = Results(objective, DeviceCheck(objective, doubted=role.is_one_of_many))
    session = Session(results, proposer, peers, SharedBudget(meter, proposer, results), watch)
    results.restore()
    while not _has_budget(session, role, points):
        session.rest(0.1)
    return session


def _has_budget(session: Session, role: WorkerRole, points: Sequence[Parameters]) -> bool:
    """Gives the session's budget to its study, or joins the budget that the study has.

    Returns False while another worker does so.
    """
    study, others, watch, budget = session.proposer.study, session.peers.others, session.watch, session.budget
    with session.exclusive("budget") as mine:
        if not mine:
            return False
        session.proposer.warm_start(points)
        found, chosen = shared_state.share_and_choice(study)
        # A single worker joins the budget that others spend; workers that are started together bring their own.
        spent_by_others = role.budget_id is None and others > 0 and not shared_state.is_spent(study)
        if found is None or not (role.joins or found.id == role.budget_id or spent_by_others):
            budget.give(role.budget_id)
            return True
        session.choice = chosen
        budget.spend(found)
        if others and role.budget_id is None:
            workers = f"{others} other worker{'s' if others > 1 else ''}"
            watch.say(f"joining {workers} on a budget of {found.budget}")
        return True


def _target(study_setup: StudySetup, store: Store, worker: Worker, role: WorkerRole) -> dict[str, Any]:
    """The environment that the study times in.

    Raises NoTimingWorker: this device is of another kind than the study's, and no worker has begun on one of that kind.
    """
    name, own = study_setup.config.name, study_setup.environment
    if not role.works:
        return {"device": "a device that works on the study"}
    wanted = torch.device(store.studies.config(name).throughput.device).type
    if not role.takes_target and own["device_type"] != wanted and target(store, name) is None:
        raise NoTimingWorker(
            f"study `{name}` must be timed on a device of type {wanted}, but no worker has started on one yet. Start "
            "a worker there first, or make this device the target: exeunt worker --target."
        )
    return take_target(store, name, own, worker.owner, move=role.takes_target)


def _leave(session: Session, reason: str | None = None) -> None:
    """Returns proposals that were not measured. If the database can't be reached, other workers notice it later.

    `reason` is stored with the trials if the storage ended this worker, for example a full disk.
    """
    try:
        for number in session.proposer.unfinished:
            if reason is not None:
                with storage_errors(session.store.engine):
                    session.proposer.note(number, reason)
            session.peers.keeper.give_back(number)
    except (StorageError, Interrupted):
        return
