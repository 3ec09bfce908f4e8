"""What our storage keeps back and stores at once, held against Optuna's own storage."""

import json
import threading
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from datetime import datetime

import optuna
import pytest
from at_once import at_once
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.optuna.storage import StudyStorage, optuna_storage
from exeunt.studies.database.optuna.trials import store_changes
from exeunt.studies.database.transactions import writing
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Engine, event

DISTRIBUTIONS = {
    "depth": IntDistribution(1, 12),
    "warp": FloatDistribution(0.1, 10.0, log=True),
    "kind": CategoricalDistribution(["exit", "reuse", None]),
}


def study_of(storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name="study",
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.RandomSampler(7),
    )


def together(storage: BaseStorage) -> AbstractContextManager[None]:
    """Optuna's own stores all one by one."""
    return storage.together() if isinstance(storage, StudyStorage) else nullcontext()


def told(study: optuna.Study, storage: BaseStorage, *, values: list[float] | None) -> FrozenTrial:
    """A trial that is asked for, noted and told."""
    with together(storage):
        trial = study.ask(fixed_distributions=DISTRIBUTIONS)
        trial.set_user_attr("schedule", "abc")
        trial.set_user_attr("schedule", "abcd")
    with together(storage):
        trial.set_constraint("worthless", 0.25)
        trial.storage.set_trial_system_attr(trial._trial_id, "mark", {"a": [1, None]})
        study.tell(trial, values, state=None if values else TrialState.FAIL)
    return study.get_trials()[-1]


@pytest.fixture
def engine(either_url: str):
    made = open_engine(either_url)
    yield made
    made.dispose()


@pytest.mark.parametrize("values", [[1.5, float("inf")], [-float("inf"), 2.0], None], ids=str)
def test_rows_are_those_that_optuna_writes(engine: Engine, tmp_path, values: list[float] | None) -> None:
    storages = optuna_storage(engine), RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    ours, theirs = (told(study_of(storage), storage, values=values) for storage in storages)
    times = {"datetime_start": None, "datetime_complete": None, "trial_id": 0, "value": None}
    as_told = [FrozenTrial(**{**_fields(each), **times}) for each in (ours, theirs)]
    assert as_told[0] == as_told[1]
    assert ours.datetime_complete is not None
    assert theirs.datetime_complete is not None
    assert abs((ours.datetime_complete - theirs.datetime_complete).total_seconds()) < 60


def _fields(trial: FrozenTrial) -> dict:
    names = "number", "state", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values"
    return {name: getattr(trial, name) for name in names}


