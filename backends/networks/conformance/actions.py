"""Checks of what a schedule's actions do: against the slow reference, against the laws of each kind, and as state."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...network import Chain, ChainNetwork, Network, Slots, State, add
from ...plan import Add, Call, Op, Read, Run, Skip, compile_plan, peak_stored
from ...schedule import DROP, GRANULARITIES, REUSE, RUN, forecast
from ...timing.pieces import state_bytes, stored_bytes
from .checks import Check, Failed, NetworkUnderTest, NotApplicable, Outcome, Passed, relative_difference, within, worst
from .probe import (
    Outputs,
    Probe,
    can_be_guided,
    full_output,
    full_schedule,
    planned_outputs,
    probe,
    random_schedule,
    with_actions,
)
from .reference import slow_outputs, spelled_outputs

SEEDS = range(3)


def plan_of_everything(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    given = probe(network, full_schedule(network, 1))
    found = relative_difference(next(planned_outputs(network, given))["conditional"], full_output(network, given))
    return within(found, 0.0, "a plan in which every block runs gives another output than no plan")


def same_input(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    schedule = full_schedule(network, 3)
    count = network.num_blocks
    columns = [[RUN] * count, [REUSE] * count, *([forecast(2)] * count for _ in schedule.steps[2:])]
    given = probe(network, with_actions(schedule, columns))
    still = replace(given, xs=(given.xs[0],) * len(columns), times=(given.times[0],) * len(columns))
    outputs = [step["conditional"] for step in planned_outputs(network, still)]
    found = max(relative_difference(outputs[0], other) for other in outputs[1:])
    return within(found, subject.limit, "what a block stored is not what it added at that input")


def against_reference(subject: NetworkUnderTest, *, guided: bool = False) -> Outcome:
    """Random action matrices at every granularity, against block by block arithmetic."""
    if guided and not can_be_guided(subject.network):
        return NotApplicable("it has no unconditional branch")
    figures: dict[str, float] = {}
    for granularity, network in _views(subject.network):
        probes = [probe(network, random_schedule(network, seed, guided=guided)) for seed in SEEDS]
        # By the chain's own blocks where the network shows them, else by calls that spell out every block.
        found = max(
            worst(
                planned_outputs(network, given),
                slow_outputs(network, given) if isinstance(network, ChainNetwork) else spelled_outputs(network, given),
            )
            for given in probes
        )
        figures |= {f"difference by {granularity}": found, "limit": subject.limit}
        if found > subject.limit:
            return Failed(f"by {granularity}, random actions differ from the format's definitions", figures)
    return Passed(figures)


def _views(network: Network) -> Iterator[tuple[str, Network]]:
    """The network at every granularity that it knows."""
    for granularity in GRANULARITIES:
        try:
            yield granularity, network.at(granularity)
        except InputError:
            continue


def granularities(subject: NetworkUnderTest) -> Outcome:
    network = subject.network
    views = dict(_views(network))
    if network.signature.granularity not in views:
        return Failed(f"`at({network.signature.granularity!r})` must be the network itself")
    if len(views) == 1:
        return NotApplicable(f"it has only granularity {network.signature.granularity}")
    wrong = [name for name, view in views.items() if view.signature.granularity != name]
    if wrong:
        return Failed(f"`at({wrong[0]!r})` says another granularity in its signature")
    outputs = [full_output(view, probe(view, full_schedule(view, 1))) for view in views.values()]
    found = max(relative_difference(outputs[0], other) for other in outputs[1:])
    return within(found, subject.limit, "full depth differs from one granularity to another")


def laws_of_kinds(subject: NetworkUnderTest) -> Outcome:
    """apply ∘ compute = run; nothing added is drop; what is added is linear in the stored value."""
    figures: dict[str, float] = {}
    for granularity, network in _views(subject.network):
        given = probe(network, full_schedule(network, 1))
        laws = _laws_of_chain(network, given) if isinstance(network, ChainNetwork) else _laws_of_calls(network, given)
        for index, (found, law) in enumerate(laws):
            figures[law] = max(figures.get(law, 0.0), found)
            if not found <= subject.limit:
                kind = network.signature.block_kinds[index]
                return Failed(f"by {granularity}, block {index} ({kind}) breaks a law: {law}", figures)
    return Passed({"difference": max(figures.values()), "limit": subject.limit})


def _laws_of_chain(network: ChainNetwork, given: Probe) -> Iterator[tuple[float, str]]:
    """For each block the law that it is farthest from, and how far."""
    h, chain, _ = network.begin(given.xs[0], given.times[0], given.conditions["conditional"], given.guidance)
    if tuple(chain.kinds) != network.signature.block_kinds:
        yield math.inf, "the chain's kinds are those of the signature"
        return
    for index in range(len(chain.kinds)):
        yield _worst_law(chain, index, h)
        h = chain.run(index, h)


def _laws_of_calls(network: Network, given: Probe) -> Iterator[tuple[float, str]]:
    """The laws that outputs alone tell, for a network that shows no chain."""
    for index, kind in enumerate(network.signature.block_kinds):
        slots: Slots = [None]
        whole = _with(network, given, Run(index, index + 1, 0), slots)
        again = _with(network, given, Add(index, index + 1, (Read(0, 1.0, "all"),)), slots)
        laws = [(relative_difference(again, whole), "applying what it computes is running it")]
        if kind != "replace":
            nothing = Add(index, index + 1, (Read(0, 1.0, "all"), Read(0, -1.0, "all")))
            dropped = _with(network, given, Skip(index, index + 1), slots)
            laws.append(
                (relative_difference(_with(network, given, nothing, slots), dropped), "adding nothing is dropping it")
            )
        yield max(laws)


def _with(network: Network, given: Probe, op: Op, slots: Slots) -> Tensor:
    """The output with one operation for its block, and all others run."""
    ops = [Run(0, op.start), op, Run(op.stop, network.num_blocks)]
    call = Call(("conditional",), tuple(each for each in ops if each.start < each.stop), ())
    return network.evaluate(given.input(0, "conditional"), call, slots)


def _worst_law(chain: Chain, index: int, h: State) -> tuple[float, str]:
    value, after = chain.compute(index, h), chain.run(index, h)
    laws = [
        (relative_difference(chain.apply(index, h, value), after), "applying what it computes is running it"),
        (_stored_apart(chain, index, h, value, after), "storing while running gives the same two"),
    ]
    if chain.kinds[index] != "replace":
        dropped = chain.skip(index, h)
        doubled = chain.apply(index, h, add(value, value))
        laws += [
            (
                relative_difference(chain.apply(index, h, add(value, value, -1.0)), dropped),
                "adding nothing is dropping it",
            ),
            (relative_difference(add(doubled, dropped), add(after, after)), "twice the value adds twice as much"),
        ]
    return max(laws)


def _stored_apart(chain: Chain, index: int, h: State, value: State, after: State) -> float:
    other_after, other_value = chain.run_and_store(index, h)
    return max(relative_difference(other_value, value), relative_difference(other_after, after))


def blocks_count(subject: NetworkUnderTest) -> Outcome:
    """What would be missing if a network ran its blocks elsewhere, or had weights that do nothing."""
    network = subject.network
    if "replace" in network.signature.block_kinds:
        return NotApplicable("its blocks can't be dropped")
    full = full_schedule(network, 1)
    given = probe(network, full)
    dropped = probe(network, with_actions(full, [[DROP] * network.num_blocks, *(s.blocks for s in full.steps[1:])]))
    whole, empty = full_output(network, given), next(planned_outputs(network, dropped))["conditional"]
    found = relative_difference(whole, empty)
    reason = "dropping every block changes nothing: either blocks run outside the chain, or their weights are as new"
    return Passed({"change": found}) if found > 0 else Failed(reason, {"change": found})


def requests_apart(subject: NetworkUnderTest) -> Outcome:
    """Two requests of different sizes step by step in turn, one aborted before, each as it would be alone."""
    network = subject.network
    schedules = [random_schedule(network, seed, guided=can_be_guided(network)) for seed in SEEDS]
    first, second = probe(network, schedules[0], 2), probe(network, schedules[1], 3)
    alone = [list(planned_outputs(network, given)) for given in (first, second)]
    aborted = planned_outputs(network, probe(network, schedules[2], 1))
    for _ in range(2):
        next(aborted)
    del aborted
    turns = [planned_outputs(network, given) for given in (first, second)]
    together: list[list[Outputs]] = [[], []]
    for _ in first.schedule.steps:
        for turn, outputs in zip(turns, together, strict=True):
            outputs.append(next(turn))
    found = max(worst(*pair) for pair in zip(alone, together, strict=True))
    return within(found, subject.limit * 1e-2, "requests disturb each other: the network keeps state between calls")


def slots_released(subject: NetworkUnderTest) -> Outcome:
    """A plan frees what nothing reads any more; an executor of its own must too."""
    network = subject.network
    schedule = random_schedule(network, 0, guided=False)
    plan, given = compile_plan(schedule), probe(network, schedule)
    slots: list[State | None] = [None] * plan.num_slots
    for s, step in enumerate(plan.steps):
        for call in step.calls:
            network.evaluate(given.input(s, "conditional"), call, slots)
    left = sum(slot is not None for slot in slots)
    reason = f"{left} of {len(slots)} stored values are left after the last step: `call.release` says which to free"
    return Passed({"slots": len(slots)}) if not left else Failed(reason, {"left": left})


class _Counted(list[State | None]):
    """Slots that know the most bytes that their values took at a time."""

    most = 0

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        self.most = max(self.most, state_bytes(tuple(each for each in self if each is not None)))


def memory_known(subject: NetworkUnderTest) -> Outcome:
    """What a limit on memory relies on: the size of what each block stores for one image, as one call shows it."""
    network, figures = subject.network, dict[str, float]()
    for guided in (False, *([True] if can_be_guided(network) else [])):
        for seed in SEEDS:
            schedule = random_schedule(network, seed, guided=guided)
            given, slots = probe(network, schedule), _Counted()
            for _ in planned_outputs(network, given, slots):
                pass
            foretold = len(given.xs[0]) * peak_stored(compile_plan(schedule), [stored_bytes(network, schedule)])
            figures = {"bytes": slots.most, "foretold": foretold}
            if slots.most != foretold:
                return Failed("stored values take other memory than one call that stores all of them shows", figures)
    return Passed(figures)


ACTION_CHECKS = (
    Check("whole plan", "a plan in which every block runs equals no plan, bit for bit", plan_of_everything),
    Check("blocks count", "dropping every block changes the output", blocks_count),
    Check("kinds", "each block does what its kind says when it runs or is dropped, reused or forecast", laws_of_kinds),
    Check("same input", "reuse and forecast of everything at the same input equal full depth", same_input),
    Check("actions", "random run, drop, reuse and forecast equal the format's definitions", against_reference),
    Check(
        "actions, guided",
        "the same in both guidance branches, in one call or two",
        partial(against_reference, guided=True),
    ),
    Check("granularities", "every granularity gives the same output at full depth", granularities),
    Check("no state", "interleaved, aborted and differently sized requests are as each alone", requests_apart),
    Check("slots", "stored values are freed after their last use", slots_released),
    Check("memory", "stored values take the memory that is known before", memory_known),
)
