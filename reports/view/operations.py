"""The floating-point operations of a study's points: counted by their networks, and kept for when these aren't loaded.

They are counted by kinds of calls. Thousands of schedules share a few hundred kinds, so that few schedules have to be
compiled and a study keeps little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ...backends.plan import compile_plan, peak_stored
from ...backends.schedule import Schedule
from ...studies.database.optuna.tables import system_attribute
from ...studies.database.transactions import read
from ...studies.store.records import ScheduleSummary, kind_key
from ...studies.store.store import Store
from .view import Memory, Point, StudyView

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
        weights: bytes of its tensors; 0 where an earlier version counted.
        stored: bytes of what each block stores for one image in one guidance branch.
    """

    decoding: int
    calls: Mapping[str, int]
    weights: int = 0
    stored: Sequence[int] = ()

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

    def memory(self, schedule: Schedule, batch_size: int) -> Memory | None:
        """What a schedule keeps at a batch size; None where that was not counted."""
        if not self.stored or len(schedule.networks) > 1:
            return None
        found = Memory(int(self.weights), int(batch_size * peak_stored(compile_plan(schedule), self.stored)))
        if not (0 <= found.weights < _LARGEST and 0 <= found.stored < _LARGEST):
            raise ValueError(f"{found.weights:g} and {found.stored:g} bytes")
        return found


def counted(points: Iterable[Point], networks: Mapping[str, Network]) -> dict[str, Operations]:
    """What each network needs for the points on it, by the name of its weights."""
    from ...backends.timing.pieces import stored_bytes, tensor_bytes
    from ...backends.timing.throughput import call_flops  # with torch, which reading what was counted does not need

    known: dict[str, dict[str, int]] = {name: {} for name in networks}
    stored: dict[str, tuple[int, ...]] = {}
    for point in points:
        if point.weights in known and point.weights not in stored:
            stored[point.weights] = stored_bytes(networks[point.weights], point.schedule)
        calls = known.get(point.weights)
        if calls is None or _calls(point.stored).keys() <= calls.keys():
            continue
        for call in (call for step in compile_plan(point.schedule).steps for call in step.calls):
            if (key := kind_key(call.kind)) not in calls:
                calls[key] = call_flops(networks[point.weights], call)
    return {
        name: Operations(network.decode_flops(), known[name], tensor_bytes(network), stored.get(name, ()))
        for name, network in networks.items()
    }


def _calls(stored: ScheduleSummary) -> Mapping[str, int]:
    """How often a schedule calls its network, by kinds; nothing for one of several networks."""
    calls = stored.calls
    return calls[0] if len(calls) == 1 else {}


def with_flops(view: StudyView, networks: Mapping[str, Network]) -> StudyView:
    """The view with the operations of each point whose network is at hand, by the name of its weights."""
    found = counted(view.points, networks)
    return replace(view, points=tuple(counted_on(p, found.get(p.weights), view.batch_size) for p in view.points))


def counted_on(point: Point, operations: Operations | None, batch_size: int) -> Point:
    """A point with what its network needs for it; its memory only where it was measured again on final seeds."""
    if operations is None:
        return point
    memory = operations.memory(point.schedule, batch_size) if point.final else None
    return replace(point, flops=operations.of(point.stored), memory=memory)


def keep_operations(store: Store, view: StudyView, networks: Mapping[str, Network]) -> None:
    """Keeps what the networks need for a study's points, in place of what it kept before."""
    from ...studies.database.optuna.storage import optuna_storage

    storage = optuna_storage(store.engine)
    kept = {name: asdict(each) for name, each in counted(view.points, networks).items()}
    storage.set_study_system_attr(storage.get_study_id_from_name(view.name), KEPT, kept)


def kept_operations(store: Store, study: str) -> dict[str, Operations]:
    """What a study kept, by the names of its weights; nothing until its first front is measured."""
    kept = read(store.engine, lambda connection: system_attribute(connection, KEPT, study)) or {}
    return {
        name: Operations(each["decoding"], each["calls"], each.get("weights", 0), each.get("stored", ()))
        for name, each in kept.items()
    }
