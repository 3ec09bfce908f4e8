"""The dialogue with Optuna."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from exact_outcome import exact_frechet
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import NetworkSignature, Noise, Schedule, block_evaluations
from exeunt.backends.solvers.tables import make_schedule
from exeunt.reports.view.pareto import Score, hypervolume
from exeunt.searcher.search.promotion import Measured
from exeunt.searcher.search.proposer import SAMPLERS, WORTHLESS, Proposer, optuna_study
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.studies.database.optuna.storage import StudyStorage, optuna_storage
from exeunt.studies.store.records import summarized
from exeunt.studies.store.store import open_store
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, event

SIGNATURE = NetworkSignature("DiT", "block", (("residual", 6),), None)
FRAME = FullSchedule(make_schedule(SIGNATURE, Noise("linear", 1e-4, 0.02, 1000), "epsilon", num_steps=10), "log-snr")

WORST = 3.0  # times the full schedule's excess distance, beyond which a schedule is worthless
COUNTS = "SELECT (SELECT count(*) FROM trial_params), (SELECT count(*) FROM trial_user_attributes)"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StudyStorage]:
    with open_store(f"sqlite:///{tmp_path / 'exeunt.db'}") as store:
        yield optuna_storage(store.engine)


def proposer(storage: StudyStorage, sampler: str = "random", seed: int = 0) -> Proposer:
    space = make_space("mixed", FRAME)
    return Proposer(optuna_study(storage, "study"), storage, space, "net", sampler, seed, own=lambda trial: None)


def named(label: str, schedule: Schedule) -> Candidate:
    return Candidate(label, "baseline", "", "net", summarized(schedule))


def valued(candidate: Candidate, quality: float, speed: float) -> Measured:
    return Measured(candidate, quality, quality, speed, quality)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_without_a_warning(storage: StudyStorage, sampler: str):
    asking = proposer(storage, sampler)
    for _ in range(11):
        proposal = asking.ask()
        cost = block_evaluations(proposal.schedule)
        asking.tell(proposal.trial, valued(proposal, 100 / cost, 1 / cost), 5 / cost - 0.2)
    assert len(asking.study.best_trials) > 0


def test_warm_starts_come_first_and_once(storage: StudyStorage):
    expected = [make_space("mixed", FRAME).build(point).digest for point in make_space("mixed", FRAME).warm_starts()]
    first = proposer(storage)
    first.warm_start()
    assert [first.ask().schedule.digest for _ in range(2)] == expected[:2]
    again = proposer(storage)
    again.warm_start()
    assert [again.ask().schedule.digest for _ in range(len(expected) - 2)] == expected[2:]


def test_a_resumed_study_proposes_anew(storage: StudyStorage):
    first = proposer(storage)
    known = {first.ask().schedule.digest for _ in range(3)}
    assert proposer(storage).ask().schedule.digest not in known


def test_every_trial_is_noted_as_its_workers(storage: StudyStorage):
    owned: list[int] = []
    space = make_space("mixed", FRAME)
    study = optuna_study(storage, "study")
    asking = Proposer(study, storage, space, "net", "random", 0, own=lambda trial: owned.append(trial.number))
    assert [asking.ask().trial, asking.ask().trial] == owned == [0, 1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_is_stored_at_once(tmp_path: Path, sampler: str):
    """Whoever looks sees a trial with all of its parameters and its owner, or with nothing; and no sampler minds."""
    file = tmp_path / "exeunt.db"
    seen = set[tuple[int, int]]()

    def look(_connection: Connection) -> None:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as reader:
            seen.add(reader.execute(COUNTS).fetchone())
        reader.close()

    with open_store(f"sqlite:///{file}") as store:
        storage = optuna_storage(store.engine)
        study = optuna_study(storage, "study")
        space = make_space("mixed", FRAME)
        asking = Proposer(
            study, storage, space, "net", sampler, 0, own=lambda trial: trial.set_user_attr("owner", "me")
        )
        event.listen(storage.engine, "commit", look)
        proposal = asking.ask()
        asking.tell(proposal.trial, valued(proposal, 10.0, 1.0), -0.5)
        stored = study.trials[0]
        assert seen == {(0, 0), (len(space.distributions()), 2)}
        assert space.build(stored.params).digest == proposal.schedule.digest == stored.user_attrs["schedule"]
        assert stored.user_attrs["owner"] == "me"


def test_baselines_that_the_space_can_express_are_told_once(storage: StudyStorage):
    asking = proposer(storage)
    for _ in range(2):
        asking.tell_known(valued(named("full", FRAME.full), 10.0, 1.0), -0.5)
        asking.tell_known(valued(named("8 steps", FRAME.steps(8)), 12.0, 1.2), -0.4)
    assert [trial.user_attrs["label"] for trial in asking.study.trials] == ["full", "8 steps"]
    assert asking.study.trials[0].values == [10.0, 1.0]
    assert asking.study.trials[0].constraints == {WORTHLESS: -0.5}


def test_every_trial_is_told_its_violation_before_it_is_finished(storage: StudyStorage):
    asking = proposer(storage)
    first, second = asking.ask(), asking.ask()
    asking.tell(first.trial, valued(first, 10.0, 1.0), 0.3)
    asking.fail(second.trial, "its samples are not finite")
    assert [trial.constraints for trial in asking.study.trials] == [{WORTHLESS: 0.3}, {}]
    assert [trial.state for trial in asking.study.trials] == [TrialState.COMPLETE, TrialState.FAIL]


def tell_as_before(asking: Proposer, schedule: Schedule, quality: float, speed: float) -> None:
    """A finished trial as versions before the constraint left it in a database."""
    distributions, point = asking.space.distributions(), asking.space.parameters(schedule)
    asking.study.add_trial(create_trial(params=point, distributions=distributions, values=[quality, speed]))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_from_before_the_constraint_goes_on_without(storage: StudyStorage, sampler: str):
    for count in range(2, 11):
        tell_as_before(proposer(storage), FRAME.steps(count), 100 / count, 1 / count)
    resumed = proposer(storage, sampler)
    resumed.tell_known(valued(named("full", FRAME.steps(10, warp=1.2)), 9.0, 0.1), -0.5)
    for _ in range(3):
        proposal = resumed.ask()
        cost = block_evaluations(proposal.schedule)
        resumed.tell(proposal.trial, valued(proposal, 100 / cost, 1 / cost), 5 / cost - 0.2)
    told = resumed.study.get_trials(states=[TrialState.COMPLETE])
    assert len(told) >= 12
    assert not any(trial.constraints for trial in told)


# ---- what the constraint is worth ------------------------------------------------------------------------------------


def reached(
    network: ClosedFormNetwork, storage: StudyStorage, sampler: str, seed: int, *, constrained: bool, trials: int = 50
) -> float:
    """The exact hypervolume within the worst excess distance after some trials, for a full schedule of 8 steps."""
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=8)
    worst, cost = WORST * exact_frechet(network, full), block_evaluations(full)
    study, space = optuna_study(storage, f"{seed} {constrained}"), make_space("mixed", FullSchedule(full, "log-snr"))
    asking = Proposer(study, storage, space, "net", sampler, seed, own=lambda trial: None)
    asking.warm_start()
    if constrained:
        asking.tell_known(valued(named("full", full), worst / WORST, 1.0), 1 / WORST - 1)
    else:
        tell_as_before(asking, full, worst / WORST, 1.0)
        asking = Proposer(study, storage, space, "net", sampler, seed, own=lambda trial: None)
    scores: list[Score] = []
    for _ in range(trials):
        proposal = asking.ask()
        score = Score(exact_frechet(network, proposal.schedule), cost / block_evaluations(proposal.schedule))
        asking.tell(proposal.trial, valued(proposal, score.quality, score.speed), score.quality / worst - 1)
        scores.append(score)
    return hypervolume(scores, Score(worst, 1.0)) / worst


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "seeds", "gain"), [("nsga2", 20, 1.05)])
def test_the_constraint_gives_more_hypervolume_where_anyone_wants_it(
    storage: StudyStorage, sampler: str, seeds: int, gain: float
):
    network = load_network("closed-form")
    assert isinstance(network, ClosedFormNetwork)
    free, kept = (
        sum(reached(network, storage, sampler, seed, constrained=constrained) for seed in range(seeds))
        for constrained in (False, True)
    )
    assert kept > gain * free
