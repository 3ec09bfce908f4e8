"""Points between two others."""

import math

import pytest
from exeunt.backends.schedule import block_evaluations
from exeunt.searcher.proposals.interpolation import between
from exeunt.searcher.spaces.free import Free, Point


def made(space: Free, num_steps: int, depth: int) -> Point:
    count = space.frame.num_made(num_steps)
    gaps = (1.0,) * space.frame.num_intervals(count)
    return Point(gaps, (depth,) * count, (0,) * count, (0,) * count)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_blocks_bring_it_to_the_wanted_cost(exits: Free, share: float):
    def cost(point: Point) -> int:
        return block_evaluations(exits.schedule(point))

    slower, faster = made(exits, exits.most_steps, exits.frame.num_blocks), made(exits, exits.fewest_steps, 2)
    wanted = cost(slower) ** (1 - share) * cost(faster) ** share
    found = between(exits, slower, faster, share, lambda point: math.log(cost(point) / wanted))
    assert faster.num_steps <= found.num_steps <= slower.num_steps
    assert abs(cost(found) - wanted) <= 1  # no single block is nearer


def test_the_ends_are_themselves(exits: Free):
    slower, faster = made(exits, 8, exits.frame.num_blocks), made(exits, 4, 3)
    assert between(exits, slower, faster, 0.0, lambda _: 0.0) == slower
    assert between(exits, slower, faster, 1.0, lambda _: 0.0) == faster
