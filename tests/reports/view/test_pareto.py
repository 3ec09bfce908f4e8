"""The front, the knee and the hypervolume, held against Optuna and against cases that can be worked out by hand.

`best_ratio` and its lower bound on cases that can be worked out by hand.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import optuna
import pytest
from exeunt.reports.view.interval import Interval
from exeunt.reports.view.pareto import (
    Advantage,
    Score,
    Uncertain,
    advantage,
    best,
    front,
    front_probabilities,
    hypervolume,
    hypervolume_over_cost,
    knee,
)
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

values = st.floats(0.0625, 16.0).map(lambda value: round(value * 16) / 16)  # a coarse grid, so that ties are common
scores = st.builds(Score, values, values)


def dominates(a: Score, b: Score) -> bool:
    """Whether `a` is at least as good as `b` in both objectives and better in one; so equal scores do not dominate."""
    return a.quality <= b.quality and a.speed >= b.speed and a != b


def itself(score: Score) -> Score:
    return score


def from_optuna(points: list[Score]) -> list[Score]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for point in points:
        study.add_trial(optuna.create_trial(values=[point.quality, point.speed]))
    return sorted((points[trial.number] for trial in study.best_trials), key=lambda point: point.speed)


@given(st.lists(scores, min_size=1, max_size=12))
def test_the_front_is_optunas_best_trials_ties_included(points: list[Score]) -> None:
    assert front(points, itself) == from_optuna(points)


@given(st.lists(scores, max_size=12))
def test_nothing_on_the_front_is_dominated_and_everything_else_is(points: list[Score]) -> None:
    kept = front(points, itself)
    assert not any(dominates(a, b) for a in points for b in kept)
    assert all(any(dominates(a, b) for a in kept) for b in points if b not in kept)


@given(st.lists(scores, min_size=1, max_size=12), scores)
def test_the_hypervolume_is_optunas(points: list[Score], reference: Score) -> None:
    losses = np.array([[point.quality, -point.speed] for point in points])
    better = losses[(losses < [reference.quality, -reference.speed]).all(axis=1)]
    expected = compute_hypervolume(better, np.array([reference.quality, -reference.speed])) if len(better) else 0.0
    assert hypervolume(points, reference) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.one_of(st.none(), scores), max_size=12), scores)
def test_progress_is_the_hypervolume_of_what_was_measured_so_far(points: list[Score | None], reference: Score) -> None:
    progress = hypervolume_over_cost([(3.0, point) for point in points], reference)
    for count, entry in enumerate(progress, start=1):
        assert entry.cost == 3.0 * count
        assert entry.hypervolume == hypervolume([point for point in points[:count] if point], reference)


def test_a_known_area() -> None:
    points = [Score(1, 2), Score(2, 3), Score(3, 3), Score(5, 9)]
    assert hypervolume(points, Score(4, 1)) == 1 * 3 + 1 * 2


def test_points_no_better_than_the_reference_have_no_area() -> None:
    assert hypervolume([Score(4, 5), Score(1, 1)], Score(4, 1)) == 0
    assert hypervolume([], Score(4, 1)) == 0


def test_the_knee_is_the_corner_of_an_elbow() -> None:
    corner = Score(1.1, 4.0)
    points = [Score(1.0, 1.0), Score(1.05, 2.0), corner, Score(4.0, 4.4), Score(9.0, 5.0), Score(2.0, 1.5)]
    assert knee(points, itself) == corner


@pytest.mark.parametrize(("quality", "speed"), [(1.0, 7.0), (250.0, 1.0), (0.01, 0.002)])
def test_the_knee_does_not_depend_on_units(quality: float, speed: float) -> None:
    points = [Score(1.0, 1.0), Score(1.3, 2.2), Score(1.9, 3.1), Score(4.0, 3.6)]
    scaled = {Score(point.quality * quality, point.speed * speed): point for point in points}
    assert scaled[knee(list(scaled), itself)] == knee(points, itself)


def test_the_knee_is_the_farthest_by_euclidean_distance_too() -> None:
    points = [Score(math.exp(0.1 * k**2), math.exp(k)) for k in range(8)]
    a, b = (np.log([point.speed, point.quality]) for point in (points[0], points[-1]))

    def distance(point: Score) -> float:
        offset = np.log([point.speed, point.quality]) - a
        return float(abs(np.cross([*offset, 0], [*(b - a), 0])[2]) / np.linalg.norm(b - a))

    assert knee(points, itself) == max(points, key=distance)


def test_without_an_elbow_the_knee_is_the_best_in_quality() -> None:
    bulging = [Score(1.0, 1.0), Score(3.0, 1.5), Score(4.0, 4.0)]
    assert knee(bulging, itself) == bulging[0]
    assert knee(bulging[:1], itself) == bulging[0]
    assert knee([bulging[0], bulging[2]], itself) == bulging[0]


def test_kernel_distances_below_zero_have_a_knee() -> None:
    points = [Score(-0.001, 1.0), Score(0.0, 3.0), Score(0.05, 3.3)]
    assert knee(points, itself) == points[1]


def test_five_thousand_scores_take_well_under_a_second() -> None:
    random = np.random.default_rng(0)
    spent = [(64.0, Score(float(q), float(s))) for q, s in random.uniform(1, 9, (5000, 2))]
    progress = hypervolume_over_cost(spent, Score(9, 1))
    assert progress[-1].hypervolume == pytest.approx(hypervolume((score for _, score in spent), Score(9, 1)))


@dataclass(frozen=True)
class Item:
    """A schedule with a known distance and speed."""

    name: str
    distance: float
    speed: float


POINT = Item("point", 10.0, 3.0)


def compare(baselines: list[Item], tolerance: float = 0.0, timing_error: float = 0.1) -> Advantage[Item]:
    """A baseline counts as significantly worse when its distance is more than `tolerance` above the point's."""

    def speed_ratio(a: Item, b: Item) -> Interval:
        ratio = a.speed / b.speed
        return Interval(ratio, ratio * (1 - timing_error), ratio * (1 + timing_error))

    def significantly_worse(a: Item, b: Item) -> bool:
        return a.distance > b.distance + tolerance

    return advantage(
        POINT,
        baselines,
        quality=lambda item: item.distance,
        speed_ratio=speed_ratio,
        significantly_worse=significantly_worse,
    )


