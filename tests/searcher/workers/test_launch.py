"""Two workers of one study in turns, each step of theirs seen by the other."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from exeunt.backends.errors import DeviceError
from exeunt.searcher.measuring.objective import ClaimedElsewhere, DivergedDistance, Paused
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.runner import spend_budget
from exeunt.searcher.search.budget import BudgetMeter
from exeunt.searcher.search.device_check import TOLERANCE, feature_difference
from exeunt.searcher.search.front import Rounds, choose_front, measure_front
from exeunt.searcher.search.loop import measure_baselines, search
from exeunt.searcher.search.opening import WorkerRole, open_session
from exeunt.searcher.search.session import NoTimingWorker, Session, Stopped
from exeunt.searcher.spaces.candidates import list_baselines
from exeunt.studies.config.budget import parse_budget
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.interruption import Interruption
from exeunt.studies.store.store import open_store
from exeunt.studies.workers import shared_state
from exeunt.studies.workers.shared_state import request, target, withdraw_order
from exeunt.studies.workers.status import standing

BUDGET = "6-trials"
TOGETHER = WorkerRole(budget_id="together")


class Noted(ProgressListener):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class Team:
    """Opens workers on one study, all at once, in one process."""

    def __init__(self, study_setup: StudySetup, url: str, stack: ExitStack) -> None:
        self.study_setup, self.url, self.stack = study_setup, url, stack

    def worker(self, arrival: WorkerRole = TOGETHER, study_setup: StudySetup | None = None) -> Session:
        study_setup, meter = study_setup or self.study_setup, BudgetMeter(parse_budget(BUDGET))
        opened = open_session(study_setup, self.url, meter, Noted(), Interruption(), arrival)
        return self.stack.enter_context(opened)


@pytest.fixture(scope="module")
def config(small: StudyConfig) -> StudyConfig:
    return override(small, {"run.budget": BUDGET, "run.lease_seconds": 5.0, "search.sampler": "random"})


@pytest.fixture(scope="module")
def study_setup(config: StudyConfig) -> StudySetup:
    return load_setup(config)


@pytest.fixture(scope="module")
def measured(study_setup: StudySetup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which one worker has measured the baselines."""
    path = tmp_path_factory.mktemp("measured") / "study.db"
    with ExitStack() as stack:
        measure_baselines(Team(study_setup, f"sqlite:///{path}", stack).worker())
    return path


@pytest.fixture
def team(study_setup: StudySetup, tmp_path: Path) -> Iterator[Team]:
    with ExitStack() as stack:
        yield Team(study_setup, f"sqlite:///{tmp_path / 'study.db'}", stack)


@pytest.fixture
def both(team: Team, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Session, Session]:
    """Two workers, who came when the baselines were measured. What is drawn for each is the same in every run."""
    drawn = count(1)
    monkeypatch.setattr(secrets, "randbits", lambda bits: 7919**2 * next(drawn) % 2**bits)
    shutil.copy(measured, tmp_path)
    shutil.copytree(f"{measured}-files", tmp_path / f"{measured.name}-files")
    first, second = team.worker(), team.worker()
    first.refresh(now=True)
    return first, second


def owners(session: Session) -> set[str]:
    return {chunk.owner for chunk in session.store.evaluations.chunks(session.name)}


def test_what_one_has_measured_the_other_looks_up(both: tuple[Session, Session]):
    first, second = both
    assert first.results.measured.keys() == second.results.measured.keys()
    before = owners(second)
    measure_baselines(second)
    assert owners(second) == before
    assert len(before) == 1
    assert second.results.ordered[0].candidate.key == first.study_setup.baseline.key


def test_what_is_known_is_told_once(both: tuple[Session, Session]):
    first = both[0]
    before = len(first.proposer.look())
    for measured in first.results.measured.values():
        for each in both:
            each.proposer.tell_known(measured, each.violation(measured))
    assert len(first.proposer.look()) == before > 0


def test_they_spend_one_budget(both: tuple[Session, Session]):
    first, second = both
    assert first.budget.share == second.budget.share
    for _ in range(2):
        first.open.add(first.proposer.ask())
    second.refresh(now=True)
    assert second.budget.meter.trials_left == 4
    search(second)
    search(first)
    assert first.proposer.asked() == 6
    owner = [trial.user_attrs.get("exeunt:owner") for trial in first.proposer.study.trials]
    assert {each.peers.worker.owner for each in both} == set(filter(None, owner))
    assert standing(first.store, first.name).left(parse_budget(BUDGET)).trials == 0


