"""The dialogue with Optuna."""

import optuna
import pytest
from exeunt.backends.schedule import NetworkSignature, Noise, block_evaluations
from exeunt.backends.solvers import make_schedule
from exeunt.searcher.frames import Frame
from exeunt.searcher.proposing import SAMPLERS, Proposer, Values, open_study
from exeunt.searcher.spaces import make_space

SIGNATURE = NetworkSignature("DiT", "block", (("residual", 6),), None)
FRAME = Frame(make_schedule(SIGNATURE, Noise("linear", 1e-4, 0.02, 1000), "epsilon", num_steps=10), "log-snr")


def proposer(storage=None, sampler: str = "random", seed: int = 0) -> Proposer:
    space = make_space("mixed", FRAME)
    study = open_study(storage or optuna.storages.InMemoryStorage(), "study")
    return Proposer(study, space, sampler, seed, own=lambda trial: None)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_without_a_warning(sampler: str):
    asking = proposer(sampler=sampler)
    for _ in range(11):
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


def test_a_resumed_study_proposes_anew():
    storage = optuna.storages.InMemoryStorage()
    first = proposer(storage)
    known = {first.ask().schedule.digest for _ in range(3)}
    assert proposer(storage).ask().schedule.digest not in known


def test_every_trial_is_noted_as_its_workers():
    owned: list[int] = []
    space = make_space("mixed", FRAME)
    study = open_study(optuna.storages.InMemoryStorage(), "study")
    asking = Proposer(study, space, "random", 0, own=lambda trial: owned.append(trial.number))
    assert [asking.ask().number, asking.ask().number] == owned == [0, 1]


def test_baselines_that_the_space_can_express_are_told_once():
    asking = proposer()
    for _ in range(2):
        asking.tell_known("full", FRAME.full, Values(10.0, 1.0))
        asking.tell_known("8 steps", FRAME.steps(8), Values(12.0, 1.2))
    assert [trial.user_attrs["label"] for trial in asking.study.trials] == ["full", "8 steps"]
    assert asking.study.trials[0].values == [10.0, 1.0]
