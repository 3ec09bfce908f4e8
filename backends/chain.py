"""How a call of a step plan goes through a network's blocks, whatever their kind.

A chain of blocks has a state `h` that flows from block to block: a tensor, or a (nested) tuple of them where blocks
hand on several. What a block stores for later steps has such a form too. Both belong to the caller, and a chain lives
for one call only, so that a network keeps no state between calls and two interleaved requests never meet.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from .plan import Add, Call, Read, Run, Skip, fuses

State: TypeAlias = Tensor | tuple["State", ...]
Slots: TypeAlias = list[State | None]


class Chain(ABC):
    """A network's blocks during one call, in execution order.

    As it stands it is a chain of residual blocks, out = in + f(in). Blocks of other kinds say by `compute`, `apply` and
    `skip` what the actions mean for them (the table of kinds in docs/schedule-format.md):

    * branch: `compute` is its output before its gate, `apply` adds that under this step's gate.
    * merge: `compute` is its residual part, `skip` runs the linear layer over the long skip alone, and `apply` does
      that and adds the residual part.
    * replace: `compute` is all that it hands on, `apply` hands that on; it can't be skipped.

    In a network with merge blocks `compute`, `apply` and `skip` of residual blocks are called too, one block at a time,
    so that they can put aside what a long skip hands on.

    No method may modify its arguments.

    Attributes:
        kinds: of each block, as in the network's signature.
    """

    kinds: Sequence[str]

    @abstractmethod
    def run(self, index: int, h: State) -> State:
        """The state after block `index`."""

    def compute(self, index: int, h: State) -> State:
        """What the block stores when it runs on `h`. `apply(index, h, compute(index, h))` is `run(index, h)`."""
        return add(self.run(index, h), h, -1.0)

    def apply(self, index: int, h: State, value: State) -> State:
        """The state after the block with `value` in place of what it would compute."""
        return add(h, value)

    def skip(self, index: int, h: State) -> State:
        """The state after the block where it is dropped."""
        return h

    def run_and_store(self, index: int, h: State) -> tuple[State, State]:
        """The state after the block, and what it stores: `compute` and `apply`, where nothing cheaper gives both."""
        value = self.compute(index, h)
        return self.apply(index, h, value), value


class ResidualChain(Chain):
    """Residual blocks, given as a function from index and state to the next state."""

    def __init__(self, num_blocks: int, run_block: Callable[[int, Tensor], Tensor]) -> None:
        self.kinds = ("residual",) * num_blocks
        self._run_block = run_block

    def run(self, index: int, h: State) -> State:
        assert isinstance(h, Tensor)
        return self._run_block(index, h)


def execute(call: Call, slots: Slots, h: State, chain: Chain) -> State:
    """Take `h` through a chain as `call` says, and return the state after its last block.

    Args:
        call: spans to run (perhaps storing what they made), to replace by stored values, or to leave out.
        slots: the stored values; `call.release` names those that no later step reads.
        h: the state before block 0.
        chain: the blocks.
    """
    for op in call.ops:
        match op:
            case Run(start, stop, slot) if slot is not None:
                h, slots[slot] = _run_and_store(chain, start, stop, h)
            case Run(start, stop):
                for index in range(start, stop):
                    h = chain.run(index, h)
            case Add(start, _, reads):
                h = _stand_in(chain, start, h, slots, reads)
            case Skip(start, stop):
                for index in range(start, stop):
                    h = chain.skip(index, h)
    for slot in call.release:
        slots[slot] = None
    return h


def _run_and_store(chain: Chain, start: int, stop: int, h: State) -> tuple[State, State]:
    """The state after blocks[start:stop], and what they store: one sum for a residual span, else one block's value."""
    if not _is_fusible(chain, start):
        return chain.run_and_store(start, h)
    before = h
    for index in range(start, stop):
        h = chain.run(index, h)
    return h, add(h, before, -1.0)


def _stand_in(chain: Chain, start: int, h: State, slots: Slots, reads: Sequence[Read]) -> State:
    """The state after a span for which stored values stand in."""
    if _is_fusible(chain, start):
        for read in reads:
            h = add(h, stored(slots, read), read.weight)
        return h
    return chain.apply(start, h, combined(slots, reads))


def combined(slots: Slots, reads: Sequence[Read]) -> State:
    """The weighted sum of stored values that stands in for what one block would compute."""
    first, *others = reads
    value = stored(slots, first)
    if first.weight != 1:
        value = _scaled(value, first.weight)
    for read in others:
        value = add(value, stored(slots, read), read.weight)
    return value


def _is_fusible(chain: Chain, index: int) -> bool:
    """Whether a block is one of a residual span that is stored and added as a whole."""
    return chain.kinds[index] == "residual" and fuses(chain.kinds)


def stored(slots: Slots, read: Read) -> State:
    """The rows of a stored value that one guidance branch reads."""
    value = slots[read.slot]
    assert value is not None, f"slot {read.slot} is read before it is written"
    return value if read.rows == "all" else _half(value, first=read.rows == "conditional")


def add(h: State, value: State, weight: float = 1.0) -> State:
    """h + weight · value, part by part."""
    if isinstance(h, Tensor):
        assert isinstance(value, Tensor)
        return torch.add(h, value, alpha=weight)
    return tuple(add(one, other, weight) for one, other in zip(h, value, strict=True))


def _scaled(value: State, weight: float) -> State:
    return value * weight if isinstance(value, Tensor) else tuple(_scaled(part, weight) for part in value)


def _half(value: State, *, first: bool) -> State:
    if isinstance(value, Tensor):
        half = value.shape[0] // 2
        return value[:half] if first else value[half:]
    return tuple(_half(part, first=first) for part in value)


def copied(value: State) -> State:
    """The same values in tensors of their own."""
    return value.clone() if isinstance(value, Tensor) else tuple(copied(part) for part in value)