def test_what_is_told_is_one_transaction_that_writes(engine: Engine) -> None:
    storage = optuna_storage(engine)
    study = study_of(storage)
    commits = list[int]()
    with together(storage):
        trial = study.ask(fixed_distributions=DISTRIBUTIONS)
    statements = list[str]()
    event.listen(storage.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    event.listen(storage.engine, "commit", lambda _: commits.append(1))
    with together(storage):
        trial.set_constraint("worthless", 0.25)
        study.tell(trial, [1.0, 2.0])
    assert len(commits) == 1
    assert [each.split()[0] for each in statements if each.split()[0] in ("INSERT", "UPDATE")] == [
        "INSERT",
        "INSERT",
        "UPDATE",
    ]


def test_a_proposal_reads_all_trials_once_or_not_at_all(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna_storage(engine)
    study = study_of(storage)
    study.sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=1, constant_liar=True, seed=0)
    for value in range(3):
        told(study, storage, values=[float(value), 1.0])
    reads = Counter[str]()
    event.listen(storage.engine, "before_cursor_execute", lambda *a: reads.update(["FROM trials" in a[2]]))
    for fresh, statements in ((0.0, 1), (60.0, 0)):
        monkeypatch.setattr("exeunt.studies.database.optuna.storage.FRESH_SECONDS", fresh)
        study.get_trials()
        reads.clear()
        with together(storage):
            trial = study.ask(fixed_distributions=DISTRIBUTIONS)
            trial.set_user_attr("where", ("here", 1))
        assert reads[True] - 2 == statements  # one to number the trial, one to lock it
    plain = storage.backend.get_all_trials(study._study_id)
    assert plain[-1].params == trial.params
    reads.clear()
    assert study.get_trials() == plain
    assert reads[True] == 1


def test_what_many_add_at_once_is_there_once(engine: Engine, either_url: str, tmp_path) -> None:
    """Nothing but the database keeps them from it: leases are worth nothing where a clock is wrong."""
    study_of(optuna_storage(engine))
    trial = create_trial(
        params={"depth": 3, "warp": 0.5, "kind": None},
        distributions=DISTRIBUTIONS,
        values=[1.0, float("inf")],
        constraints={"worthless": -0.5},
        user_attrs={"schedule": "abc", "label": "full"},
    )
    barrier = threading.Barrier(4)

    def add() -> None:
        own = open_engine(either_url)
        storage = optuna_storage(own)
        barrier.wait()
        storage.add_once(storage.get_study_id_from_name("study"), trial, "schedule")
        own.dispose()

    at_once(add, 4)
    theirs = study_of(RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}"))
    theirs.add_trial(trial)
    (found,), (wanted,) = optuna.load_study(storage=optuna_storage(engine), study_name="study").trials, theirs.trials
    assert _fields(found) == _fields(wanted)
    assert found.constraints == {"worthless": -0.5}


def test_trials_are_numbered_in_each_study_by_itself(engine: Engine) -> None:
    storage = optuna_storage(engine)
    one, other = study_of(storage), optuna.create_study(storage=storage, study_name="other")
    assert [study.ask().number for study in (one, other, one, one, other)] == [0, 0, 1, 2, 1]
    with pytest.raises(KeyError):
        storage.create_new_trial(10**6)
    with pytest.raises(KeyError):
        storage.get_study_user_attrs(10**6)
    one.set_user_attr("exeunt:grant", {"trials": 2})
    assert (one.user_attrs, other.user_attrs) == ({"exeunt:grant": {"trials": 2}}, {})


def test_the_same_again_changes_nothing_and_anything_else_is_refused(engine: Engine) -> None:
    storage = optuna_storage(engine)
    study = study_of(storage)
    trial_id = study.ask(fixed_distributions=DISTRIBUTIONS)._trial_id
    before = storage.get_trial(trial_id)
    after = deepcopy(before)
    after.user_attrs["a"], after.system_attrs["b"] = 1, [2]
    after.state, after.values, after.datetime_complete = TrialState.COMPLETE, [1.0, float("inf")], datetime.now()
    for _ in range(2):
        with writing(engine) as connection:
            store_changes(connection, trial_id, before, after)
    other, failed, noted = deepcopy(after), deepcopy(after), deepcopy(before)
    other.values, failed.state, failed.values, noted.user_attrs["a"] = [1.0, 3.0], TrialState.FAIL, None, 2
    for each in (other, failed):
        each.datetime_complete = datetime.now()
    for refused in (other, failed, noted):
        with pytest.raises(UpdateFinishedTrialError), writing(engine) as connection:
            store_changes(connection, trial_id, before, refused)
    found = study.get_trials()[0]
    assert (found.user_attrs, found.values) == ({"a": 1}, [1.0, float("inf")])
    with pytest.raises(KeyError):
        storage.set_trial_user_attr(10**6, "a", 1)


def test_a_parameter_of_another_kind_than_in_other_trials_is_refused(engine: Engine) -> None:
    storage = optuna_storage(engine)
    study = study_of(storage)
    study.ask(fixed_distributions=DISTRIBUTIONS)
    second = study.ask()._trial_id
    with pytest.raises(ValueError, match="distribution"), storage.together():
        storage.set_trial_param(second, "depth", 0.5, FloatDistribution(0, 1))
    assert study.get_trials()[1].params == {}


def test_a_trial_that_others_ended_is_refused_at_once(engine: Engine) -> None:
    """Where Optuna reads the trial while it writes, one connection is not enough."""
    storage = optuna_storage(engine)
    study = study_of(storage)
    trial = study.ask(fixed_distributions=DISTRIBUTIONS)
    study.tell(trial.number, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        trial.set_user_attr("late", True)
    with pytest.raises(UpdateFinishedTrialError), together(storage):
        trial.set_user_attr("late", True)
    assert study.get_trials()[0].user_attrs == {}


def broken_off(storage: StudyStorage, trial: optuna.Trial) -> None:
    with storage.together():
        trial.set_user_attr("half", True)
        json.loads("{")


def test_a_block_that_raises_stores_nothing(engine: Engine) -> None:
    storage = optuna_storage(engine)
    study = study_of(storage)
    trial = study.ask(fixed_distributions=DISTRIBUTIONS)
    with pytest.raises(json.JSONDecodeError):
        broken_off(storage, trial)
    assert study.get_trials()[0].user_attrs == {}
    trial.set_user_attr("whole", True)
    assert study.get_trials()[0].user_attrs == {"whole": True}


def test_trials_are_read_as_optuna_reads_them(engine: Engine, either_url: str) -> None:
    """In a study whose trials finish in another order than they began, looked at in between."""
    storage = optuna_storage(engine)
    study, beside = study_of(storage), open_engine(either_url)
    other = optuna.load_study(storage=optuna_storage(beside), study_name="study")
    asked = [study.ask(fixed_distributions=DISTRIBUTIONS) for _ in range(6)]
    study.enqueue_trial({"depth": 3}, user_attrs={"why": "queued"})
    for trial in (asked[4], asked[1], asked[5]):
        study.tell(trial, [1.0, float(trial.number)])
        plain = storage.backend.get_all_trials(study._study_id)
        assert other.get_trials() == study.get_trials() == plain
    assert [each.state.name for each in other.get_trials()] == [
        "RUNNING", "COMPLETE", "RUNNING", "RUNNING", "COMPLETE", "COMPLETE", "WAITING",
    ]  # fmt: skip
    beside.dispose()


def test_what_is_noted_of_a_queued_trial_once_it_runs_is_seen(engine: Engine, either_url: str) -> None:
    """It has notes from the queue, and is looked at before its worker has put its name on it."""
    storage = optuna_storage(engine)
    study = study_of(storage)
    study.enqueue_trial({"depth": 3}, user_attrs={"exeunt:attempt": 2})
    other = open_engine(either_url)
    looking = optuna.load_study(storage=optuna_storage(other), study_name="study")
    with together(storage):
        trial = study.ask(fixed_distributions=DISTRIBUTIONS)
        trial.set_user_attr("exeunt:owner", "ada")
        assert [each.user_attrs for each in looking.get_trials()] == [{"exeunt:attempt": 2}]
    for _ in range(2):
        (found,) = looking.get_trials()
        assert (found.user_attrs, found.params["depth"]) == ({"exeunt:attempt": 2, "exeunt:owner": "ada"}, 3)
    other.dispose()
