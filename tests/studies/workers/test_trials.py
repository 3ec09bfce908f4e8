"""What we rely on in Optuna's storage, and that the trials of dead workers are ended and tried again."""

import subprocess
import sys
import threading
from collections import Counter

import optuna
import pytest
from at_once import at_once
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.store.store import Store
from exeunt.studies.workers import trials
from exeunt.studies.workers.trials import TrialKeeper
from exeunt.studies.workers.workers import Worker
from optuna.trial import TrialState

# Asks for a trial, does what the argument says with it, and is killed.
DIES = """
import os, signal, sys
import optuna
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.store.store import open_store
from exeunt.studies.workers.trials import TrialKeeper
from exeunt.studies.workers.workers import Worker
with open_store(sys.argv[1]) as store, Worker(store, "demo", lease_seconds=3600.0) as worker:
    study = optuna.load_study(storage=optuna_storage(store.engine), study_name="demo")
    trial = study.ask()
    if "own" in sys.argv[2]:
        TrialKeeper(store, study, worker).own(trial)
    if "suggest" in sys.argv[2]:
        trial.suggest_int("depth", 1, 12), trial.suggest_int("steps", 2, 20)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


def die(url: str, after: str) -> None:
    assert subprocess.run([sys.executable, "-c", DIES, url, after], timeout=60, stderr=subprocess.PIPE).returncode == -9


def leave(study: optuna.Study, after: str) -> None:
    """The same without a process, which takes a second to start: the trial's worker is on no record."""
    trial = study.ask()
    if "own" in after:
        trial.set_user_attr(trials.OWNER, "elsewhere:1:00000000")
    if "suggest" in after:
        trial.suggest_int("depth", 1, 12)


@pytest.fixture
def study(store: Store) -> optuna.Study:
    store.studies.put_config(StudyConfig())
    return optuna.create_study(
        storage=optuna_storage(store.engine), study_name="demo", directions=["minimize", "maximize"]
    )


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


class TestOptuna:
    def test_a_queued_trial_goes_to_one_worker_only(self, study: optuna.Study, url: str) -> None:
        """With SQLite's own transactions 8 to 10 of 72 went to two."""
        for depth in range(48):
            study.enqueue_trial({"depth": depth})
        asked: list[int] = []

        def work() -> None:
            engine = open_engine(url)
            mine = optuna.load_study(storage=optuna_storage(engine), study_name="demo")
            for _ in range(8):
                trial = mine.ask()
                asked.append(trial.suggest_int("depth", 0, 47))
                mine.tell(trial, [1.0, 1.0])
            engine.dispose()

        at_once(work, 6)
        assert Counter(asked) == Counter(range(48))
        assert [trial.number for trial in study.get_trials()] == list(range(48))

    def test_a_finished_trial_cannot_be_changed(self, study: optuna.Study) -> None:
        trial = study.ask()
        study.tell(trial, [1.0, 1.0])
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("late", 1)
        with pytest.raises(ValueError, match="Cannot tell a COMPLETE trial"):
            study.tell(trial.number, [2.0, 2.0])
        assert study.tell(trial.number, [2.0, 2.0], skip_if_finished=True).values == [1.0, 1.0]

    def test_a_killed_workers_trial_stays_running(self, study: optuna.Study, url: str) -> None:
        die(url, "own suggest")
        assert states(study) == ["RUNNING"]
        study.ask()
        assert states(study) == ["RUNNING", "RUNNING"]

    def test_a_failed_trial_needs_no_values(self, study: optuna.Study) -> None:
        study.tell(study.ask().number, state=TrialState.FAIL)
        assert states(study) == ["FAIL"]


