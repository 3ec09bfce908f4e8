"""A schedule compiled to what an executor does: which blocks to call, which residuals to keep, and which to add.

Every `reuse` and `forecast` is a weighted sum of values that earlier steps stored, and its weights depend on the
schedule alone. So they are worked out here, exactly, and an executor only runs blocks, keeps tensors and adds them.
Neighbouring residual blocks whose stored values are read alike become one tensor: the sum of their residuals. In a
network with merge blocks they don't, because what lies between them is needed: it feeds the long skips.

Standard library only, like `schedule.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import groupby, pairwise
from typing import Literal, TypeAlias

from .schedule import Action, Branch, Schedule, branches_at, validate

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
    """Stands in for blocks[start:stop]: adds the sum of the reads. The span is residual blocks, or one of another
    kind."""

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
    gaps = tuple(new - old for new, old in pairwise(history[: order + 1]))
    return [(r, weight) for r, weight in zip(history, _taylor(s - history[0], gaps), strict=False) if weight]


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


# ---- what every block reads, and so which calls there are ------------------------------------------------------------

Terms: TypeAlias = tuple[tuple[int, Fraction], ...]  # (step, weight), newest first
StoredValue: TypeAlias = tuple[int, Branch, int]  # the value that a block (last) stored at a step (first) in a branch
Readers: TypeAlias = tuple[tuple[int, Branch, Fraction], ...]  # who reads a value: step, branch, weight


@dataclass
class _Draft:
    """What one pass over the schedule finds out."""

    terms: list[dict[Branch, list[Terms]]]  # per step, branch, block
    joint: list[bool]  # whether a step's branches go in one call
    profiles: dict[StoredValue, list[tuple[int, Branch, Fraction]]]


@lru_cache(maxsize=32)  # a proposal is summarized, timed and sampled
def compile_plan(schedule: Schedule, *, joint: bool = True) -> Plan:
    """The plan of a schedule.

    Args:
        joint: whether both guidance branches of a step go in one call where they can; else each has a call of its own.

    Raises:
        ScheduleError: the schedule is not valid.
    """
    validate(schedule)
    draft = _draft(schedule, joint)
    groups = _groups(schedule, draft)
    return _Emitter(schedule, draft, groups).plan()


def _draft(schedule: Schedule, joint: bool) -> _Draft:
    draft = _Draft([], [], {})
    histories: dict[tuple[int, Branch], list[tuple[int, ...]]] = {}
    for s, step in enumerate(schedule.steps):
        terms: dict[Branch, list[Terms]] = {}
        for branch in branches_at(schedule, s):
            history = histories.setdefault((step.network, branch), [()] * len(step.blocks))
            terms[branch] = _advance(s, step.blocks, history)
            for j, block_terms in enumerate(terms[branch]):
                for r, weight in block_terms:
                    draft.profiles.setdefault((r, branch, j), []).append((s, branch, weight))
        draft.terms.append(terms)
        draft.joint.append(joint and _is_joint(terms, draft.joint))
    return draft


def _advance(s: int, blocks: Sequence[Action], history: list[tuple[int, ...]]) -> list[Terms]:
    """The terms that each block reads at step `s`; those that run move their history on."""
    weights: dict[tuple[tuple[int, ...], int], Terms] = {}
    terms: list[Terms] = [()] * len(blocks)
    for j, action in enumerate(blocks):
        if action.kind == "run":
            history[j] = (s, *history[j][:2])
        elif action.kind != "drop":
            key = (history[j], action.order)
            if key not in weights:
                weights[key] = tuple(forecast_weights(s, *key))
            terms[j] = weights[key]
    return terms


def _is_joint(terms: dict[Branch, list[Terms]], joint: Sequence[bool]) -> bool:
    """Both branches can share a call where they read the same, and from values that were stored for both together."""
    if len(terms) == 1:
        return False
    if terms["conditional"] != terms["unconditional"]:
        return False
    return all(joint[r] for r in {r for block in terms["conditional"] for r, _ in block})


# ---- which values become one tensor ----------------------------------------------------------------------------------


def _calls(draft: _Draft, s: int) -> list[tuple[Branch, ...]]:
    branches = tuple(draft.terms[s])
    return [branches] if draft.joint[s] else [(branch,) for branch in branches]


def _groups(schedule: Schedule, draft: _Draft) -> dict[StoredValue, int]:
    """For every value that is read, the first block of the group that it is stored with."""
    firsts: dict[StoredValue, int] = {}
    for s, step in enumerate(schedule.steps):
        kinds = schedule.networks[step.network].block_kinds
        fusible = fuses(kinds)
        for branches in _calls(draft, s):
            before: tuple[Readers, ...] | None = None
            for j, kind in enumerate(kinds):
                profile = tuple(tuple(draft.profiles.get((s, branch, j), ())) for branch in branches)
                pair = fusible and j > 0 and kind == kinds[j - 1] == "residual"
                fused = pair and profile == before
                for branch in branches if any(profile) else ():
                    firsts[s, branch, j] = firsts[s, branch, j - 1] if fused else j
                before = profile
    return firsts


# ---- operations and slots --------------------------------------------------------------------------------------------


class _Emitter:
    """Walks the calls in order and hands out slots: a free one to each stored group, until its last read."""

    def __init__(self, schedule: Schedule, draft: _Draft, firsts: dict[StoredValue, int]) -> None:
        self.schedule, self.draft, self.firsts = schedule, draft, firsts
        self.slots: dict[
            StoredValue, int
        ] = {}  # by the group's first block; a joint call's group has one for both branches
        self.releases: dict[tuple[int, Branch], list[int]] = {}  # by the step and first branch of the last reading call
        self.free: list[int] = []
        self.num_slots = 0

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
        num_blocks = len(self.schedule.steps[s].blocks)
        for (action, first), blocks in groupby(range(num_blocks), lambda j: self._span_key(s, branches[0], j)):
            span = list(blocks)
            start, stop = span[0], span[-1] + 1
            if action == "run":
                yield Run(start, stop, None if first is None else self._store(s, branches, start))
            elif action == "add":
                yield Add(start, stop, self._reads(s, branches, span))
            else:
                yield Skip(start, stop)

    def _span_key(self, s: int, branch: Branch, j: int) -> tuple[str, object]:
        """Equal for the neighbours that one operation covers."""
        step = self.schedule.steps[s]
        kinds = self.schedule.networks[step.network].block_kinds
        action, kind = step.blocks[j].kind, kinds[j]
        if action == "run":
            return action, self.firsts.get((s, branch, j))
        if action == "drop":
            return action, kind
        return "add", kind if kind == "residual" and fuses(kinds) else j

    def _store(self, s: int, branches: tuple[Branch, ...], first: int) -> int:
        if not self.free:
            self.free.append(self.num_slots)
            self.num_slots += 1
        slot = self.free.pop()
        readers = [reader for branch in branches for reader in self.draft.profiles.get((s, branch, first), ())]
        last: tuple[int, Branch] = max(
            (r, self._lead(r, branch)) for r, branch, _ in readers
        )  # the conditional call is the first of two
        self.releases.setdefault(last, []).append(slot)
        self.slots |= {(s, branch, first): slot for branch in branches}
        return slot

    def _lead(self, s: int, branch: Branch) -> Branch:
        """The first branch of the call that `branch` is part of."""
        return "conditional" if self.draft.joint[s] else branch

    def _reads(self, s: int, branches: tuple[Branch, ...], span: Sequence[int]) -> tuple[Read, ...]:
        """One read a group, newest first: its blocks are neighbours that read alike, so all of them are in the span."""
        branch = branches[0]
        found: dict[StoredValue, Fraction] = {}
        for j in span:
            for r, weight in self.draft.terms[s][branch][j]:
                found[r, branch, self.firsts[r, branch, j]] = weight
        reads: list[Read] = []
        for value in sorted(found, key=lambda value: (-value[0], value[2])):
            rows: Rows = branch if self.draft.joint[value[0]] and len(branches) == 1 else "all"
            reads.append(Read(self.slots[value], float(found[value]), rows))
        return tuple(reads)
