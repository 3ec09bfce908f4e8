"""Choosing points of a study's front: by trial, the knee, a bound on quality or one on speed."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from ...backends.errors import InputError
from .interval import spelled_number
from .view import Point, StudyView


@dataclass(frozen=True)
class Highlight:
    """A point and why anyone would look at it first."""

    reason: str
    point: Point


Choose = Callable[[StudyView], Point]


def by_trial(number: int) -> Choose:
    """The trial of that number, whether it is on the front or not."""

    def choose(view: StudyView) -> Point:
        trials = {point.trial: point for point in view.points if point.trial is not None}
        if number in trials:
            return trials[number]
        if not trials:
            raise InputError(f'study "{view.name}" has no trials yet. Run `exeunt optimize` or `exeunt resume` first.')
        near = min(trials, key=lambda known: abs(known - number))
        raise InputError(
            f'--trial: study "{view.name}" must have the trial, but has no trial {number}. Try --trial {near}.'
        )

    return choose


def by_label(label: str) -> Choose:
    """The point of that label, which baselines have as well as trials."""

    def choose(view: StudyView) -> Point:
        points = {point.label: point for point in view.points}
        if label in points:
            return points[label]
        near = get_close_matches(label, points, n=1) or list(points)[:1]
        fix = f'Try --label "{near[0]}".' if near else "Run `exeunt optimize` or `exeunt resume` first."
        raise InputError(f'--label: study "{view.name}" has no point "{label}". {fix}')

    return choose


def the_knee(view: StudyView) -> Point:
    """The front's knee on final seeds."""
    _final_front(view)
    knee = view.knee("final")
    assert knee is not None
    return knee


def within_loss(max_loss: float) -> Choose:
    """The fastest point that loses at most `max_loss`; see `standard.py` for what a loss is a part of."""

    def choose(view: StudyView) -> Point:
        losses = [(loss, point) for point in _final_front(view) if (loss := _loss(view, point)) is not None]
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
            f"the nearest is {point.label}, which loses {nearest:.1%}. Use --max-loss {_rounded_up(nearest)}."
        )

    return choose


def at_least(min_speedup: float) -> Choose:
    """The point of the best quality among those that are at least `min_speedup` × as fast as the full schedule."""

    def choose(view: StudyView) -> Point:
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

    return choose


def highlights(view: StudyView) -> list[Highlight]:
    """The full schedule and the points to look at first, each once, slowest first after the full schedule.

    Only final values choose, so the list is short (the full schedule or nothing) until the front has them.
    """
    front = view.front("final")
    close = [
        p for p in front if (ratio := view.relative_excess(p, "final")) is not None and ratio <= view.standard.limit
    ]
    wanted: list[tuple[str, Point | None]] = [
        ("full schedule", view.full),
        ("largest gain over a baseline", view.best.point if view.best else None),
        ("the baseline that it beats", view.best.baseline if view.best else None),
        (f"fastest within {view.standard.limit_brief}", close[-1] if close else None),
        ("knee", view.knee("final")),
        ("fastest of the front", front[-1] if front else None),
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    points = {point.key: point for _, point in wanted if point}
    for reason, point in wanted:
        if point:
            reasons.setdefault(point.key, []).append(reason)
    first, *others = [Highlight(", ".join(reasons[key]), point) for key, point in points.items()] or [None]
    ordered = sorted((h for h in others if h), key=lambda h: view.speed(h.point, "final") or 0.0)
    return [first, *ordered] if first else []


def _final_front(view: StudyView) -> list[Point]:
    if front := view.front("final"):
        return front
    raise InputError(
        f'study "{view.name}" must have a front on final seeds to choose from, but has none yet ({view.state}). '
        f"Run `exeunt resume --study {view.name}`, or give --trial N."
    )


def _loss(view: StudyView, point: Point) -> float | None:
    ratio = view.relative_excess(point, "final")
    return None if ratio is None else view.standard.loss(ratio)


def _rounded_up(loss: float) -> str:
    return f"{int(loss * 1000 + 1) / 10:g}%"