def test_they_propose_apart(both: tuple[Session, Session]):
    warm = {each.schedule.digest for each in (both[0].proposer.ask() for _ in range(17))}
    mine, yours = ({each.proposer.ask().schedule.digest for _ in range(8)} for each in both)
    assert not mine & yours - warm


def test_what_the_other_is_measuring_stays_open_until_it_is_free(both: tuple[Session, Session]):
    first, second = both
    proposal = second.proposer.ask()
    store, seed = first.store.evaluations, first.study_setup.config.quality.search_seed
    candidate = replace(first.study_setup.baseline, stored=proposal.stored)
    claim = store.claim(
        first.objective.key(candidate, seed), first.peers.worker.owner, 60.0, first.name, proposal.schedule
    )
    assert claim is not None
    second.open.add(proposal)
    assert [each.trial for each in second.open.waiting] == [proposal.trial]
    with pytest.raises(ClaimedElsewhere):
        second.results.measure(second.open.waiting[0])
    store.release(claim)
    second.open.settle()
    assert second.open.waiting == []
    assert second.proposer.unfinished == []


def test_who_leaves_gives_back_what_was_not_measured(team: Team):
    first = team.worker()
    with ExitStack() as stack:
        proposal = Team(team.study_setup, team.url, stack).worker(WorkerRole(joins=True)).proposer.ask()
    states = [trial.state.name for trial in first.proposer.study.trials]
    assert states[proposal.trial] == "FAIL"
    assert "RUNNING" not in states
    assert first.proposer.asked() == 0, "it is begun again, so it is not spent"
    again = next(trial for trial in first.proposer.study.trials if trial.user_attrs.get("exeunt:retry_of") is not None)
    assert again.user_attrs["schedule"] == proposal.schedule.digest


def test_they_compare_one_choice_and_one_of_them_closes_it(both: tuple[Session, Session]):
    first, second = both
    search(first)
    second.refresh(now=True)
    choice = choose_front(second)
    assert choose_front(first) == choice
    taken = Rounds(second, [each for each in second.results.members() if each.key in choice.compared][:2])
    taken.run()
    measure_front(first)
    assert first.choice is not None
    assert first.choice.measured
    spend_budget(second)
    assert "comparing" in " ".join(second.watch.said)
    assert "comparing" not in " ".join(first.watch.said)
    assert len(first.store.measurements.throughputs(first.name)) == len(choice.compared)
    assert standing(first.store, first.name).finished


def test_images_of_a_claimed_point_are_left_to_its_owner(both: tuple[Session, Session]):
    first, second = both
    compared = list({each.key: each for each in first.results.members()}.values())[:3]
    seed = first.study_setup.config.quality.final_seed
    claim = first.store.evaluations.claim(first.objective.key(compared[0], seed), first.peers.worker.owner, 60.0)
    assert claim is not None
    second.choice = shared_state.FrontChoice(second.budget.share.id, tuple(each.key for each in compared))
    rounds = Rounds(second, compared)
    for _ in range(4):
        rounds._step()
    assert [second.objective.reached(each, seed, 64) > 0 for each in compared] == [False, True, True]


# ---- a study's target device -----------------------------------------------------------------------------------------


def elsewhere(study_setup: StudySetup) -> StudySetup:
    """The setup as if on another device."""
    vars(study_setup)["environment"] = {**study_setup.environment, "device": "another device"}
    return study_setup


def test_a_worker_on_another_device_measures_quality_alone(both: tuple[Session, Session], team: Team):
    first, _ = both
    third = team.worker(WorkerRole(joins=True, takes_target=False), elsewhere(load_setup(team.study_setup.config)))
    assert not third.objective.costs.can_time
    assert "measures only quality" in third.watch.said[0]
    assert "device is another device here" in third.watch.said[0]
    timed = first.store.measurements.call_timings
    known = set(timed(first.objective.costs._keys[0]))
    for _ in range(20):
        third.open.add(third.proposer.ask())
    assert third.open.waiting, "some kind of call was never timed"
    assert set(timed(first.objective.costs._keys[0])) == known
    first.refresh(now=True)
    third.refresh(now=True)
    third.open.settle()
    assert third.open.waiting == []
    assert len(third.store.measurements.throughputs(third.name)) == 0


