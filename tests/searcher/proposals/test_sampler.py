"""The sampler front in plain Optuna studies, on the closed-form network whose quality is known exactly."""

import math
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from exact_outcome import exact_vector
from exeunt.backends.errors import InputError
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import block_evaluations, depths
from exeunt.backends.solvers.tables import make_schedule
from exeunt.reports.view.pareto import Score, hypervolume
from exeunt.searcher.proposals import sampler as sampler_module
from exeunt.searcher.proposals.improvement import Bounds
from exeunt.searcher.proposals.sampler import FrontSampler
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.searcher.spaces.free import Free, require_free
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

STEPS = 8
VETO = "worthless"


class Toy:
    """The closed-form network's schedules, with exact qualities and block evaluations as cost."""

    def __init__(self) -> None:
        self.network = load_network("closed-form")
        full = make_schedule(self.network.signature, self.network.noise, self.network.prediction, num_steps=STEPS)
        self.space = require_free(make_space("free", FullSchedule(full, "log-snr")), "front")
        self.full = full
        self.vectors: dict[int, np.ndarray] = {}
        self.worst = 4 * self.measure(self.space.parameters(full) or {})[0]
        self.slowest = 1 / block_evaluations(full)

    def measure(self, parameters: dict) -> tuple[float, float, np.ndarray]:
        schedule = self.space.build(parameters)
        vector = exact_vector(self.network, schedule)
        return float(vector @ vector), 1 / block_evaluations(schedule), vector

    def sampler(self, seed: int, *, composite: bool = True) -> FrontSampler:
        return FrontSampler(
            self.space,
            seed=seed,
            bounds=lambda: Bounds(self.worst, self.slowest),
            outcome=(lambda trial: self.vectors.get(trial.number)) if composite else (lambda _: None),
            constraint=VETO,
        )

    def study(self, sampler: BaseSampler) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        for point in [self.space.parameters(self.full), *self.space.warm_starts()]:
            study.enqueue_trial(point)
        return study

    def run(self, study: optuna.Study, trials: int, violation: Callable[[dict], float] = lambda _: -1.0) -> float:
        """The hypervolume after that many trials more."""
        for _ in range(trials):
            trial = study.ask(self.space.distributions())
            quality, speed, self.vectors[trial.number] = self.measure(trial.params)
            trial.set_constraint(VETO, violation(trial.params))
            study.tell(trial, [quality, speed])
        found = [
            Score(math.log(each.values[0]), 1 + math.log(each.values[1] / self.slowest))
            for each in study.trials
            if each.values
        ]
        return hypervolume(found, Score(math.log(self.worst), 1.0))


@pytest.fixture
def toy() -> Toy:
    return Toy()


def test_it_finds_a_better_front_than_random_points(toy: Toy):
    found = toy.run(toy.study(toy.sampler(0)), 40)
    assert found > 1.5 * toy.run(toy.study(RandomSampler(seed=0)), 40)


def test_it_knows_how_well_it_foretells(toy: Toy):
    sampler = toy.sampler(1)
    toy.run(toy.study(sampler), 30)
    assert sampler.trust is not None
    assert 0.3 < sampler.trust.rank_correlation <= 1


def test_models_of_vectors_take_two_turns_of_three_once_some_trials_are_known(toy: Toy):
    sampler = toy.sampler(1)
    study, took = toy.study(sampler), dict[int, str]()
    for _ in range(24):
        toy.run(study, 1)
        if sampler.trust is not None:
            took[sampler.trust.num_known] = sampler.trust.model
    few = [model for known, model in took.items() if known < sampler_module.DIRECT_UP_TO]
    more = [model for known, model in took.items() if known >= sampler_module.DIRECT_UP_TO]
    assert set(few) == {"direct"}
    assert more.count("direct") == len(more) // 3


def test_without_vectors_it_models_quality_itself(toy: Toy):
    sampler = toy.sampler(2, composite=False)
    toy.run(toy.study(sampler), 14)
    assert sampler.trust is not None
    assert sampler.trust.model == "direct"


def test_no_schedule_is_proposed_twice(toy: Toy):
    study = toy.study(toy.sampler(3))
    toy.run(study, 30)
    digests = [toy.space.build(trial.params).digest for trial in study.trials]
    assert len(set(digests)) >= len(digests) - 1


def test_equal_seeds_propose_alike(toy: Toy):
    first, second = (toy.study(toy.sampler(4)) for _ in range(2))
    toy.run(first, 12)
    toy.vectors.clear()
    toy.run(second, 12)
    assert [each.params for each in first.trials] == [each.params for each in second.trials]


def test_what_is_being_measured_elsewhere_is_not_proposed_again(toy: Toy):
    study = toy.study(toy.sampler(5))
    toy.run(study, 12)
    asked = [study.ask(toy.space.distributions()) for _ in range(6)]
    assert len({toy.space.build(trial.params).digest for trial in asked}) == 6


def test_vetoed_shapes_are_left(toy: Toy):
    """A veto on shallow first steps, which a distance alone likes, moves proposals to deep ones."""

    def violation(parameters: dict) -> float:
        return 1.0 if parameters["depth_0"] <= 4 else -1.0

    free, kept = toy.study(toy.sampler(6)), toy.study(toy.sampler(6))
    toy.run(free, 40)
    toy.run(kept, 40, violation)

    def shallow(study: optuna.Study) -> int:
        return sum(depths(toy.space.build(trial.params))[0] <= 4 for trial in study.trials[20:])

    assert shallow(kept) < shallow(free)


def test_of_many_trials_the_surrogate_learns_from_the_best(toy: Toy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampler_module, "MOST_KNOWN", 20)
    asked: list[int] = []

    def outcome(trial: FrozenTrial) -> np.ndarray:
        asked.append(trial.number)
        return toy.vectors[trial.number]

    bounds = Bounds(toy.worst, toy.slowest)
    sampler = FrontSampler(toy.space, seed=10, bounds=lambda: bounds, outcome=outcome)
    study = toy.study(RandomSampler(seed=10))
    toy.run(study, 60)
    study.sampler = sampler
    toy.run(study, 1)
    best = sorted(study.trials[:60], key=lambda trial: trial.values[0])[:20]
    assert sorted(asked) == sorted(trial.number for trial in best)


def test_a_failed_trial_is_no_obstacle(toy: Toy):
    study = toy.study(toy.sampler(7))
    toy.run(study, 8)
    study.tell(study.ask(toy.space.distributions()), state=TrialState.FAIL)
    assert toy.run(study, 3) > 0


def test_before_anything_is_known_parameters_are_drawn(toy: Toy):
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=toy.sampler(8))
    trial = study.ask(toy.space.distributions())
    assert trial.params.keys() == toy.space.distributions().keys()


def test_other_spaces_are_refused():
    network = load_network("closed-form")
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=STEPS)
    with pytest.raises(InputError, match=r"sampler: `front` needs the space `free`, but got `mixed`"):
        require_free(make_space("mixed", FullSchedule(full, "log-snr")), "front")


def test_it_works_on_every_network(space: Free):
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=FrontSampler(space, seed=0))
    for point in space.warm_starts():
        study.enqueue_trial(point)
    for _ in range(len(space.warm_starts()) + 8):
        trial = study.ask(space.distributions())
        cost = block_evaluations(space.build(trial.params))
        study.tell(trial, [100 / cost, 1 / cost])
    assert len({space.build(trial.params).digest for trial in study.trials}) > len(space.warm_starts()) + 4
