"""Optuna's trials and the workers that they belong to.

Optuna is told once per trial. A worker that dies between asking and telling leaves a trial that is RUNNING for ever:
Optuna's heartbeats help only under `study.optimize`, and a resumed study would take the zombie for work in progress. So
each trial names its worker, and those whose worker is dead are told FAIL. Their proposals wait in the queue again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from ..database.optuna.tables import marks_of_running
from ..database.transactions import read, retry, storage_errors
from ..store.store import Store
from .workers import Worker, bury_dead_workers, exclusive, living_workers, unended_workers

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection

OWNER = "exeunt:owner"
REASON = "reason"
RETRY_OF = "exeunt:retry_of"
ATTEMPT = "exeunt:attempt"
MAX_ATTEMPTS = 3  # a proposal that takes its workers with it must not take all of them


@final
class TrialKeeper:
    """Marks the trials of this worker, and ends those of dead ones, in one Optuna study."""

    def __init__(self, store: Store, study: Study, worker: Worker) -> None:
        self._store = store
        self._study = study
        self._worker = worker
        self._unowned: dict[int, float] = {}

    def own(self, trial: Trial) -> None:
        """Says that this worker has the trial. To be called right after it was asked for."""
        with storage_errors(self._store.engine):
            trial.set_user_attr(OWNER, self._worker.owner)

    def fail_dead(self) -> list[FrozenTrial]:
        """Tells FAIL to the trials whose workers are dead, and returns them. To be called between two trials.

        Each one's parameters are enqueued again, up to three attempts; nothing is done while another worker does this.
        """
        retry(self._store.engine, lambda: bury_dead_workers(self._store))
        if not self._dead():
            return []
        with exclusive(self._store, f"trials {self._study.study_name}", self._worker) as mine:
            dead = self._dead() if mine else []
            for trial in dead:
                self._end(trial, trial.user_attrs.get(ATTEMPT, 1) + 1)
        return dead

    def give_back(self, number: int) -> None:
        """Tells FAIL to a trial of this worker, which leaves before it is measured; another attempt is made of it."""
        with storage_errors(self._store.engine):
            (trial,) = (each for each in self._study.get_trials(deepcopy=False) if each.number == number)
            self._end(trial, trial.user_attrs.get(ATTEMPT, 1))

    def _dead(self) -> list[FrozenTrial]:
        """Trials are read before workers, since a worker that asks for one is registered by then."""
        from optuna.trial import TrialState

        with storage_errors(self._store.engine):
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not running:
            return []
        alive = retry(self._store.engine, lambda: living_workers(self._store, self._study.study_name))
        return [trial for trial in running if self._is_dead(trial, alive)]

    def _is_dead(self, trial: FrozenTrial, alive: list[str]) -> bool:
        """A trial without a worker was cut off before `own`, unless another worker is just about to call it."""
        owner = trial.user_attrs.get(OWNER)
        if owner is not None:
            return owner not in alive
        since = self._unowned.setdefault(trial.number, time.monotonic())
        alone = alive == [self._worker.owner]
        return alone or time.monotonic() - since > self._worker.lease_seconds

    def _end(self, trial: FrozenTrial, attempt: int) -> None:
        """Enqueues first: a worker that dies in between leaves the trial to the next one, which sees the retry."""
        from optuna.trial import TrialState

        parameters = trial.system_attrs.get("fixed_params", {}) | trial.params
        with storage_errors(self._store.engine):
            others = self._study.get_trials(deepcopy=False)
            retried = any(each.user_attrs.get(RETRY_OF) == trial.number for each in others)
            if parameters and attempt <= MAX_ATTEMPTS and not retried:
                marks: dict[str, Any] = {RETRY_OF: trial.number, ATTEMPT: attempt}
                kept = {key: value for key, value in trial.user_attrs.items() if key not in (OWNER, REASON)}
                self._study.enqueue_trial(parameters, user_attrs=kept | marks)
            self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


@dataclass(frozen=True)
class PeerSnapshot:
    """The owners that worked on a study at one moment, and how many running trials had no living owner.

    `dead` are those that don't live any more and that nobody has ended yet, of all studies.
    """

    alive: frozenset[str]
    dead: frozenset[str]
    orphans: int


def peer_snapshot(store: Store, study: str) -> PeerSnapshot:
    """Looks at a study's workers and trials. A worker that asks for a trial is registered by then."""

    def look(connection: Connection) -> PeerSnapshot:
        workers = unended_workers(connection)
        owners = marks_of_running(connection, OWNER, study)
        dead = frozenset(each.owner for each in workers if each.dead is not None)
        alive = frozenset(each.owner for each in workers if each.study == study) - dead
        return PeerSnapshot(alive, dead, sum(1 for owner in owners if owner not in alive))

    return read(store.engine, look)
