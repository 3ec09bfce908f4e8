"""Which call each sample is trained on: the one that a schedule has for its time, or an exit at a random depth."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...errors import InputError
from ...network import Network
from ...plan import Call, Run, Skip, compile_plan
from ...schedule import Schedule, network_times
from .process import Process


def exit_call(depth: int, num_blocks: int) -> Call:
    """The call that runs blocks[:depth] and drops the others."""
    ops = (*([Run(0, depth)] if depth else []), *([Skip(depth, num_blocks)] if depth < num_blocks else []))
    return Call(("conditional",), ops, ())


def depth_of(call: Call) -> int | None:
    """How many leading blocks run where the others are dropped; None for a call of another form."""
    match call.ops:
        case (Run(0, depth, None),) | (Run(0, depth, None), Skip()):
            return depth
        case (Skip(0, _),):
            return 0
        case _:
            return None


@dataclass(frozen=True)
class Choice(ABC):
    """The calls that are trained, and which of them a sample is for.

    Attributes:
        calls: what the numbers that `__call__` returns name.
        with_full: whether every sample is trained at full depth too.
    """

    calls: tuple[Call, ...]
    with_full: bool

    @abstractmethod
    def __call__(self, times: Tensor, drawn: torch.Generator) -> Tensor:
        """(N,) numbers of calls for indices (N,) of times."""


@dataclass(frozen=True)
class ScheduledExits(Choice):
    """ASE (Moon et al. 2024, arXiv 2408.05927): at each time, what the schedule does at its step nearest in time.

    Attributes:
        by_time: (T,) numbers of calls.
    """

    by_time: Tensor

    @classmethod
    def of(cls, schedule: Schedule, network: Network, process: Process) -> Self:
        """Those of a schedule of this network.

        Raises:
            InputError: a schedule of another network, of several, or of another form than exits and dropped blocks.
        """
        refuse_other_network(schedule, network)
        plan = compile_plan(schedule, joint=False)
        steps = [step.calls[0] for step in plan.steps]
        for s, call in enumerate(steps):
            if any(not isinstance(op, Run | Skip) for op in call.ops):
                raise InputError(
                    f"schedule: must run or drop blocks, since a loss on what is stored is not known here, but step "
                    f"{s} reuses or forecasts some. Make its exits drop the rest, such as with `exeunt schedule`."
                )
        calls = tuple(dict.fromkeys(_unstored(call) for call in steps))
        times = torch.tensor(network_times(schedule), dtype=torch.float64)
        nearest = (process.time.double().cpu()[:, None] - times[None]).abs().argmin(dim=1)
        numbers = torch.tensor([calls.index(_unstored(call)) for call in steps])
        return cls(calls, False, numbers[nearest])

    def __call__(self, times: Tensor, drawn: torch.Generator) -> Tensor:
        return self.by_time[times]


def _unstored(call: Call) -> Call:
    return Call(("conditional",), call.ops, ())


def refuse_other_network(schedule: Schedule, network: Network) -> None:
    """Raises InputError unless a schedule is of one network with these blocks."""
    if len(schedule.networks) != 1:
        raise InputError(
            f"schedule: must have one network to be trained on, but has {len(schedule.networks)}. Give another one."
        )
    own, other = network.signature, schedule.networks[0]
    for name in ("architecture", "granularity", "block_kinds"):
        if (wanted := getattr(own, name)) != (have := getattr(other, name)):
            if name == "block_kinds":
                wanted, have = f"{len(wanted)} blocks", f"{len(have)} blocks"
            raise InputError(
                f"schedule: must be of the network `{network.name}`, but its {name.replace('_', ' ')} is {have}, not "
                f"{wanted}. Give a schedule of this network."
            )
    if schedule.sampler.noise != network.noise or schedule.sampler.prediction != network.prediction:
        raise InputError(
            f"schedule: must have the noise and the prediction of `{network.name}`, {network.noise.kind} and "
            f"{network.prediction}, but has {schedule.sampler.noise.kind} and {schedule.sampler.prediction}. Give a "
            "schedule of this network."
        )


@dataclass(frozen=True)
class RandomExits(Choice):
    """Full depth for every sample, and an exit at a random depth beside it; the shallowest is in every batch.

    The sandwich rule is Yu & Huang's (2019, arXiv 1903.05134): with the extremes trained at every step, what lies
    between them is too.
    """

    @classmethod
    def of(cls, depths: Sequence[int], num_blocks: int) -> Self:
        """At some depths, or at all of them where none are given.

        Raises:
            InputError: a depth that the network doesn't have.
        """
        wanted = sorted(set(depths) - {num_blocks} if depths else range(1, num_blocks))
        wrong = [depth for depth in wanted if not 1 <= depth < num_blocks]
        if wrong or not wanted:
            got = ", ".join(map(str, wrong or depths)) or "none"
            raise InputError(
                f"exits: depths must be from 1 to {num_blocks - 1}, below the full {num_blocks}, but got {got}. Give "
                "such as --exits 4,8, or --exits all."
            )
        return cls(tuple(exit_call(depth, num_blocks) for depth in wanted), True)

    def __call__(self, times: Tensor, drawn: torch.Generator) -> Tensor:
        numbers = torch.randint(len(self.calls), times.shape, generator=drawn)
        numbers[:: 2 * len(self.calls)] = 0  # the shallowest is in every batch, however small
        return numbers