def test_a_target_moves_to_whoever_resumes_where_nobody_lives(team: Team):
    with ExitStack() as stack:
        Team(team.study_setup, team.url, stack).worker()
        lonely = team.worker(WorkerRole(joins=True, takes_target=False), elsewhere(load_setup(team.study_setup.config)))
        assert not lonely.objective.costs.can_time
    lonely._alone_since = 1e-9
    with pytest.raises(NoTimingWorker, match="worker --target"):
        lonely.await_others()
    moved = team.worker(WorkerRole(), elsewhere(load_setup(team.study_setup.config)))
    assert moved.objective.costs.can_time
    assert (target(moved.store, moved.name) or {})["device"] == "another device"


def test_a_study_for_another_kind_of_device_waits_for_one(team: Team):
    team.worker(WorkerRole(works=False, takes_target=False), load_setup(team.study_setup.config)).store.close()
    other = load_setup(team.study_setup.config)
    vars(other)["environment"] = {**other.environment, "device_type": "cuda"}
    with pytest.raises(NoTimingWorker, match="no worker has started on one"):
        team.worker(WorkerRole(joins=True, takes_target=False), other)


# ---- trust -----------------------------------------------------------------------------------------------------------


def test_features_are_compared_with_how_far_images_are_apart():
    stored = np.random.default_rng(0).normal(5.0, 2.0, (16, 40)).astype(np.float16)
    assert feature_difference(stored.astype(np.float32), stored) == 0.0
    assert feature_difference(stored * np.float32(1.001), stored) < TOLERANCE["float32"]
    assert feature_difference(np.roll(stored, 1, axis=0), stored) == pytest.approx(1.4, abs=0.1)
    assert feature_difference(np.full((16, 1), 3.0, np.float32), np.full((16, 1), 3.0, np.float16)) == 0.0


def test_a_device_that_makes_other_images_is_left(both: tuple[Session, Session], team: Team):
    broken = load_setup(team.study_setup.config)
    broken.network.seconds_per_block = 0.0
    broken.network._means += 0.3
    joins = team.worker(WorkerRole(joins=True), broken)
    before = len(joins.store.evaluations.chunks())
    with pytest.raises(DeviceError, match="3 times in a row") as found:
        spend_budget(joins)
    assert found.value.exit_code == 70
    assert sum("check of this device" in said for said in joins.watch.said) == 3
    assert len(joins.store.evaluations.chunks()) == before


# ---- what is wanted of all -------------------------------------------------------------------------------------------


def test_all_stop_between_two_chunks(both: tuple[Session, Session]):
    first, _ = both
    request(first.store, first.name, "stop")
    for each in both:
        each.peers._asked = float("-inf")
        with pytest.raises(Stopped, match="exeunt resume"):
            each.refresh()
    withdraw_order(first.store, first.name)


def test_a_pause_gives_claims_back_and_goes_on_from_there(both: tuple[Session, Session]):
    first, _ = both
    request(first.store, first.name, "pause")
    first.peers._asked = float("-inf")
    last = list_baselines(first.study_setup.frames)[-1]
    measured = override(first.study_setup.config, {"run.chunk_images": 8})
    first.objective.study_setup = replace(first.study_setup, config=measured)
    with pytest.raises(Paused):
        first.results.measure(last)
    seed = measured.quality.search_seed
    assert first.objective.reached(last, seed, 32) == 8
    withdraw_order(first.store, first.name)
    first.peers._asked = float("-inf")
    first.obey_requests()
    first.results.measure(last)
    assert first.objective.reached(last, seed, 32) == 32


# ---- values ----------------------------------------------------------------------------------------------------------


def test_a_distance_that_is_no_number_fails_with_its_reason(team: Team):
    broken = load_setup(team.study_setup.config)
    vars(broken.metric.source)["root"] = replace(broken.metric.source.root, trace=np.nan)
    session = team.worker(study_setup=broken)
    with pytest.raises(DivergedDistance, match="diverges"):
        spend_budget(session)
    with open_store(team.url, read_only=True) as store:
        (record,) = [each for each in store.evaluations.evaluations() if each.failed]
    assert "fd-pixels is nan" in record.failures[0]
