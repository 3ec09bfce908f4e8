"""The report in a few sentences and figures: what the page says first and the command prints."""

from dataclasses import dataclass

from ..view.advantage import Advantage
from ..view.interval import Interval, per_second, spelled_number
from ..view.view import BEST_RATIO_LEVEL, Point, Seeds, StudyView


@dataclass(frozen=True)
class Tile:
    """One figure with what it counts."""

    value: str
    text: str


def headline(view: StudyView) -> str:
    """One sentence with the study's main result, or with what it is waiting for."""
    if view.best:
        return _result(view, view.best.point)
    if (knee := view.knee("final")) and knee is not view.full:
        return _result(view, knee)
    if knee:
        return "Nothing beats the full schedule yet: it stands alone at the front's knee."
    if knee := view.knee("search"):
        speed, full = view.speed(knee, "search"), view.speed(view.full, "search") if view.full else None
        factor = f"about {speed / full:.2f} × as fast as the full schedule" if speed and full else "the knee so far"
        return f"So far, on the search's own noises: {knee.label} is {factor}."
    return "Nothing has been measured yet."


def _result(view: StudyView, point: Point) -> str:
    speedup, excess = view.speedup(point), view.relative_excess(point, "final")
    assert speedup is not None, point.label
    quality = f" at {view.standard.words(excess, 'its excess distance')}" if excess is not None else ""
    return f"{_capital(point.label)} samples {with_interval(speedup, ' ×')} as fast as the full schedule{quality}."


def details(view: StudyView) -> list[str]:
    """The sentences after it: the gain over the baselines, and what the figures rest on."""
    sentences = [_gain(view, view.best)] if view.best else []
    seeds: Seeds = "final" if view.front("final") else "search"
    if points := view.measured(seeds):
        quality = points[0].quality(seeds)
        assert quality is not None
        noises = "noises that no selection saw" if seeds == "final" else "the search's own noises"
        sentences.append(
            f"Quality is {quality.metric} on {spelled_number(quality.num_images)} images of {noises}, as "
            f"{view.standard.excess_name}; intervals are {view.level:.0%}."
        )
    return [*sentences, *_text(view)]


def _text(view: StudyView) -> list[str]:
    """What encoding prompts would take, which no figure of speed includes."""
    speed = view.speed(view.full, "final") if view.full else None
    whole = view.with_text(speed)
    if speed is None or whole is None or view.text_seconds is None:
        return []
    return [
        f"Text encoding takes {1000 * view.text_seconds:.3g} ms a prompt and is no part of these speeds: with it the "
        f"full schedule samples {per_second(whole)} images/s, without it {per_second(speed)}."
    ]


def _gain(view: StudyView, best: Advantage[Point]) -> str:
    rival = "" if best.contender is best.baseline else f", against {best.contender.label}"
    return (
        f"That is {best.ratio:.2f} × the speed of the fastest baseline of equal or better quality, "
        f"{best.baseline.label}; with {BEST_RATIO_LEVEL:.0%} confidence at least {best.lower:.2f} × that of any "
        f"baseline that isn't significantly worse{rival}."
    )


def tiles(view: StudyView) -> list[Tile]:
    """The figures under the headline; those that aren't known yet are left out."""
    found: list[Tile] = []
    if best := view.best:
        found.append(
            Tile(f"{best.ratio:.2f} ×", f"best ratio to a baseline of its quality; at least {best.lower:.2f} ×")
        )
    if knee := view.knee("final"):
        speedup, excess = view.speedup(knee), view.relative_excess(knee, "final")
        assert speedup is not None, knee.label
        at = f" at {view.standard.words(excess)}" if excess is not None else ""
        found.append(Tile(f"{speedup.value:.2f} ×", f"speed-up at the knee, {knee.label},{at}".removesuffix(",")))
    if view.close:
        speedup, label = view.speedup(view.close[-1]), view.close[-1].label
        assert speedup is not None, label
        found.append(Tile(f"{speedup.value:.2f} ×", f"speed-up within {view.standard.limit_words}, {label}"))
    measured = sum(point.search is not None for point in view.points)
    noun = "schedule" if measured == 1 else "schedules"
    found.append(Tile(spelled_number(measured), f"{noun} measured, {len(view.front('final'))} on the final front"))
    images, seconds = sum(entry.images for entry in view.spent), sum(entry.seconds for entry in view.spent)
    found.append(Tile(spelled_number(images), f"images sampled by the search, in {duration(seconds)} of device time"))
    return found


def with_interval(interval: Interval, unit: str = "") -> str:
    """`1.95 × [1.88, 2.01]`."""
    return f"{interval.value:.2f}{unit} [{interval.lower:.2f}, {interval.upper:.2f}]"


def duration(seconds: float) -> str:
    """`38 s`, `4 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
