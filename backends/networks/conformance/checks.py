"""What a conformance check is made of: a promise, a network that it is checked on, and the outcome with its figures."""

import math
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from ...errors import first_line
from ...network import Network, State
from .probe import Outputs

SINGLE, HALF = 1e-4, 0.1  # limits of relative differences, by precision

Make: TypeAlias = Callable[[torch.device, torch.dtype], Network]


@dataclass(frozen=True)
class NetworkUnderTest:
    """A network that is checked.

    Attributes:
        network: on its device and in its type.
        make: makes it again on another device or in another type; None where that can't be done.
    """

    network: Network
    make: Make | None = None

    @property
    def limit(self) -> float:
        """How far outputs may be apart that are equal but for rounding, relative to the largest value."""
        return SINGLE if self.network.dtype in (torch.float32, torch.float64) else HALF


@dataclass(frozen=True)
class Passed:
    """A promise that was kept; figures by name."""

    word: ClassVar[str] = "kept"
    reason: ClassVar[str] = ""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Failed:
    """A promise that was broken: what was seen, what to look at, and the figures."""

    word: ClassVar[str] = "broken"
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class NotApplicable:
    """A promise that does not apply to this network, or can't be checked here."""

    word: ClassVar[str] = "not-applicable"
    figures: ClassVar[Mapping[str, float]] = {}
    reason: str


Outcome: TypeAlias = Passed | Failed | NotApplicable


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes:
        name: a word or two.
        promise: a sentence.
        run: checks it. What the network itself raises is left to `outcome`.
    """

    name: str
    promise: str
    run: Callable[[NetworkUnderTest], Outcome]


def outcome(check: Check, subject: NetworkUnderTest) -> Outcome:
    """What a check finds; an exception of the network's own is a failure that says where it arose."""
    try:
        with torch.inference_mode():
            return check.run(subject)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"line {last.lineno} of {Path(last.filename).name}"
        return Failed(f"{type(error).__name__} at {where}: {first_line(error)}")


def within(found: float, limit: float, reason: str) -> Outcome:
    """Kept where a difference is at most its limit."""
    figures = {"difference": found, "limit": limit}
    return Passed(figures) if found <= limit else Failed(reason, figures)


def relative_difference(one: State, other: State) -> float:
    """The largest difference, relative to the largest value; infinity where shapes differ or values are not finite."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _difference(one, other)
    if isinstance(one, Tensor) or isinstance(other, Tensor) or len(one) != len(other):
        return math.inf
    return max((relative_difference(*parts) for parts in zip(one, other, strict=True)), default=0.0)


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    if not one.numel():
        return 0.0
    one, other = one.double().cpu(), other.double().cpu()
    largest = float(torch.maximum(one.abs().max(), other.abs().max()))
    found = float((one - other).abs().max())
    return 0.0 if found == 0 else found / largest if math.isfinite(found) else math.inf


def worst(ones: Iterable[Outputs], others: Iterable[Outputs]) -> float:
    """The largest difference of any step and guidance branch; infinity where they have other branches."""
    found = 0.0
    for one, other in zip(ones, others, strict=True):
        if one.keys() != other.keys():
            return math.inf
        found = max([found, *(relative_difference(one[branch], other[branch]) for branch in one)])
    return found
