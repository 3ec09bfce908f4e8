"""How depths become the rows of a schedule: which blocks run at a step, and what the others do.

A chain of transformer blocks is left early: depth d runs the first d of them. The stages of a U-Net can't be left out,
only reused, and its last stage makes the output, so there a depth adds stages in another order.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter

from ...backends.schedule import DROP, RUN, Action, Schedule

ActionRow = tuple[Action, ...]
BlockOrder = tuple[int, ...]  # all blocks; depth d runs the first d of them


@lru_cache(maxsize=64)
def orders(num_blocks: int, replaces: bool) -> dict[str, BlockOrder]:
    """The orders in which a depth adds blocks, by name.

    Args:
        num_blocks: blocks of the network.
        replaces: whether they are stages of a U-Net, as many down as up with or without one in the middle.

    Returns:
        "front" for a chain: from the first on. For stages "outside", from both ends inwards, the last one first, which
        at depth 2 k is DeepCache (Ma et al. 2024), and "up", the stages up from the last one and then the others from
        the first, which at the number of stages up is Faster Diffusion (Li et al. 2024).
    """
    forward = range(num_blocks)
    if not replaces:
        return {"front": tuple(forward)}
    inwards = dict.fromkeys(block for pair in zip(forward[::-1], forward, strict=True) for block in pair)
    first_up = num_blocks - num_blocks // 2
    return {"outside": tuple(inwards), "up": (*forward[first_up:][::-1], *forward[:first_up])}


def with_rows(schedule: Schedule, rows: Sequence[ActionRow], name: str | None = None) -> Schedule:
    """The schedule with these actions, one row a step and one action a block."""
    assert len(rows) == schedule.num_steps
    steps = tuple(replace(step, blocks=row) for step, row in zip(schedule.steps, rows, strict=True))
    return replace(schedule, steps=steps, name=name)


@lru_cache(maxsize=4096)
def exit_row(
    order: BlockOrder, depth: int, tail: Action = DROP, reach: int | None = None, rest: Action = DROP
) -> ActionRow:
    """Run the first `depth` blocks of an order; give those up to `reach`, or all, the tail; give the others `rest`."""
    reach = len(order) if reach is None else reach
    ranked = (RUN,) * depth + (tail,) * (reach - depth) + (rest,) * (len(order) - reach)
    return tuple(action for _, action in sorted(zip(order, ranked, strict=True), key=itemgetter(0)))


def exit_rows(order: BlockOrder, depths: Sequence[int], tail: Action = DROP) -> list[ActionRow]:
    """A row per depth. With a tail that reads stored values the first step runs whole: nothing is stored before it."""
    rows = [exit_row(order, depth, tail) for depth in depths]
    return rows if tail == DROP else [exit_row(order, len(order)), *rows[1:]]


def refreshed_rows(
    order: BlockOrder, depths: Sequence[int], interval: int, shallow: int, tail: Action, *, droppable: bool = True
) -> list[ActionRow]:
    """Every `interval`-th step runs to its depth; between, `shallow` blocks run and the tail stands in for the others.

    What no refresh ran is left out, so every value that is read was stored: at a step between two refreshes the blocks
    from `shallow` up to the last refresh's depth get the tail action, the blocks beyond it are dropped. Where blocks
    can't be dropped, the first step runs whole and the tail stands in for those beyond, too.

    Args:
        order: blocks of the network in the order in which a depth adds them.
        depths: exit depth of each step, 0..len(order); those between refreshes are not looked at.
        interval: 1 or more; 1 makes each step a refresh.
        shallow: blocks that run between refreshes, 0..len(order).
        tail: what stands in for the blocks that ran at the refresh.
        droppable: whether blocks can be dropped.
    """
    beyond = DROP if droppable else tail
    rows: list[ActionRow] = []
    reach = 0
    for index, depth in enumerate(depths):
        if index % interval == 0:
            reach = depth if droppable or index else len(order)
            rows.append(exit_row(order, reach, beyond))
        else:
            rows.append(exit_row(order, min(shallow, reach), tail, reach, beyond))
    return rows
