"""Labels that cover nothing."""

from itertools import combinations

import pytest
from exeunt.reports.plots.style import Box, Label, place_labels
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.cpu

BOUNDS = Box(0, 0, 400, 300)


def overlap(a: Box, b: Box) -> float:
    """The area that both cover."""
    width, height = min(a.right, b.right) - max(a.left, b.left), min(a.top, b.top) - max(a.bottom, b.bottom)
    return max(width, 0.0) * max(height, 0.0)


places = st.tuples(st.floats(0, 400), st.floats(0, 300))


@given(st.lists(places, min_size=1, max_size=15))
def test_labels_stay_inside_and_cover_neither_each_other_nor_points(points: list[tuple[float, float]]) -> None:
    labels = [Label(x, y, 50, 10) for x, y in points]
    obstacles = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    boxes = [box for box in place_labels(labels, obstacles, BOUNDS, gap=6) if box]
    assert all(BOUNDS.holds(box) for box in boxes)
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    assert not any(overlap(box, obstacle) for box in boxes for obstacle in obstacles)


def test_a_free_label_goes_to_the_right_of_its_point() -> None:
    (box,) = place_labels([Label(100, 100, 50, 10)], [], BOUNDS, gap=6)
    assert box == Box(106, 95, 156, 105)


def test_a_label_without_room_is_left_out() -> None:
    assert place_labels([Label(5, 5, 50, 50)], [], Box(0, 0, 10, 10), gap=6) == [None]
