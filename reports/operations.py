"""The floating-point operations of a study's points, which only their networks can count."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from ..backends.network import Network
from ..backends.plan import compile_plan
from ..backends.throughput import call_flops
from ..studies.outlines import StoredSchedule, kind_key
from .view import Point, StudyView


def with_flops(view: StudyView, networks: Mapping[str, Network]) -> StudyView:
    """The view with the operations of each point whose network is at hand, by the name of its weights."""
    counters = {name: _Counter(network) for name, network in networks.items()}

    def counted(point: Point) -> Point:
        counter = counters.get(point.weights)
        return replace(point, flops=counter.count(point.stored)) if counter else point

    return replace(view, points=tuple(counted(point) for point in view.points))


class _Counter:
    """Counts one network's operations by kinds of calls: thousands of schedules share some, and few are compiled."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._kinds: dict[str, int] = {}

    def count(self, stored: StoredSchedule) -> int:
        """Of one image, decoding included, as `throughput.flops` has them."""
        (calls,) = stored.outline.calls
        if not calls.keys() <= self._kinds.keys():
            self._learn(stored)
        return self._decoding + sum(count * self._kinds[key] for key, count in calls.items())

    @cached_property
    def _decoding(self) -> int:
        return self._network.decode_flops()

    def _learn(self, stored: StoredSchedule) -> None:
        for step in compile_plan(stored.schedule).steps:
            for call in step.calls:
                key = kind_key(call.kind)
                if key not in self._kinds:
                    self._kinds[key] = call_flops(self._network, call)
