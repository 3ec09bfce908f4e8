"""Operations that are counted by kinds of calls are those that are counted call by call."""

from exeunt.backends.loading import load
from exeunt.backends.throughput import flops
from exeunt.reports.operations import with_flops
from exeunt.reports.view import StudyView


def test_every_point_has_the_operations_of_its_schedule(view: StudyView) -> None:
    network = load("fashion-dit-exits")
    counted = with_flops(view, {"fashion-dit-exits": network})
    assert {point.weights for point in counted.points} == {"fashion-dit", "fashion-dit-exits"}
    for point, before in zip(counted.points, view.points, strict=True):
        known = point.weights == "fashion-dit-exits"
        assert point.flops == (flops([network], point.schedule) if known else before.flops)
