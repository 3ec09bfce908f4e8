"""Plans against a slow interpreter written from the format's definitions, which keeps every value of every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest
from exeunt.backends import plan as plans
from exeunt.backends import schedule as schedules
from exeunt.backends.plan import Add, Read, Run, Skip, compile_plan
from exeunt.backends.schedule import DROP, REUSE, RUN, Action, Guidance, Schedule, Step, forecast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vectors import stand_in

WIDTH = 3
SAMPLER = schedules.Sampler("ddim", "epsilon", "train-index", schedules.Noise("cosine", num_train_timesteps=1000))


def signature(*kinds: str) -> schedules.NetworkSignature:
    granularity = "branch" if "branch" in kinds else "block"
    return schedules.NetworkSignature("toy", granularity, tuple((kind, 1) for kind in kinds))


def make_schedule(rows: list[list[Action]], kinds: list[str] | None = None, **changes: object) -> Schedule:
    steps = tuple(Step(float(999 - 10 * s), tuple(row)) for s, row in enumerate(rows))
    base = Schedule((signature(*(kinds or ["residual"] * len(rows[0]))),), SAMPLER, steps)
    return replace(base, **changes)


# ---- the toy network: every kind of block, in float64 ----------------------------------------------------------------


@dataclass
class ToyNetwork:
    """Blocks of the given kinds on hidden states of shape (rows, WIDTH); `weights` has one matrix a block."""

    kinds: tuple[str, ...]
    weights: np.ndarray

    def linear(self, j: int, h: np.ndarray) -> np.ndarray:
        """What a merge block does before its residual part."""
        return h @ self.weights[j].T + 0.1

    def gate(self, j: int, s: int) -> float:
        return 1.0 + 0.1 * j + 0.01 * s

    def value(self, j: int, h: np.ndarray) -> np.ndarray:
        """What a block stores: residual, output before the gate, residual part, or whole output."""
        inner = self.linear(j, h) if self.kinds[j] == "merge" else h
        return np.tanh(inner @ self.weights[j] + 0.3)

    def apply(self, j: int, s: int, h: np.ndarray, value: np.ndarray | float) -> np.ndarray:
        """The block's output, with `value` in the place of what it would store (0 where it is dropped)."""
        if self.kinds[j] == "replace":
            return np.asarray(value)
        if self.kinds[j] == "merge":
            return self.linear(j, h) + value
        return h + (self.gate(j, s) if self.kinds[j] == "branch" else 1.0) * value


def toy_networks(schedule: Schedule) -> list[ToyNetwork]:
    rng = np.random.default_rng(0)
    kinds = [network.block_kinds for network in schedule.networks]
    return [ToyNetwork(names, rng.normal(size=(len(names), WIDTH, WIDTH)) / 2) for names in kinds]


def inputs(s: int, branch: str) -> np.ndarray:
    """Two images whose values differ for each step and branch, so that a mixed-up row shows."""
    return np.random.default_rng([s, branch == "conditional"]).normal(size=(2, WIDTH))


# ---- the reference: the format's definitions, word for word ----------------------------------------------------------


def evaluated(schedule: Schedule, step: Step) -> list[str]:
    scale = schedule.guidance.scale if step.guidance == "inherit" and schedule.guidance else step.guidance
    guided = isinstance(schedule.guidance, Guidance) and scale is not None
    return ["conditional", "unconditional"] if guided and step.unconditional == "run" else ["conditional"]


def reference_outputs(schedule: Schedule, networks: list[ToyNetwork]) -> dict[tuple[int, str], np.ndarray]:
    outputs: dict[tuple[int, str], np.ndarray] = {}
    history: dict[tuple[int, str, int], list[tuple[int, np.ndarray]]] = {}
    for s, step in enumerate(schedule.steps):
        network = networks[step.network]
        for branch in evaluated(schedule, step):
            h = inputs(s, branch)
            for j, action in enumerate(step.blocks):
                past = history.setdefault((step.network, branch, j), [])
                if action == RUN:
                    past.insert(0, (s, network.value(j, h)))
                    h = network.apply(j, s, h, past[0][1])
                else:
                    h = network.apply(j, s, h, 0.0 if action == DROP else stand_in(action, s, past))
            outputs[s, branch] = h
    return outputs


