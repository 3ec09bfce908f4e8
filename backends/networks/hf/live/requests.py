"""Runs of a live pipeline through a schedule's steps, each with its own place in it and its own stored values."""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ....network import Slots
from ....plan import Call, Plan
from ....schedule import Branch
from ..hooks import Hooks
from .guidance import Correction, flipped, part_of, sample_of, with_sample

CallArguments: TypeAlias = Mapping[str, Any]
RequestPart: TypeAlias = tuple[Call, CallArguments]
UNCHANGED = Correction(1.0, None)


@dataclass(frozen=True)
class Source:
    """Where a pipeline's request gets its times from.

    Attributes:
        scheduler: the pipeline's.
        timesteps: its list when the request began. It makes a new one for each run.
    """

    scheduler: Any
    timesteps: Any

    @property
    def is_current(self) -> bool:
        """Whether the scheduler is still on that run."""
        return self.scheduler.timesteps is self.timesteps


@dataclass(eq=False)
class Request(ABC):
    """One run through the schedule's steps, or one guidance branch of it.

    Attributes:
        step: the next one.
        turn: when it was called last, counted by `Requests`.
        rows: of the model's batch.
        source: of its times; None where no pipeline calls.
        thread: that makes it.
    """

    hooks: Hooks
    plan: Plan
    rows: int
    source: Source | None
    step: int = field(default=0, init=False)
    turn: int = field(default=0, init=False)
    thread: int = field(default_factory=threading.get_ident, init=False)
    slots: Slots = field(default_factory=Slots, init=False)
    _tensors: list[weakref.ref[Tensor]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.slots = [None] * self.plan.num_slots

    @property
    def is_over(self) -> bool:
        """Whether every step was made."""
        return self.step == len(self.plan.steps)

    @property
    def is_under_way(self) -> bool:
        """Whether it was called already and may be called again."""
        return (self.step > 0 or self.awaits_second) and (self.source is None or self.source.is_current)

    @property
    def is_given_up(self) -> bool:
        """Whether its run is over though it is not: another one began on its scheduler, or, where there is none, the
        tensors that it is known by are gone."""
        if self.source is not None:
            return not self.source.is_current
        return bool(self._tensors) and all(tensor() is None for tensor in self._tensors)

    def recognise(self, condition: Tensor | None) -> None:
        """Let its calls be known by a tensor of conditions."""
        if condition is not None:
            self._tensors = [*(tensor for tensor in self._tensors if tensor() is not None), weakref.ref(condition)]

    def is_known_by(self, condition: Tensor | None, scheduler: Any) -> bool:
        """Whether a call with this tensor is its own; without one, a call from a pipeline with this scheduler."""
        if self.source is not None and not self.source.is_current:
            return False
        if condition is None:
            return not self._tensors and scheduler is (self.source and self.source.scheduler)
        return any(tensor() is condition for tensor in self._tensors)

    @property
    def awaits_second(self) -> bool:
        """Whether the other guidance branch's call is due before the step is done."""
        return False

    @abstractmethod
    def parts(self, arguments: CallArguments) -> list[RequestPart]:
        """What the model has to be called with for the request's next call: not at all, once or twice."""

    @abstractmethod
    def finish(self, outputs: list[Any]) -> Any:
        """What the caller gets for what the model returned; the last call of a step moves on to the next."""


@dataclass(eq=False)
class Stream(Request):
    """Calls that all do the same, whichever guidance branches their rows belong to.

    Attributes:
        scales: of embedded guidance, one a step, where the pipeline's own is not right at all of them.
    """

    scales: list[float] | None

    def parts(self, arguments: CallArguments) -> list[RequestPart]:
        (call,) = self.plan.steps[self.step].calls
        if self.scales is not None:
            scale = torch.full_like(arguments["guidance"], self.scales[self.step])
            arguments = {**arguments, "guidance": scale}
        return [(call, arguments)]

    def finish(self, outputs: list[Any]) -> Any:
        self.step += 1
        return outputs[0]


@dataclass(eq=False)
class GuidedBatch(Request):
    """Both guidance branches in one batch.

    Attributes:
        corrections: one a step.
        order: of the branches in the batch.
        unbatched: arguments of the model without rows.
    """

    corrections: list[Correction]
    order: tuple[Branch, Branch]
    unbatched: frozenset[str]
    _unconditional: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        halves = slice(0, self.rows // 2), slice(self.rows // 2, self.rows)
        self._halves: dict[Branch, slice] = dict(zip(self.order, halves, strict=True))

    def parts(self, arguments: CallArguments) -> list[RequestPart]:
        found: list[RequestPart] = []
        for call in self.plan.steps[self.step].calls:
            own = arguments
            if len(call.branches) == 1:
                own = part_of(arguments, self.rows, self._halves[call.branches[0]], self.unbatched)
            # Stored values have the rows in the batch's order, whichever branches a call has.
            found.append((call if self.order[0] == "conditional" else flipped(call), own))
        return found

    def finish(self, outputs: list[Any]) -> Any:
        calls, correction = self.plan.steps[self.step].calls, self.corrections[self.step]
        samples: dict[Branch, Tensor] = {}
        for call, output in zip(calls, outputs, strict=True):
            chunks = sample_of(output).chunk(len(call.branches))
            present: list[Branch] = [branch for branch in self._halves if branch in call.branches]
            samples.update(zip(present, chunks, strict=True))
        self._unconditional = samples.get("unconditional", self._unconditional)
        self.step += 1
        if len(calls) == 1 and len(samples) == 2 and correction == UNCHANGED:
            return outputs[0]
        samples["unconditional"] = correction.apply(samples["conditional"], self._unconditional)
        return with_sample(outputs[0], torch.cat([samples[branch] for branch in self._halves]))


@dataclass(eq=False)
class GuidedCalls(Request):
    """Each guidance branch in a call of its own, the conditional one first.

    Attributes:
        corrections: one a step.
    """

    corrections: list[Correction]
    _first: Any = field(default=None, init=False)  # what the step's conditional call returned
    _unconditional: Tensor | None = field(default=None, init=False)

    @property
    def awaits_second(self) -> bool:
        return self._first is not None

    def parts(self, arguments: CallArguments) -> list[RequestPart]:
        wanted: Branch = "unconditional" if self.awaits_second else "conditional"
        return [(call, arguments) for call in self.plan.steps[self.step].calls if wanted in call.branches]

    def finish(self, outputs: list[Any]) -> Any:
        if not self.awaits_second:
            (self._first,) = outputs
            return self._first
        if outputs:
            self._unconditional = sample_of(outputs[0])
        first, self._first, correction = self._first, None, self.corrections[self.step]
        self.step += 1
        return with_sample(first, correction.apply(sample_of(first), self._unconditional))
