"""A schedule compiled to what an executor does: which blocks to call, which residuals to keep, and which to add.

Every `reuse` and `forecast` is a weighted sum of values that earlier steps stored, and its weights depend on the
schedule alone. So they are worked out here, exactly, and an executor only runs blocks, keeps tensors and adds them.
Neighbouring residual blocks whose stored values are read alike become one tensor: the sum of their residuals. In a
network with merge blocks they don't, because what lies between them is needed: it feeds the long skips.

Standard library only, like `schedule.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import groupby, pairwise
from typing import Literal, TypeAlias, TypeVar

from .schedule import Action, Branch, Schedule, branches_at, is_constant, validate

T = TypeVar("T")
Rows: TypeAlias = Literal["all", "conditional", "unconditional"]


@dataclass(frozen=True)
class Read:
    """weight * slots[slot], or one half of it where the slot was stored by a joint call and one branch reads."""

    slot: int
    weight: float
    rows: Rows


@dataclass(frozen=True)
class Run:
    """Runs blocks[start:stop]. With `store`, slots[store] becomes what they added: the hidden state after minus before.

    A stored span is either residual blocks, fused, or one block of another kind, whose stored value its kind defines.
    """

    start: int
    stop: int
    store: int | None = None


@dataclass(frozen=True)
class Add:
    """Replaces blocks[start:stop]: adds the sum of the reads. The span is residual blocks, or one of another kind."""

    start: int
    stop: int
    reads: tuple[Read, ...]


@dataclass(frozen=True)
class Skip:
    """Leaves out blocks[start:stop], all of one kind. `merge` still runs its linear layer; the others add nothing."""

    start: int
    stop: int


Op: TypeAlias = Run | Add | Skip


@dataclass(frozen=True)
class Call:
    """One evaluation of the network: `ops` cover its blocks in order. Two branches are one batch, [conditional;
    unconditional]. The slots in `release` are free afterwards."""

    branches: tuple[Branch, ...]
    ops: tuple[Op, ...]
    release: tuple[int, ...]

    @cached_property
    def kind(self) -> str:
        """What costs time: the call without slot numbers and weights. Calls of a kind on one network take the same
        time; conditional and unconditional calls do too."""
        return f"{len(self.branches)}:" + ",".join(_op_kind(op) for op in self.ops)


@dataclass(frozen=True)
class StepPlan:
    """One step: its calls in order, and the network that they go to."""

    network: int
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Plan:
    """A whole schedule for an executor that keeps `num_slots` tensors."""

    steps: tuple[StepPlan, ...]
    num_slots: int


# What costs time beside the calls: decoding the images, and the solver's arithmetic of one step.
DECODE, SOLVER_STEP = "decode", "solver-step"


def _op_kind(op: Op) -> str:
    match op:
        case Run(start, stop, None):
            return f"run{start}-{stop}"
        case Run(start, stop, _):
            return f"store{start}-{stop}"
        case Add(start, stop, reads):
            return f"add{start}-{stop}x" + "".join("a" if read.rows == "all" else "h" for read in reads)
        case Skip(start, stop):
            return f"skip{start}-{stop}"


def fuses(kinds: Sequence[str]) -> bool:
    """Whether neighbouring residual blocks of a network may share one stored value, and one operation to add it."""
    return "merge" not in kinds


def forecast_weights(s: int, history: Sequence[int], order: int) -> list[tuple[int, Fraction]]:
    """The (step, weight) terms of a forecast at step `s` from the steps in `history` at which the block ran, newest
    first; order 0 is `reuse`. The order falls to what the history allows, and terms of weight 0 are left out."""
    if order == 0:
        return [(history[0], _ONE)]
    gaps = tuple(new - old for new, old in pairwise(history[: order + 1]))
    return [(r, weight) for r, weight in zip(history, _taylor(s - history[0], gaps), strict=False) if weight]


_ONE = Fraction(1)


@lru_cache(maxsize=4096)
def _taylor(k: int, gaps: tuple[int, ...]) -> tuple[Fraction, ...]:
    """Weights of y0, y1, ... at `k` steps after r0, with `gaps` = (r0 - r1, r1 - r2) as long as the order.

    y0 + k d + (k^2/2) (d - d')/(r0 - r1), d = (y0 - y1)/(r0 - r1), d' = (y1 - y2)/(r1 - r2), as TaylorSeer's code.
    """
    weights = [Fraction(1), Fraction(0), Fraction(0)]
    if gaps:
        weights[0] += Fraction(k, gaps[0])
        weights[1] -= Fraction(k, gaps[0])
    if len(gaps) > 1:
        half = Fraction(k * k, 2 * gaps[0])
        weights[0] += half / gaps[0]
        weights[1] -= half / gaps[0] + half / gaps[1]
        weights[2] += half / gaps[1]
    return tuple(weights)


def peak_stored(plan: Plan, sizes: Sequence[Sequence[int]]) -> int:
    """The most that a plan's stored values take at a time, for one image.

    `sizes` has what each block of each network stores in one guidance branch; of residual blocks that are stored as
    one, the first's.
    """
    held, most = dict[int, int](), 0
    for own, call in ((sizes[step.network], call) for step in plan.steps for call in step.calls):
        stores = ((op.store, op.start) for op in call.ops if isinstance(op, Run) and op.store is not None)
        held |= {slot: len(call.branches) * own[start] for slot, start in stores}
        most = max(most, sum(held.values()))
        for slot in call.release:
            del held[slot]
    return most


# ---- what every block reads, and so which calls there are ------------------------------------------------------------

Terms: TypeAlias = tuple[tuple[int, Fraction], ...]  # (step, weight), newest first
RunHistory: TypeAlias = tuple[int, ...]  # the last three steps at which a block ran, newest first


@dataclass
class _Reads:
    """How later steps read what the blocks store at one step, in one guidance branch.

    Attributes:
        last: for each block the last step that reads its value; -1 where none does.
        cuts: blocks whose value is read at other steps, or with other weights, than that of the block before.
    """

    last: list[int]
    cuts: set[int]


@dataclass
class _Draft:
    """What one pass over the schedule finds out."""

    terms: list[dict[Branch, list[Terms]]]  # per step, branch, block
    joint: list[bool]  # whether a step's branches go in one call
    reads: dict[tuple[int, Branch], _Reads]  # by the step that stores and the branch; only where something is read


def compile_plan(schedule: Schedule, *, joint: bool = True) -> Plan:
    """The plan of a schedule.

    Args:
        joint: whether both guidance branches of a step go in one call where they can; else each has a call of its own.

    Raises:
        ScheduleError: the schedule is not valid. One that was validated before is not validated again.
    """
    validate(schedule)
    return _recent(schedule, joint) if is_constant(schedule) else _compiled(schedule, joint)


def _compiled(schedule: Schedule, joint: bool) -> Plan:
    draft = _draft(schedule, joint)
    return _Emitter(schedule, draft, _groups(schedule, draft)).plan()


_recent = lru_cache(maxsize=8)(_compiled)  # a proposal's plan is asked for by its summary, and then by the sampler


def _draft(schedule: Schedule, joint: bool) -> _Draft:
    draft = _Draft([], [], {})
    histories: dict[tuple[int, Branch], list[RunHistory]] = {}
    for s, step in enumerate(schedule.steps):
        terms: dict[Branch, list[Terms]] = {}
        done: list[tuple[list[RunHistory], list[RunHistory], list[Terms]]] = []  # before, after, terms
        for branch in branches_at(schedule, s):
            before = histories.get((step.network, branch)) or [()] * len(step.blocks)
            if not done or done[0][0] != before:  # mostly both branches have run alike
                done.insert(0, (before, *_advance(s, step.blocks, before)))
            _, histories[step.network, branch], terms[branch] = done[0]
        alike: list[tuple[Branch, ...]] = [tuple(terms)] if len(done) == 1 else [(branch,) for branch in terms]
        for branches in alike:
            _note_reads(draft.reads, s, branches, terms[branches[0]])
        draft.terms.append(terms)
        draft.joint.append(joint and _is_joint(terms, draft.joint))
    return draft


def _advance(s: int, blocks: Sequence[Action], before: Sequence[RunHistory]) -> tuple[list[RunHistory], list[Terms]]:
    """The histories after step `s`, at which some blocks run, and the terms that each block reads there."""
    weights: dict[tuple[RunHistory, int], Terms] = {}
    after, terms = list(before), list[Terms]([()]) * len(blocks)
    for action, start, stop in _spans(blocks):
        if action.kind == "run":
            after[start:stop] = [(s, *history[:2]) for history in before[start:stop]]
        elif action.kind != "drop":
            for j in range(start, stop):
                key = (before[j], action.order)
                if key not in weights:
                    weights[key] = tuple(forecast_weights(s, *key))
                terms[j] = weights[key]
    return after, terms


def _spans(values: Iterable[T]) -> Iterator[tuple[T, int, int]]:
    """Equal neighbours: their value, and the indices at which they start and stop."""
    start = 0
    for value, group in groupby(values):
        stop = start + len(list(group))
        yield value, start, stop
        start = stop


def _note_reads(
    reads: dict[tuple[int, Branch], _Reads], s: int, branches: Sequence[Branch], terms: Sequence[Terms]
) -> None:
    """Enter what step `s` reads in branches that read alike."""
    left: dict[int, Fraction] = {}
    for block_terms, start, stop in _spans(terms):
        right = dict(block_terms)
        for r in left | right:
            one, other = left.get(r), right.get(r)
            is_cut = one is not other and one != other
            for branch in branches:
                if (r, branch) not in reads:
                    reads[r, branch] = _Reads([-1] * len(terms), set())
                found = reads[r, branch]
                if is_cut:
                    found.cuts.add(start)
                if other is not None:
                    found.last[start:stop] = [s] * (stop - start)
        left = right


def _is_joint(terms: dict[Branch, list[Terms]], joint: Sequence[bool]) -> bool:
    """Both branches can share a call where they read the same, and from values that were stored for both together."""
    if len(terms) == 1:
        return False
    if terms["conditional"] != terms["unconditional"]:
        return False
    return all(joint[r] for block_terms, _ in groupby(terms["conditional"]) for r, _ in block_terms)


# ---- which values become one tensor ----------------------------------------------------------------------------------

SpanKey: TypeAlias = tuple[str, str | int | None]
Groups: TypeAlias = dict[tuple[int, Branch], list[int | None]]


def _calls(draft: _Draft, s: int) -> list[tuple[Branch, ...]]:
    branches = tuple(draft.terms[s])
    return [branches] if draft.joint[s] else [(branch,) for branch in branches]


def _groups(schedule: Schedule, draft: _Draft) -> Groups:
    """For each step and branch whose values are read, by block: the first block of the group that its value is stored
    with, or None where nothing reads it."""
    groups: Groups = {}
    fusible = [  # of each network and block, whether its stored value may be fused with that of the block before
        [False, *(fuses(kinds) and before == kind == "residual" for before, kind in pairwise(kinds))]
        for kinds in (network.block_kinds for network in schedule.networks)
    ]
    for s, step in enumerate(schedule.steps):
        for branches in _calls(draft, s):
            reads = [draft.reads[s, branch] for branch in branches if (s, branch) in draft.reads]
            if reads:
                apart = set[int]().union(*(each.cuts for each in reads))
                firsts: list[int | None] = []
                for j, lasts in enumerate(zip(*(each.last for each in reads), strict=True)):
                    fused = fusible[step.network][j] and j not in apart
                    firsts.append(None if max(lasts) < 0 else firsts[-1] if fused else j)
                groups |= {(s, branch): firsts for branch in branches}
    return groups


# ---- operations and slots --------------------------------------------------------------------------------------------


class _Emitter:
    """Walks the calls in order and hands out slots: a free one to each stored group, until its last read."""

    def __init__(self, schedule: Schedule, draft: _Draft, groups: Groups) -> None:
        self.schedule, self.draft, self.groups = schedule, draft, groups
        # By step, branch and the group's first block; a joint call's group has one slot for both branches.
        self.slots: dict[tuple[int, Branch, int], int] = {}
        self.releases: dict[tuple[int, Branch], list[int]] = {}  # by the step and first branch of the last reading call
        self.free: list[int] = []
        self.num_slots = 0
        self.keys = [_span_keys(network.block_kinds) for network in schedule.networks]

    def plan(self) -> Plan:
        steps: list[StepPlan] = []
        for s, step in enumerate(self.schedule.steps):
            steps.append(StepPlan(step.network, tuple(self._call(s, branches) for branches in _calls(self.draft, s))))
        return Plan(tuple(steps), self.num_slots)

    def _call(self, s: int, branches: tuple[Branch, ...]) -> Call:
        ops = tuple(self._ops(s, branches))
        release = tuple(self.releases.pop((s, branches[0]), ()))
        self.free.extend(release)
        return Call(branches, ops, release)

    def _ops(self, s: int, branches: tuple[Branch, ...]) -> Iterator[Op]:
        for (action, key), start, stop in _spans(self._keys_at(s, branches[0])):
            if action == "run":
                yield Run(start, stop, key if key is None else self._store(s, branches, start))
            elif action == "drop":
                yield Skip(start, stop)
            else:
                yield Add(start, stop, self._reads(s, branches, start, stop))

    def _keys_at(self, s: int, branch: Branch) -> list[SpanKey]:
        """One key a block, equal for the neighbours that one operation covers."""
        step, firsts = self.schedule.steps[s], self.groups.get((s, branch))
        keys: list[SpanKey] = []
        for action, start, stop in _spans(step.blocks):
            if action.kind == "run" and firsts is not None:
                keys += [("run", first) for first in firsts[start:stop]]
            else:
                keys += self.keys[step.network][action.kind][start:stop]
        return keys

    def _store(self, s: int, branches: tuple[Branch, ...], first: int) -> int:
        if not self.free:
            self.free.append(self.num_slots)
            self.num_slots += 1
        slot = self.free.pop()
        reads: list[tuple[int, Branch]] = [
            (self.draft.reads[s, branch].last[first], branch) for branch in branches if (s, branch) in self.draft.reads
        ]
        # Where the last step reads by two calls, the conditional one is the first.
        last: tuple[int, Branch] = max((r, self._lead(r, branch)) for r, branch in reads if r >= 0)
        self.releases.setdefault(last, []).append(slot)
        self.slots |= {(s, branch, first): slot for branch in branches}
        return slot

    def _lead(self, s: int, branch: Branch) -> Branch:
        """The first branch of the call that `branch` is part of."""
        return "conditional" if self.draft.joint[s] else branch

    def _reads(self, s: int, branches: tuple[Branch, ...], start: int, stop: int) -> tuple[Read, ...]:
        """One read a group, newest first: its blocks are neighbours that read alike, so all of them are in the span."""
        branch = branches[0]
        found: dict[tuple[int, int], Fraction] = {}  # by the step that stored, negative, and the group's first block
        for block_terms, first, last in _spans(self.draft.terms[s][branch][start:stop]):
            for r, weight in block_terms:
                groups = self.groups[r, branch][start + first : start + last]
                found |= {(-r, group): weight for group in groups if group is not None}
        reads: list[Read] = []
        for (negative, group), weight in sorted(found.items()):
            rows: Rows = branch if self.draft.joint[-negative] and len(branches) == 1 else "all"
            reads.append(Read(self.slots[-negative, branch, group], float(weight), rows))
        return tuple(reads)


def _span_keys(kinds: Sequence[str]) -> dict[str, list[SpanKey]]:
    """By action, one key a block of a network, where nothing is stored: equal for what one operation covers."""
    fused = fuses(kinds)
    add: list[SpanKey] = [("add", kind if kind == "residual" and fused else j) for j, kind in enumerate(kinds)]
    return {
        "run": [("run", None)] * len(kinds),
        "drop": [("drop", kind) for kind in kinds],
        "reuse": add,
        "forecast": add,
    }