# ---- an executor of plans --------------------------------------------------------------------------------------------


@dataclass
class Executor:
    networks: list[ToyNetwork]
    slots: list[np.ndarray | None]
    unread: set[int] = field(default_factory=set)
    outputs: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    def read(self, read: Read) -> np.ndarray:
        tensor = self.slots[read.slot]
        assert tensor is not None, "a slot is read before it is stored, or after its release"
        self.unread.discard(read.slot)
        half = len(tensor) // 2
        rows = {"all": slice(None), "conditional": slice(half), "unconditional": slice(half, None)}[read.rows]
        return read.weight * tensor[rows]

    def run(self, network: ToyNetwork, s: int, op: Run, h: np.ndarray) -> np.ndarray:
        before = h
        for j in range(op.start, op.stop):
            value = network.value(j, h)
            h = network.apply(j, s, h, value)
        if op.store is not None:
            assert self.slots[op.store] is None, "a slot is overwritten that is still to be read"
            residual = {network.kinds[j] for j in range(op.start, op.stop)} == {"residual"}
            assert residual or op.stop - op.start == 1
            self.slots[op.store] = h - before if residual else value
            self.unread.add(op.store)
        return h

    def call(self, network: ToyNetwork, s: int, call: plans.Call) -> None:
        h = np.concatenate([inputs(s, branch) for branch in call.branches])
        assert [j for op in call.ops for j in range(op.start, op.stop)] == list(range(len(network.kinds)))
        for op in call.ops:
            if isinstance(op, Run):
                h = self.run(network, s, op, h)
            elif isinstance(op, Add):
                total = sum(self.read(read) for read in op.reads)
                h = network.apply(op.start, s, h, total)
            else:
                for j in range(op.start, op.stop):
                    h = network.apply(j, s, h, 0.0)
        for slot in call.release:
            assert self.slots[slot] is not None
            assert slot not in self.unread, "a value is stored that nobody reads"
            self.slots[slot] = None
        for n, branch in enumerate(call.branches):
            self.outputs[s, branch] = np.split(h, len(call.branches))[n]


def execute(schedule: Schedule, networks: list[ToyNetwork]) -> Executor:
    plan = compile_plan(schedule)
    executor = Executor(networks, [None] * plan.num_slots)
    for s, step in enumerate(plan.steps):
        for call in step.calls:
            executor.call(networks[step.network], s, call)
    assert executor.slots == [None] * plan.num_slots, "something is kept that nobody reads"
    return executor


def assert_plan_is_right(schedule: Schedule) -> None:
    networks = toy_networks(schedule)
    expected, got = reference_outputs(schedule, networks), execute(schedule, networks).outputs
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-9, atol=1e-9, err_msg=str(key))


# ---- random schedules ------------------------------------------------------------------------------------------------

GUIDANCE = st.sampled_from([None, Guidance(1.5), schedules.Embedded(3.5)])
KINDS = st.lists(
    st.sampled_from(["residual", "residual", "residual", "branch", "merge", "replace"]), min_size=1, max_size=6
)


