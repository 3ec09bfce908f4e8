"""What a schedule's actions mean, one block at a time, written straight from the format's definitions.

It shares nothing with plans and their executor: no slots, no weights worked out before, no fused blocks or joint calls.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...network import ChainNetwork, Network, Slots, State
from ...plan import Add, Call, Op, Read, Run, Skip
from ...schedule import Action, Branch, branches_at
from .probe import Outputs, Probe

PastValues = list[tuple[int, State]]  # (step, value), newest first


def slow_outputs(network: ChainNetwork, given: Probe) -> Iterator[Outputs]:
    """Each step's outputs block by block, straight from the format's definitions: no plan, no slots, no fusing.

    Every value that a block computes is kept, by guidance branch, with the step that it is from.
    """
    history: dict[tuple[Branch, int], list[tuple[int, State]]] = {}
    for s, step in enumerate(given.schedule.steps):
        outputs: Outputs = {}
        for branch in branches_at(given.schedule, s):
            h, chain, finish = network.begin(given.xs[s], given.times[s], given.conditions[branch], given.guidance)
            for j, action in enumerate(step.blocks):
                known = history.setdefault((branch, j), [])
                if action.kind == "run":
                    known.insert(0, (s, chain.compute(j, h)))
                    h = chain.run(j, h)
                elif action.kind == "drop":
                    h = chain.skip(j, h)
                else:
                    h = chain.apply(j, h, taylor(s, known, action.order))
            outputs[branch] = finish(h)
        yield outputs


def taylor(s: int, history: PastValues, order: int) -> State:
    """y0 + k·d + ½·k²·(d − d′)/(r0 − r1) at step `s`, with as many terms as the order and the history allow."""
    r0, y0 = history[0]
    k = s - r0
    if order == 0 or len(history) < 2:
        return y0
    r1, y1 = history[1]
    d = _sum((y0, 1 / (r0 - r1)), (y1, -1 / (r0 - r1)))
    if order == 1 or len(history) < 3:
        return _sum((y0, 1), (d, k))
    r2, y2 = history[2]
    older = _sum((y1, 1 / (r1 - r2)), (y2, -1 / (r1 - r2)))
    bend = 0.5 * k * k / (r0 - r1)
    return _sum((y0, 1), (d, k), (older, -bend), (d, bend))


def _sum(*terms: tuple[State, float]) -> State:
    """The weighted sum of states, part by part."""
    first = terms[0][0]
    if isinstance(first, Tensor):
        return sum((state * weight for state, weight in terms[1:] if isinstance(state, Tensor)), first * terms[0][1])
    weights = [weight for _, weight in terms]
    tuples = [state for state, _ in terms if not isinstance(state, Tensor)]
    return tuple(_sum(*zip(parts, weights, strict=True)) for parts in zip(*tuples, strict=True))


def spelled_outputs(network: Network, given: Probe) -> Iterator[Outputs]:
    """Each step's outputs for a network that shows no chain: a call for each branch, an operation for each block.

    Every value goes into a slot of its own and stays there, so that nothing is fused, shared or freed. What a block
    stores and what stands in for it is the network's own word; all else is the format's.
    """
    history: dict[tuple[Branch, int], list[tuple[int, int]]] = {}
    slots: Slots = []
    for s, step in enumerate(given.schedule.steps):
        outputs: Outputs = {}
        for branch in branches_at(given.schedule, s):
            ops: list[Op] = []
            for j, action in enumerate(step.blocks):
                known = history.setdefault((branch, j), [])
                ops.append(_spelled(s, j, action, known, slots))
            call = Call((branch,), tuple(ops), ())
            outputs[branch] = network.evaluate(given.input(s, branch), call, slots)
        yield outputs


def _spelled(s: int, j: int, action: Action, known: list[tuple[int, int]], slots: Slots) -> Op:
    """The operation for one block; what it stores is put down in `known` as (step, slot)."""
    if action.kind == "run":
        slots.append(None)
        known.insert(0, (s, len(slots) - 1))
        return Run(j, j + 1, len(slots) - 1)
    if action.kind == "drop":
        return Skip(j, j + 1)
    units = torch.eye(3, dtype=torch.float64)
    weights = taylor(s, [(step, unit) for (step, _), unit in zip(known, units, strict=False)], action.order)
    assert isinstance(weights, Tensor)
    reads = [Read(slot, float(weight), "all") for (_, slot), weight in zip(known, weights, strict=False) if weight]
    return Add(j, j + 1, tuple(reads))