def test_the_fastest_baseline_of_equal_or_better_quality_is_the_rival() -> None:
    slow, equal, worse = Item("slow", 5.0, 1.0), Item("equal", 10.0, 2.0), Item("worse", 10.5, 2.9)
    found = compare([slow, equal, worse])
    assert (found.baseline, found.contender) == (equal, equal)
    assert found.ratio == pytest.approx(1.5)
    assert found.lower == pytest.approx(1.5 * 0.9)


def test_the_bound_looks_at_every_baseline_that_is_not_significantly_worse() -> None:
    equal, worse, far = Item("equal", 10.0, 2.0), Item("worse", 10.5, 2.9), Item("far", 30.0, 9.0)
    found = compare([equal, worse, far], tolerance=1.0)
    assert (found.baseline, found.contender) == (equal, worse)
    assert found.ratio == pytest.approx(1.5)
    assert found.lower == pytest.approx(3.0 / 2.9 * 0.9)


def test_a_point_that_beats_all_in_quality_is_compared_with_the_best_of_them() -> None:
    best_quality, fast = Item("best", 11.0, 1.0), Item("fast", 20.0, 2.5)
    found = compare([best_quality, fast])
    assert (found.baseline, found.ratio) == (best_quality, 3.0)


def test_the_bound_is_never_above_the_ratio() -> None:
    assert compare([Item("equal", 10.0, 2.0)], timing_error=0.0).lower == 1.5


def test_the_best_has_the_largest_bound_not_the_largest_ratio() -> None:
    entries = [Advantage(POINT, POINT, ratio, POINT, lower) for ratio, lower in ((1.2, 1.15), (1.4, 0.9), (1.3, 1.2))]
    assert best(entries) == entries[2]
    assert best([]) is None


@pytest.mark.parametrize("apart", [None, 0.5])
def test_the_probability_of_a_front_point_is_that_of_the_difference_to_its_rival(apart: float | None) -> None:
    """Item 0 is faster, item 1 a little better: 1 is dominated where the difference turns, 2 is far off, 3 is safe."""
    quality = Uncertain(
        np.array([1.0, 0.6, 9.0, 5.0]), np.array([0.8, 0.6, 1.0, 0.1]), {} if apart is None else {(0, 1): apart}
    )
    speed = Uncertain(np.array([2.0, 1.9, 1.0, 3.0]), np.zeros(4), {})
    better, slower, safe = front_probabilities([1, 0, 3], quality, speed)
    exact = NormalDist().cdf(0.4 / (apart or 1.0))
    assert better == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1000))
    assert (slower, safe) == (1.0, 1.0)
    assert front_probabilities([1], quality, speed) == [better]
    assert list(quality.same(1, 0.6)) == [apart is None, True, False, False]
