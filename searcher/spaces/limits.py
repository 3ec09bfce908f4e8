"""Levers of the space `free` that a user fixes or bounds: `steps=8..12`, `stand-in=drop,reuse`, `times=fixed`.

A lever that isn't named is free. `fixed` is what the full schedule has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...backends.errors import InputError, nearest
from .frame import FullSchedule
from .levers import FREE_LEVERS

FIXED = "fixed"


@dataclass(frozen=True)
class Limits:
    """What each lever may be.

    Attributes:
        steps: the fewest and the most steps.
        depths: how many blocks may run at a step, rising.
        stand_ins: the names of what may stand in for blocks that don't run.
        orders: the names of the orders in which a depth adds blocks.
        times: whether times are free.
        others: the distributions of the levers that no step has of its own, by their parameters.
        whole: the values of all of these nearest to the full schedule's, those that are fixed among them.
    """

    steps: tuple[int, int]
    depths: tuple[int, ...]
    stand_ins: tuple[str, ...]
    orders: tuple[str, ...]
    times: bool
    others: Mapping[str, BaseDistribution]
    whole: Mapping[str, Any]


def read_limits(
    frame: FullSchedule, given: Mapping[str, Any], stand_ins: Sequence[str], orders: Sequence[str]
) -> Limits:
    """What the levers may be, where some are given by their names.

    Args:
        frame: the study's full schedule.
        given: for each named lever `fixed`, values with commas between, or a range such as `2..12` or `2..12/2`.
        stand_ins, orders: all that there are, by name, the full schedule's first.

    Raises:
        InputError: an unknown lever, or values that it can't have here.
    """
    others = {name: each for lever in FREE_LEVERS for name, each in lever.distributions(frame).items()}
    whole = {name: lever.whole(frame)[name] for lever in FREE_LEVERS for name in lever.distributions(frame)}
    known = ["steps", "depth", "stand-in", "blocks", "times", *(_shown(name) for name in others)]
    for name in given:
        if name not in known:
            raise InputError(f"levers: `{name}` is no lever of this study. {nearest(name, known)}")
    shallowest, times = (0 if frame.replaces else 1), frame.warps
    counts = _whole_numbers(given, "steps", frame.least_steps, frame.num_steps, frame.num_steps)
    if "times" in given:
        times = _names(given, "times", [FIXED, "free"], FIXED)[0] == "free" and times
    kept: dict[str, BaseDistribution] = {}
    for name, distribution in others.items():
        bounded = _bounded(given, name, distribution, whole[name])
        whole[name] = _nearest_value(bounded, whole[name])
        if not bounded.single():
            kept[name] = bounded
    return Limits(
        steps=(counts[0], counts[-1]) if counts else (frame.fewest_steps, frame.num_steps),
        depths=_whole_numbers(given, "depth", shallowest, frame.num_blocks, frame.num_blocks)
        or tuple(range(shallowest, frame.num_blocks + 1)),
        stand_ins=_names(given, "stand-in", stand_ins, stand_ins[0]),
        orders=_names(given, "blocks", orders, orders[0]),
        times=times,
        others=kept,
        whole=whole,
    )


def numbers_distribution(values: Sequence[int]) -> BaseDistribution:
    """One of so many rising whole numbers."""
    apart = {after - before for before, after in pairwise(values)}
    if len(apart) > 1:
        return CategoricalDistribution(tuple(values))
    return IntDistribution(values[0], values[-1], step=apart.pop() if apart else 1)


def _bounded(given: Mapping[str, Any], name: str, distribution: BaseDistribution, whole: Any) -> BaseDistribution:
    shown = _shown(name)
    if shown not in given:
        return distribution
    if isinstance(distribution, CategoricalDistribution):
        by_word = {str(choice): choice for choice in distribution.choices}
        return CategoricalDistribution([by_word[each] for each in _names(given, shown, list(by_word), str(whole))])
    assert isinstance(distribution, FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step or 0.1
    text = _text(given, shown, str(whole))
    ends = _read(shown, text, float, f"a number, or a range, from {low:g} to {high:g}", lambda: text.split(".."))
    if not (1 <= len(ends) <= 2 and low <= ends[0] <= ends[-1] <= high):
        raise InputError(
            f"levers.{shown}: must be within {low:g} and {high:g}, but got `{text}`. Use {low:g}..{high:g}."
        )
    snapped = [round(low + round((end - low) / step) * step, 6) for end in ends]
    return FloatDistribution(snapped[0], snapped[-1], step=step)


def _nearest_value(distribution: BaseDistribution, value: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return value if value in distribution.choices else distribution.choices[0]
    assert isinstance(distribution, FloatDistribution)
    return min(max(value, distribution.low), distribution.high)


def _whole_numbers(given: Mapping[str, Any], name: str, least: int, most: int, fixed: int) -> tuple[int, ...]:
    """The rising whole numbers that are given; none where the lever is free."""
    if name not in given:
        return ()
    text = _text(given, name, str(fixed))
    wanted = f"whole numbers from {least} to {most}, such as `{least}..{most}`"

    def numbers() -> list[Any]:
        found: list[Any] = []
        for part in text.split(","):
            ends, _, step = part.partition("/")
            first, _, last = ends.partition("..")
            found += range(int(first), int(last or first) + 1, int(step or 1))
        return found

    found = sorted(set(_read(name, text, int, wanted, numbers)))
    if not found or found[0] < least or found[-1] > most:
        raise InputError(f"levers.{name}: must be {wanted}, but got `{text}`. Use {least}..{most}.")
    return tuple(found)


def _names(given: Mapping[str, Any], name: str, known: Sequence[str], fixed: str) -> tuple[str, ...]:
    """The names that are given, in their known order; all where the lever is free."""
    if name not in given:
        return tuple(known)
    words = [word.strip() for word in _text(given, name, fixed).split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"levers.{name}: `{word}` is not one of its values. {nearest(word, known)}")
    return tuple(word for word in known if word in words)


def _read(name: str, text: str, kind: type[Any], wanted: str, parts: Callable[[], Sequence[Any]]) -> list[Any]:
    try:
        return [kind(part) for part in parts()]
    except ValueError:
        raise InputError(f"levers.{name}: must be {wanted}, but got `{text}`. Correct it.") from None


def _text(given: Mapping[str, Any], name: str, fixed: str) -> str:
    """What is given for a lever, with `fixed` replaced by the full schedule's value."""
    text = str(given[name]).strip()
    return fixed if text == FIXED else text


def _shown(parameter: str) -> str:
    """How a parameter is called on the command line."""
    return parameter.replace("_", "-")
