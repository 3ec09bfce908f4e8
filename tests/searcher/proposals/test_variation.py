"""Variations of points."""

import numpy as np
import pytest
from exeunt.backends.schedule import validate
from exeunt.searcher.proposals.variation import is_even
from exeunt.searcher.spaces.free import Free, Point
from free_spaces import varied


def test_every_variation_is_a_valid_schedule_within_the_distributions(space: Free):
    distributions = space.distributions()
    for point in varied(space, 150):
        parameters = space.values(point)
        assert parameters.keys() == distributions.keys()
        for name, value in parameters.items():
            assert distributions[name]._contains(distributions[name].to_internal_repr(value)), (name, value)
        schedule = space.build(parameters)
        validate(schedule)
        assert space.frame.fewest_steps <= schedule.num_steps == point.num_steps <= space.frame.num_steps


def test_parameters_keep_a_point_but_for_rounding(space: Free):
    for point in varied(space, 60):
        kept = space.point(space.values(point))
        assert (kept.depths, kept.tails, kept.orders, kept.levers) == (
            point.depths,
            point.tails,
            point.orders,
            point.levers,
        )
        assert np.allclose(kept.positions, point.positions, atol=0.01)


def test_all_that_the_space_leaves_free_is_varied(exits: Free):
    points = varied(exits, 400)
    assert len({point.num_steps for point in points}) > 3
    assert len({point.gaps for point in points}) > 10
    assert {tail for point in points for tail in point.tails} == set(range(len(exits.tails)))
    assert {order for point in points for order in point.orders} == set(range(len(exits.orders)))
    assert {dict(point.levers)["solver_order"] for point in points} == {1, 2, 3}


def test_equal_seeds_vary_alike(exits: Free):
    assert varied(exits, 50, seed=3) == varied(exits, 50, seed=3)


@pytest.mark.parametrize("gaps", [(1.0, 1.0, 1.0), (0.5, 1.0, 4.0)])
def test_gaps_that_parameters_can_hold_are_even(gaps: tuple[float, ...]):
    assert is_even(Point(gaps, (1,) * 3, (0,) * 3, (0,) * 3))


def test_a_gap_that_they_cannot_hold_is_not():
    assert not is_even(Point((0.001, 1.0, 1.0), (1,) * 3, (0,) * 3, (0,) * 3))
