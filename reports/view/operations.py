"""The floating-point operations of a study's points: counted by their networks, and kept for when these aren't loaded.

They are counted by kinds of calls. Thousands of schedules share a few hundred kinds, so that few schedules have to be
compiled and a study keeps little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ...studies.database.optuna.tables import system_attribute
from ...studies.database.transactions import read
from ...studies.store.records import ScheduleSummary, kind_key
from ...studies.store.store import Store
from .view import Point, StudyView

if TYPE_CHECKING:
    from ...backends.network import Network

KEPT = "exeunt:operations"  # the attribute of Optuna's study that has them
_LARGEST = 2**63  # more than any schedule has; below it no sum or quotient fails


@dataclass(frozen=True)
class Operations:
    """What one network needs for one image.

    Attributes:
        decoding: to make an image of a sample.
        calls: of one call of each kind, by `kind_key`.
    """

    decoding: int
    calls: Mapping[str, int]

    def of(self, stored: ScheduleSummary) -> int | None:
        """A schedule's, decoding included, as `throughput.flops` has them; None where a kind of call is unknown.

        Raises:
            ValueError: it isn't a number of operations.
        """
        calls = _calls(stored)
        if not calls or not calls.keys() <= self.calls.keys():
            return None
        total = int(self.decoding + sum(count * self.calls[key] for key, count in calls.items()))
        if not 0 <= total < _LARGEST:
            raise ValueError(f"{total:g} operations")
        return total


def counted(points: Iterable[Point], networks: Mapping[str, Network]) -> dict[str, Operations]:
    """What each network needs for the points on it, by the name of its weights."""
    from ...backends.plan import compile_plan
    from ...backends.timing.throughput import call_flops  # with torch, which reading what was counted does not need

    known: dict[str, dict[str, int]] = {name: {} for name in networks}
    for point in points:
        calls = known.get(point.weights)
        if calls is None or _calls(point.stored).keys() <= calls.keys():
            continue
        for call in (call for step in compile_plan(point.schedule).steps for call in step.calls):
            if (key := kind_key(call.kind)) not in calls:
                calls[key] = call_flops(networks[point.weights], call)
    return {name: Operations(network.decode_flops(), known[name]) for name, network in networks.items()}


def _calls(stored: ScheduleSummary) -> Mapping[str, int]:
    """How often a schedule calls its network, by kinds; nothing for one of several networks."""
    calls = stored.calls
    return calls[0] if len(calls) == 1 else {}


def with_flops(view: StudyView, networks: Mapping[str, Network]) -> StudyView:
    """The view with the operations of each point whose network is at hand, by the name of its weights."""
    found = counted(view.points, networks)
    points = (replace(p, flops=found[p.weights].of(p.stored)) if p.weights in found else p for p in view.points)
    return replace(view, points=tuple(points))


def keep_operations(store: Store, view: StudyView, networks: Mapping[str, Network]) -> None:
    """Keeps what the networks need for a study's points, in place of what it kept before."""
    from ...studies.database.optuna.storage import optuna_storage

    storage = optuna_storage(store.engine)
    kept = {name: asdict(each) for name, each in counted(view.points, networks).items()}
    storage.set_study_system_attr(storage.get_study_id_from_name(view.name), KEPT, kept)


def kept_operations(store: Store, study: str) -> dict[str, Operations]:
    """What a study kept, by the names of its weights; nothing until its first front is measured."""
    kept = read(store.engine, lambda connection: system_attribute(connection, KEPT, study)) or {}
    return {name: Operations(each["decoding"], each["calls"]) for name, each in kept.items()}
