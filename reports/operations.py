"""The floating-point operations of a study's points, which only their networks can count."""

from collections.abc import Mapping
from dataclasses import replace

from ..backends.network import Network
from ..backends.throughput import flops
from .view import Point, StudyView


def with_flops(view: StudyView, networks: Mapping[str, Network]) -> StudyView:
    """The view with the operations of each point whose network is at hand, by the name of its weights."""

    def counted(point: Point) -> Point:
        network = networks.get(point.weights)
        return replace(point, flops=flops([network], point.schedule)) if network else point

    return replace(view, points=tuple(counted(point) for point in view.points))