class TestDeadTrials:
    def test_are_told_fail_and_queued_again(self, store: Store, study: optuna.Study, url: str) -> None:
        die(url, "own suggest")
        with Worker(store, "demo") as worker:
            keeper = TrialKeeper(store, study, worker)
            (dead,) = keeper.fail_dead()
            assert states(study) == ["FAIL", "WAITING"]
            assert keeper.fail_dead() == []
            trial = study.ask()
            again = {"depth": trial.suggest_int("depth", 1, 12), "steps": trial.suggest_int("steps", 2, 20)}
            assert again == dead.params
            assert trial.user_attrs == {trials.RETRY_OF: 0, trials.ATTEMPT: 2}

    def test_keep_what_the_queue_said_of_them(self, store: Store, study: optuna.Study) -> None:
        study.enqueue_trial({"depth": 7, "steps": 9}, user_attrs={"baseline": "exit 7"})
        leave(study, "own")
        with Worker(store, "demo") as worker:
            TrialKeeper(store, study, worker).fail_dead()
        (waiting,) = study.get_trials(states=(TrialState.WAITING,))
        assert waiting.system_attrs["fixed_params"] == {"depth": 7, "steps": 9}
        assert waiting.user_attrs["baseline"] == "exit 7"

    def test_that_had_chosen_nothing_are_not_queued(self, store: Store, study: optuna.Study) -> None:
        leave(study, "own")
        with Worker(store, "demo") as worker:
            assert len(TrialKeeper(store, study, worker).fail_dead()) == 1
        assert states(study) == ["FAIL"]

    def test_are_tried_three_times(self, store: Store, study: optuna.Study) -> None:
        study.enqueue_trial({"depth": 7, "steps": 9})
        for _ in range(3):
            leave(study, "own")
            with Worker(store, "demo") as worker:
                TrialKeeper(store, study, worker).fail_dead()
        assert states(study) == ["FAIL"] * 3

    def test_are_queued_once_by_a_worker_that_died_halfway(self, store: Store, study: optuna.Study) -> None:
        """What a worker leaves that is killed after it enqueued and before it told."""
        study.enqueue_trial({"depth": 7, "steps": 9})
        leave(study, "own")
        study.enqueue_trial({"depth": 7, "steps": 9}, user_attrs={trials.RETRY_OF: 0, trials.ATTEMPT: 2})
        with Worker(store, "demo") as worker:
            TrialKeeper(store, study, worker).fail_dead()
        assert states(study) == ["FAIL", "WAITING"]

    def test_without_an_owner_are_ended_when_nobody_else_is_there(
        self, store: Store, study: optuna.Study, url: str
    ) -> None:
        leave(study, "nothing")
        with Worker(store, "demo") as worker:
            assert len(TrialKeeper(store, study, worker).fail_dead()) == 1

    def test_without_an_owner_may_be_another_workers_next(self, store: Store, study: optuna.Study) -> None:
        leave(study, "nothing")
        with Worker(store, "demo", lease_seconds=1.0) as worker, Worker(store, "demo") as other:
            keeper = TrialKeeper(store, study, worker)
            assert keeper.fail_dead() == []
            threading.Event().wait(1.2)
            assert len(keeper.fail_dead()) == 1
            assert TrialKeeper(store, study, other).fail_dead() == []


def test_the_trials_of_the_living_are_left_alone(store: Store, study: optuna.Study) -> None:
    with Worker(store, "demo") as worker, Worker(store, "demo") as other:
        keeper = TrialKeeper(store, study, worker)
        keeper.own(study.ask())
        TrialKeeper(store, study, other).own(study.ask())
        assert keeper.fail_dead() == []
        assert states(study) == ["RUNNING", "RUNNING"]


def test_one_worker_at_a_time_looks_for_the_dead(store: Store, study: optuna.Study, url: str) -> None:
    leave(study, "own suggest")
    found: list[int] = []

    def look() -> None:
        mine = open_engine(url)
        loaded = optuna.load_study(storage=optuna_storage(mine), study_name="demo")
        with Worker(store, "demo") as worker:
            found.extend(trial.number for trial in TrialKeeper(store, loaded, worker).fail_dead())
        mine.dispose()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0]
    assert states(study) == ["FAIL", "WAITING"]
