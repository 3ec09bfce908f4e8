"""The dialogue with Optuna."""

import optuna
import pytest
from exeunt.backends.schedule import NetworkSignature, Noise, block_evaluations
from exeunt.backends.solvers import make_schedule
from exeunt.searcher.frames import Frame
from exeunt.searcher.proposing import SAMPLERS, Proposer, Values
from exeunt.searcher.spaces import make_space

SIGNATURE = NetworkSignature("DiT", "block", (("residual", 6),), None)
FRAME = Frame(make_schedule(SIGNATURE, Noise("linear", 1e-4, 0.02, 1000), "epsilon", num_steps=10), "log-snr")


def proposer(storage=None, sampler: str = "random", seed: int = 0) -> Proposer:
    space = make_space("mixed", FRAME)
    return Proposer(storage or optuna.storages.InMemoryStorage(), "study", space, sampler, seed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_without_a_warning(sampler: str):
    asking = proposer(sampler=sampler)
    for _ in range(13):
        proposal = asking.ask()
        cost = block_evaluations(proposal.schedule)
        asking.tell(proposal.number, Values(100 / cost, 1 / cost))
    assert len(asking.study.best_trials) > 0


def test_warm_starts_come_first_and_once():
    storage = optuna.storages.InMemoryStorage()
    expected = [make_space("mixed", FRAME).build(point).digest for point in make_space("mixed", FRAME).warm_starts()]
    first = proposer(storage)
    first.warm_start()
    assert [first.ask().schedule.digest for _ in range(2)] == expected[:2]
    again = proposer(storage)
    again.warm_start()
    assert [again.ask().schedule.digest for _ in range(len(expected) - 2)] == expected[2:]


def test_a_resumed_study_goes_on_with_what_was_left_and_proposes_anew():
    storage = optuna.storages.InMemoryStorage()
    first = proposer(storage)
    left = [first.ask() for _ in range(3)]
    again = proposer(storage)
    assert list(again.unfinished()) == left
    assert again.ask().schedule.digest not in {proposal.schedule.digest for proposal in left}


def test_a_trial_that_was_killed_while_it_was_asked_is_failed():
    storage = optuna.storages.InMemoryStorage()
    first = proposer(storage)
    first.study.ask()
    assert list(proposer(storage).unfinished()) == []
    assert first.study.trials[0].state == optuna.trial.TrialState.FAIL


def test_baselines_that_the_space_can_express_are_told_once():
    asking = proposer()
    for _ in range(2):
        asking.tell_known("full", FRAME.full, Values(10.0, 1.0))
        asking.tell_known("8 steps", FRAME.steps(8), Values(12.0, 1.2))
    assert [trial.user_attrs["label"] for trial in asking.study.trials] == ["full", "8 steps"]
    assert asking.study.trials[0].values == [10.0, 1.0]