@st.composite
def valid_schedules(draw: st.DrawFn) -> Schedule:
    """Schedules of every kind of block and action, valid by construction: what is stored is followed step by step."""
    networks = tuple(signature(*kinds) for kinds in draw(st.lists(KINDS, min_size=1, max_size=3)))
    base = Schedule(networks, SAMPLER, (), draw(GUIDANCE))
    ran: dict[tuple[int, str], set[int]] = {}
    was_unconditional: set[int] = set()
    for s in range(draw(st.integers(1, 9))):
        index = draw(st.integers(0, len(networks) - 1))
        step = Step(999.0 - s, (), index, guidance=draw(st.sampled_from(["inherit", "inherit", 2.0, None])))
        if base.guidance is None and step.guidance == 2.0:
            step = replace(step, guidance=None)
        if isinstance(base.guidance, Guidance) and step.guidance is not None:
            choices = ["run", "skip", "reuse"] if index in was_unconditional else ["run", "skip"]
            step = replace(step, unconditional=draw(st.sampled_from(choices)))
        base = replace(base, steps=(*base.steps, step))
        branches = schedules.branches_at(base, s)
        caches = [ran.setdefault((index, branch), set()) for branch in branches]
        blocks = draw_blocks(draw, networks[index].block_kinds, set.intersection(*caches))
        for cache in caches:
            cache |= {j for j, action in enumerate(blocks) if action == RUN}
        if len(branches) == 2:
            was_unconditional.add(index)
        base = replace(base, steps=(*base.steps[:-1], replace(step, blocks=blocks)))
    return base


def draw_blocks(draw: st.DrawFn, kinds: tuple[str, ...], stored: set[int]) -> tuple[Action, ...]:
    """Actions come in spans, as in real schedules, so that neighbours are often alike."""
    stand_ins = st.sampled_from([RUN, REUSE, REUSE, forecast(1), forecast(2), DROP])
    actions = [action for action in draw(st.lists(stand_ins, min_size=1, max_size=3)) for _ in range(len(kinds))]
    offset = draw(st.integers(0, len(kinds)))
    chosen: list[Action] = []
    for j, kind in enumerate(kinds):
        action = actions[(j + offset) * len(actions) // (3 * len(kinds)) % len(actions)]
        legal = action == RUN or (kind != "replace" if action == DROP else j in stored)
        chosen.append(action if legal else RUN)
    return tuple(chosen)


@given(valid_schedules())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_plans_do_what_the_format_says(schedule: Schedule) -> None:
    assert_plan_is_right(schedule)


# ---- exact cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("s", "history", "order", "weights"),
    [
        (7, [4, 2, 1], 0, [(4, 1)]),
        (7, [4], 2, [(4, 1)]),
        (7, [4, 2], 1, [(4, Fraction(5, 2)), (2, Fraction(-3, 2))]),
        (7, [4, 2], 2, [(4, Fraction(5, 2)), (2, Fraction(-3, 2))]),
        (7, [4, 2, 1], 1, [(4, Fraction(5, 2)), (2, Fraction(-3, 2))]),
        (7, [4, 2, 1], 2, [(4, Fraction(29, 8)), (2, Fraction(-39, 8)), (1, Fraction(9, 4))]),
    ],
)
def test_forecast_weights(s: int, history: list[int], order: int, weights: list[tuple[int, Fraction]]) -> None:
    assert plans.forecast_weights(s, history, order) == weights
    assert sum(weight for _, weight in weights) == 1


def test_a_staircase_that_drops_stores_nothing() -> None:
    plan = compile_plan(make_schedule([[RUN] * 4, [RUN] * 2 + [DROP] * 2]))
    assert plan.num_slots == 0
    assert plan.steps[0].calls[0].ops == (Run(0, 4),)
    assert plan.steps[1].calls[0].ops == (Run(0, 2), Skip(2, 4))


def test_neighbours_that_are_reused_together_are_one_tensor() -> None:
    plan = compile_plan(make_schedule([[RUN] * 4, [RUN] + [REUSE] * 3, [RUN] + [REUSE] * 3]))
    assert plan.num_slots == 1
    assert plan.steps[0].calls[0].ops == (Run(0, 1), Run(1, 4, store=0))
    assert plan.steps[1].calls[0].ops == (Run(0, 1), Add(1, 4, (Read(0, 1.0, "all"),)))
    assert plan.steps[1].calls[0].release == ()
    assert plan.steps[2].calls[0].release == (0,)


