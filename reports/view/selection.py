"""Choosing points of a study's front: by trial, the knee, a bound on quality or one on speed."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ...backends.errors import InputError
from .interval import spelled_number
from .view import Point, StudyView


@dataclass(frozen=True)
class Highlight:
    """A point worth looking at first, and the reason."""

    reason: str
    point: Point


def the_recommended(view: StudyView) -> Point:
    """The point that the report recommends. Raises InputError where it recommends none."""
    _final_front(view)
    if (point := view.recommended) is None or point is view.full:
        raise InputError(
            f'study "{view.name}" must have a point within {view.standard.limit_words} that is faster than the full '
            "schedule, to choose one without a flag, but no gain was found. Choose one with --trial, --label, --knee, "
            "--max-loss or --min-speedup, or search longer with `exeunt resume`."
        )
    return point


def by_trial(view: StudyView, number: int) -> Point:
    """The trial of that number, whether it is on the front or not."""
    trials = {point.trial: point for point in view.points if point.trial is not None}
    if number in trials:
        return trials[number]
    if not trials:
        raise InputError(f'study "{view.name}" has no trials yet. Run `exeunt optimize` or `exeunt resume` first.')
    near = min(trials, key=lambda known: abs(known - number))
    raise InputError(f'--trial: study "{view.name}" has no trial {number}. Try --trial {near}.')


def by_label(view: StudyView, label: str) -> Point:
    """The point of that label, which baselines have as well as trials."""
    points = {point.label: point for point in view.points}
    if label in points:
        return points[label]
    near = get_close_matches(label, points, n=1) or list(points)[:1]
    fix = f'Try --label "{near[0]}".' if near else "Run `exeunt optimize` or `exeunt resume` first."
    raise InputError(f'--label: study "{view.name}" has no point "{label}". {fix}')


def the_knee(view: StudyView) -> Point:
    """The front's knee on final seeds."""
    _final_front(view)
    knee = view.knee("final")
    assert knee is not None
    return knee


def within_loss(view: StudyView, max_loss: float) -> Point:
    """The fastest point that loses at most `max_loss`; see `standard.py` for what a loss is a part of."""
    known = [(view.loss(point, "final"), point) for point in _final_front(view)]
    losses = [(loss.value, point) for loss, point in known if loss is not None]
    if not losses:
        raise InputError(
            f"--max-loss: {view.standard.whole} must be above zero to compare with, but it isn't, or has not been "
            "measured. Use --knee or --min-speedup."
        )
    if within := [point for loss, point in losses if loss <= max_loss]:
        return within[-1]
    nearest, point = min(losses, key=lambda pair: pair[0])
    raise InputError(
        f"--max-loss: no point of the front loses at most {max_loss:.1%} of {view.standard.whole}; "
        f"the nearest is {point.label}, which loses {nearest:.1%}. Use --max-loss {int(nearest * 1000 + 1) / 10:g}%."
    )


def at_least(view: StudyView, min_speedup: float) -> Point:
    """The point of the best quality among those that are at least `min_speedup` × as fast as the full schedule."""
    front = _final_front(view)
    speedups = [speedup.value for point in front if (speedup := view.speedup(point))]
    for point, speedup in zip(front, speedups, strict=True):
        if speedup >= min_speedup:
            return point
    raise InputError(
        f"--min-speedup: no point of the front is {spelled_number(min_speedup)} × as fast as the "
        f"full schedule; the nearest is {front[-1].label} at {speedups[-1]:.2f} ×. "
        f"Use --min-speedup {int(speedups[-1] * 100) / 100:g}."
    )


NEAR_SPEED = 0.02  # a measured point whose speed differs by no more than this share is taken as it is


def near_speedup(view: StudyView, wanted: float) -> Point | None:
    """The point of the front whose speed-up is the wanted one, within `NEAR_SPEED`; None where there is none."""
    known = [(abs(speedup.value / wanted - 1), p) for p in _final_front(view) if (speedup := view.speedup(p))]
    apart, point = min(known, key=lambda pair: pair[0])
    return point if apart <= NEAR_SPEED else None


# By the flag that takes the value.
CHOICES: dict[str, Callable[[StudyView, Any], Point]] = {
    "--trial": by_trial,
    "--label": by_label,
    "--knee": lambda view, _: the_knee(view),
    "--max-loss": within_loss,
    "--min-speedup": at_least,
}


def highlights(view: StudyView) -> list[Highlight]:
    """The full schedule and the points to look at first, each once, slowest first after the full schedule.

    Only final values choose, so the list is short (the full schedule or nothing) until the front has them.
    """
    front, close = view.front("final"), view.close
    wanted: list[tuple[str, Point | None]] = [
        ("full schedule", view.full),
        ("recommended", view.recommended if view.recommended is not view.full else None),
        ("largest gain over a baseline", view.best.point if view.best else None),
        ("the baseline that it beats", view.best.baseline if view.best else None),
        (f"fastest within {view.standard.limit_brief}", close[-1] if close else None),
        ("knee", view.knee("final")),
        ("fastest of the front", front[-1] if front else None),
    ]
    reasons = defaultdict[Point, list[str]](list)
    for reason, point in wanted:
        if point:
            reasons[point].append(reason)
    found = [Highlight(", ".join(each), point) for point, each in reasons.items()]
    return sorted(found, key=lambda each: (each.point is not view.full, view.speed(each.point, "final") or 0.0))


MOST_VETOED = 3  # are pictured


def pictured(view: StudyView) -> list[Highlight]:
    """The points whose samples are shown: those to look at first, the rest of the front, and a few that are vetoed."""
    first = highlights(view)
    known = {each.point for each in first}
    front = [Highlight("on the front", point) for point in view.front("final") if point not in known]
    vetoed = [point for point in view.vetoed if point.final and point not in known][:MOST_VETOED]
    why = [Highlight(f"vetoed: {view.objections(point, 'final')[0].split(' (')[0]}", point) for point in vetoed]
    return [*first, *front, *why]


def _final_front(view: StudyView) -> list[Point]:
    if front := view.front("final"):
        return front
    raise InputError(
        f'study "{view.name}" must have a front on final seeds to choose from, but has none yet ({view.state}). '
        f"Run `exeunt resume --study {view.name}`, or give --trial N."
    )
