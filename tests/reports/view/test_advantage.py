"""`best_ratio` and its lower bound on cases that can be worked out by hand."""

from dataclasses import dataclass

import pytest
from exeunt.reports.view.advantage import Advantage, advantage, best
from exeunt.reports.view.interval import Interval


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
