"""The floating-point operations of a study's points: counted by their networks, and kept for when these aren't loaded.

They are counted by kinds of calls. Thousands of schedules share a few hundred kinds, so that few schedules have to be
compiled and a study keeps little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

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
        second: what a second network needs, which takes steps in turn with it; its weights are those beyond the first.
    """

    decoding: int
    calls: Mapping[str, int]
    weights: int = 0
    stored: Sequence[int] = ()
    second: Operations | None = None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Operations:
        """What was kept of it."""
        second = found.get("second")
        made = cls(found["decoding"], found["calls"], found.get("weights", 0), found.get("stored", ()))
        return made if second is None else replace(made, second=cls.from_json(second))

    def _networks(self, count: int) -> Sequence[Operations]:
        """Those of a schedule of so many networks; nothing where one is unknown."""
        known: list[Operations] = [self] if self.second is None else [self, self.second]
        return known[:count] if count <= len(known) else []

    def of(self, stored: ScheduleSummary) -> int | None:
        """A schedule's, decoding included, as `throughput.flops` has them; None where a kind of call is unknown.

        Raises:
            ValueError: it isn't a number of operations.
        """
        pairs = list(zip(stored.calls, self._networks(len(stored.calls)), strict=False))
        if not pairs or not all(calls.keys() <= own.calls.keys() for calls, own in pairs):
            return None
        called = sum(count * own.calls[key] for calls, own in pairs for key, count in calls.items())
        total = int(self.decoding + called)
        if not 0 <= total < _LARGEST:
            raise ValueError(f"{total:g} operations")
        return total

    def memory(self, schedule: Schedule, batch_size: int) -> Memory | None:
        """What a schedule keeps at a batch size; None where that was not counted."""
        networks = self._networks(len(schedule.networks))
        if not networks or not all(each.stored for each in networks):
            return None
        stored = peak_stored(compile_plan(schedule), [each.stored for each in networks])
        found = Memory(int(sum(each.weights for each in networks)), int(batch_size * stored))
        if not (0 <= found.weights < _LARGEST and 0 <= found.stored < _LARGEST):
            raise ValueError(f"{found.weights:g} and {found.stored:g} bytes")
        return found


Networks: TypeAlias = "Mapping[str, Sequence[Network]]"  # by the weights' names: theirs, and a second one if any


def counted(points: Iterable[Point], networks: Networks) -> dict[str, Operations]:
    """What each network needs for the points on it, by the name of its weights."""
    from ...backends.timing.pieces import stored_bytes, tensor_bytes
    from ...backends.timing.throughput import call_flops  # with torch, which reading what was counted does not need

    known = {name: [dict[str, int]() for _ in each] for name, each in networks.items()}
    stored: dict[str, list[tuple[int, ...]]] = {}
    for point in points:
        own, calls = networks.get(point.weights, ()), known.get(point.weights, [])
        if len(point.stored.calls) > len(own):
            continue
        if point.weights not in stored:
            stored[point.weights] = [stored_bytes(each, point.schedule) for each in own]
        if all(found.keys() <= calls[i].keys() for i, found in enumerate(point.stored.calls)):
            continue
        for step in compile_plan(point.schedule).steps:
            for call in step.calls:
                if (key := kind_key(call.kind)) not in calls[step.network]:
                    calls[step.network][key] = call_flops(own[step.network], call)
    found: dict[str, Operations] = {}
    for name, own in networks.items():
        made, held = None, [tensor_bytes(*own[: i + 1]) for i in range(len(own))]
        for i in reversed(range(len(own))):
            sizes = stored[name][i] if name in stored else ()
            weights = held[i] - (held[i - 1] if i else 0)
            made = Operations(own[i].decode_flops(), known[name][i], weights, sizes, made)
        assert made is not None, "each name has a network"
        found[name] = made
    return found


def with_flops(view: StudyView, networks: Networks) -> StudyView:
    """The view with the operations of each point whose network is at hand, by the name of its weights."""
    found = counted(view.points, networks)
    return replace(view, points=tuple(counted_on(p, found.get(p.weights), view.batch_size) for p in view.points))


def counted_on(point: Point, operations: Operations | None, batch_size: int) -> Point:
    """A point with what its network needs for it; its memory only where it was measured again on final seeds."""
    if operations is None:
        return point
    memory = operations.memory(point.schedule, batch_size) if point.final else None
    return replace(point, flops=operations.of(point.stored), memory=memory)


def keep_operations(store: Store, view: StudyView, networks: Networks) -> None:
    """Keeps what the networks need for a study's points, in place of what it kept before."""
    from ...studies.database.optuna.storage import optuna_storage

    storage = optuna_storage(store.engine)
    kept = {name: asdict(each) for name, each in counted(view.points, networks).items()}
    storage.set_study_system_attr(storage.get_study_id_from_name(view.name), KEPT, kept)


def kept_operations(store: Store, study: str) -> dict[str, Operations]:
    """What a study kept, by the names of its weights; nothing until its first front is measured."""
    kept = read(store.engine, lambda connection: system_attribute(connection, KEPT, study)) or {}
    return {name: Operations.from_json(each) for name, each in kept.items()}
