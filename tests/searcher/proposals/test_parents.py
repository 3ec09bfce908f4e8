"""Which measured points are varied."""

from random import Random

import numpy as np
from exeunt.searcher.proposals.parents import Front, Parents
from free_spaces import free_space, varied

REFERENCE = (5.0, 4.0)


def test_dominated_points_are_no_part_of_the_front():
    found = Front(np.array([1.0, 2.0, 2.0, 3.0, 0.5]), np.array([3.0, 2.0, 2.5, 2.0, 3.5]), REFERENCE)
    assert found.members == [(0.5, 3.5), (1.0, 3.0), (2.0, 2.0)]
    assert found.with_those(np.array([0.7]), np.array([2.5])).members == [(0.5, 3.5), (0.7, 2.5), (2.0, 2.0)]


def test_wide_gaps_are_varied_most_and_dominated_points_hardly():
    points = varied(free_space("exits"), 30)[:5]
    times, values = np.array([1.0, 1.1, 1.2, 3.0, 3.0]), np.array([3.9, 3.5, 3.0, 1.0, 3.8])
    parents = Parents(points, Front(times, values, REFERENCE), Random(0))
    picked = [points.index(parents.pick()) for _ in range(2000)]
    assert picked.count(3) > picked.count(1) * 3
    assert picked.count(4) == 0


def test_where_nothing_is_useful_something_is_varied_all_the_same():
    points = varied(free_space("exits"), 10)[:2]
    parents = Parents(points, Front(np.array([]), np.array([]), REFERENCE), Random(0))
    assert parents.pick() in points