def test_blocks_that_are_read_apart_are_kept_apart() -> None:
    plan = compile_plan(make_schedule([[RUN] * 3, [RUN, REUSE, REUSE], [RUN, RUN, REUSE]]))
    assert plan.steps[0].calls[0].ops == (Run(0, 1), Run(1, 2, store=0), Run(2, 3, store=1))
    assert [read.slot for read in plan.steps[1].calls[0].ops[1].reads] == [0, 1]


def test_only_residual_blocks_are_fused() -> None:
    plan = compile_plan(make_schedule([[RUN] * 4, [REUSE] * 4], ["residual", "residual", "branch", "branch"]))
    assert [(op.start, op.stop) for op in plan.steps[1].calls[0].ops] == [(0, 2), (2, 3), (3, 4)]


def test_long_skips_need_what_lies_between_residual_blocks() -> None:
    plan = compile_plan(make_schedule([[RUN] * 4, [REUSE] * 4], ["residual", "residual", "residual", "merge"]))
    assert [(op.start, op.stop) for op in plan.steps[0].calls[0].ops] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [(op.start, op.stop) for op in plan.steps[1].calls[0].ops] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_slots_are_used_again_after_the_last_read() -> None:
    plan = compile_plan(make_schedule([[RUN] * 2, [RUN, REUSE], [RUN, RUN], [RUN, REUSE]] * 5))
    assert plan.num_slots == 1


def test_the_branches_share_a_call_while_they_read_alike() -> None:
    schedule = make_schedule([[RUN] * 2, [RUN, REUSE]], guidance=Guidance(2.0))
    assert [len(step.calls) for step in compile_plan(schedule).steps] == [1, 1]


def test_a_skipped_unconditional_pass_parts_the_branches() -> None:
    schedule = make_schedule([[RUN] * 2, [RUN, RUN], [RUN, REUSE]], guidance=Guidance(2.0))
    steps = (schedule.steps[0], replace(schedule.steps[1], unconditional="skip"), schedule.steps[2])
    first, second, third = compile_plan(replace(schedule, steps=steps)).steps
    assert [call.branches for call in first.calls] == [("conditional", "unconditional")]
    assert [call.branches for call in second.calls] == [("conditional",)]
    assert [call.branches for call in third.calls] == [("conditional",), ("unconditional",)]
    assert [call.ops[1].reads[0].rows for call in third.calls] == ["all", "unconditional"]


def test_kinds_tell_costs_and_nothing_else() -> None:
    rows = [
        [RUN] * 3,
        [RUN, REUSE, REUSE],
        [RUN, forecast(1), DROP],
        [RUN] * 3,
        [RUN, REUSE, REUSE],
        [RUN, REUSE, DROP],
    ]
    calls = [step.calls[0] for step in compile_plan(make_schedule(rows)).steps]
    assert calls[1].kind == calls[4].kind
    assert calls[2].kind == calls[5].kind  # a forecast from one value is one read, like `reuse`
    assert len({calls[0].kind, calls[1].kind, calls[2].kind}) == 3


def test_an_invalid_schedule_has_no_plan() -> None:
    with pytest.raises(schedules.ScheduleError, match="must have run before") as refusal:
        compile_plan(make_schedule([[RUN, REUSE]]))
    assert refusal.value.identifier == "nothing-stored"


def test_a_schedule_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Schedule] = []
    monkeypatch.setattr(schedules, "_check", lambda schedule: checked.append(schedule))
    read = schedules.parse(schedules.canonical(make_schedule([[RUN], [REUSE]])))
    compile_plan(read)
    assert len(checked) == 1
    changed = replace(read, name="other")
    compile_plan(changed)
    compile_plan(changed, joint=False)
    assert len(checked) == 2


def test_a_schedule_whose_lists_can_change_is_validated_each_time() -> None:
    schedule = make_schedule([[RUN], [REUSE]])
    loose = replace(schedule, steps=list(schedule.steps))
    assert compile_plan(loose) == compile_plan(schedule)
    loose.steps[0] = replace(schedule.steps[0], blocks=(REUSE,))  # type: ignore[index]
    with pytest.raises(schedules.ScheduleError, match="must have run before"):
        compile_plan(loose)
