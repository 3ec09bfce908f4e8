"""What each step of a training sees, drawn on the CPU as a function of the seed and the step alone.

So a training that is gone on from sees what it would have seen, and any number of processes share one global batch.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InputError


def generator(seed: int, *words: object) -> torch.Generator:
    """A generator on the CPU for one purpose of one seed."""
    digest = hashlib.sha256("/".join(map(str, (seed, *words))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class RowOrder:
    """Rows of a data set in batches, each row at most once an epoch.

    Args:
        count: of rows.
        size: of a batch.
        seed: of the order.

    Raises:
        InputError: a batch is larger than the data set.
    """

    def __init__(self, count: int, size: int, seed: int) -> None:
        if size > count:
            raise InputError(
                f"data: must have at least as many images as a batch, {size}, but has {count}. Add images, or give "
                f"--batch-size {max(1, count // 2)}."
            )
        self._count, self._size, self._seed = count, size, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __call__(self, step: int) -> Tensor:
        """(size,) the rows of a step."""
        epoch, index = divmod(step, self._count // self._size)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self._count, generator=generator(self._seed, "epoch", epoch))
        return self._order[index * self._size : (index + 1) * self._size]


@dataclass(frozen=True)
class Samples:
    """What a network is trained on.

    Attributes:
        mean: (N, *sample_shape) samples, or the means of their distributions.
        deviation: (N, *sample_shape) of these distributions; None where a sample has none.
        conditions: (N,) labels or indices of prompts; None for an unconditional network.
    """

    mean: Tensor
    deviation: Tensor | None = None
    conditions: Tensor | None = None


class Batch(NamedTuple):
    """One part of a step's rows.

    Attributes:
        data, noise: (n, *sample_shape).
        times: (n,) indices of the times in the tables of a `Process`.
        conditions: (n,), some of them null; None for an unconditional network.
        calls: which of the calls that are trained each sample is for.
    """

    data: Tensor
    noise: Tensor
    times: Tensor
    conditions: Tensor | None
    calls: Sequence[int]


class Draws:
    """Draws the batches of a training.

    Args:
        samples: the data.
        size: rows of a step, over all processes.
        num_times: how many times there are.
        seed: of all that is drawn.
        choose: the calls (N,) of rows at times (N,).
        null: the condition that takes the place of some; None for none.
        dropout: how often it does (Ho & Salimans 2022: 0.1).
    """

    def __init__(
        self,
        samples: Samples,
        size: int,
        num_times: int,
        seed: int,
        choose: Callable[[Tensor, torch.Generator], Tensor],
        null: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        self._samples, self._times, self._seed, self._choose = samples, num_times, seed, choose
        self._null, self._dropout, self._size = null, dropout, size
        self._rows = RowOrder(len(samples.mean), size, seed)

    def __call__(self, step: int, part: int, num_parts: int, device: torch.device) -> Batch:
        """One of the equal parts of a step's rows."""
        drawn, rows = generator(self._seed, "step", step), self._rows(step)
        shape = (len(rows), *self._samples.mean.shape[1:])
        index = torch.randint(self._times, (len(rows),), generator=drawn)
        noise = torch.randn(shape, generator=drawn)
        data = self._samples.mean[rows]
        if self._samples.deviation is not None:
            data = data + self._samples.deviation[rows] * torch.randn(shape, generator=drawn)
        conditions = None
        if self._samples.conditions is not None:
            conditions = self._samples.conditions[rows]
            dropped = torch.rand(len(rows), generator=drawn) < self._dropout
            if self._null is not None:
                conditions = torch.where(dropped, self._null, conditions)
        calls = self._choose(index, drawn)
        own = slice(part * len(rows) // num_parts, (part + 1) * len(rows) // num_parts)
        given = None if conditions is None else conditions[own].to(device)
        data, noise, index = (each[own].to(device) for each in (data, noise, index))
        return Batch(data, noise, index, given, calls[own].tolist())
