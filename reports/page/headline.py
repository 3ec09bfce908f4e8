"""The report in a few sentences and figures: what the page says first and the command prints."""

from ...backends.quality.names import NOTHING
from ...studies.config.goal import Goal
from ..view.guards import MOST_REPEATS
from ..view.interval import Interval, per_second, spelled_number
from ..view.pareto import Advantage
from ..view.standard import BEST_RATIO_LEVEL
from ..view.view import Point, Seeds, StudyView, at_speed, known

MOST_TIES = 6  # are told in a sentence


def headline(view: StudyView) -> str:
    """One sentence: the study's main result, or what has been measured so far."""
    if (goal := view.standard.goal) and view.front("final"):
        return _of_goal(view, goal)
    if point := view.recommended:
        return _result(view, point) if view.has_gain else _no_gain(view, point)
    if knee := view.knee("search"):
        speed, full = view.speed(knee, "search"), view.speed(view.full, "search") if view.full else None
        factor = f"about {speed / full:.2f} × as fast as the full schedule" if speed and full else "the front's knee"
        return f"So far, on search seeds, {knee.label} is {factor}."
    return "Nothing has been measured yet."


def _of_goal(view: StudyView, goal: Goal) -> str:
    """What the study has for its goal."""
    point, front = view.recommended, view.front("final")
    if goal.speedup is not None and at_speed(view, goal.speedup) is None:
        fastest = front[-1]
        return (
            f"Goal, {goal}: no point of the front is that fast. The fastest, {fastest.label}, samples "
            f"{with_interval(known(view.speedup(fastest), fastest), ' ×')} as fast as the full schedule. {_ADVICE}"
        )
    if point is None or point is view.full:
        return f"Goal, {goal}: nothing faster than the full schedule was found. {_ADVICE}"
    return f"Goal, {goal}: {_result(view, point)}"


def _no_gain(view: StudyView, point: Point) -> str:
    """What to say where no searched point can be recommended, and what to do."""
    limit = view.standard.limit_words
    if point is view.full:
        return f"No gain found: no schedule within {limit} is faster than the full one. {_ADVICE}"
    speedup = known(view.speedup(point), point)
    return (
        f"No gain found: no searched schedule within {limit} is significantly faster than the baselines of its "
        f"quality. {point.label[:1].upper()}{point.label[1:]}, a baseline, samples {with_interval(speedup, ' ×')} as "
        f"fast as the full schedule at {view.standard.words(known(view.loss(point, 'final'), point))}. {_ADVICE}"
    )


_ADVICE = (
    "Fine-tune the network with random exit depths (`exeunt finetune --exits all`), search schedules that "
    "need no training with `--space cache`, or search longer."
)


def _result(view: StudyView, point: Point) -> str:
    speedup, loss = known(view.speedup(point), point), view.loss(point, "final")
    quality = f" at {view.standard.words(loss)}" if loss is not None else ""
    name = point.label[:1].upper() + point.label[1:]
    return f"{name} samples {with_interval(speedup, ' ×')} as fast as the full schedule{quality}."


def details(view: StudyView) -> list[str]:
    """The sentences after the headline: the gain over the baselines, and how quality was measured."""
    sentences = [_gain(view, view.best)] if view.best and view.has_gain else []
    seeds: Seeds = "final" if view.front("final") else "search"
    if points := view.measured(seeds):
        quality = known(points[0].quality(seeds), points[0])
        noises = "held-out noises" if seeds == "final" else "the search's noises"
        sentences.append(
            f"Quality is {quality.metric} on {spelled_number(quality.num_images)} images of {noises}, as "
            f"{view.standard.excess_name}; intervals are {view.level:.0%}."
        )
    sentences += [f"The search ended before its budget: {view.ended}."] if view.ended else []
    found = [*sentences, *_own_repeats(view), *_scale(view), *_vetoes(view), *_text(view)]
    return [*found, *_certainty(view, seeds), *_agreements(view)]


def _certainty(view: StudyView, seeds: Seeds) -> list[str]:
    """How sure the front is, and what can't be told apart."""
    chances = [(view.probability(point, seeds), point) for point in view.front(seeds)]
    known_ones = [(chance, point) for chance, point in chances if chance is not None]
    if len(known_ones) < 2:
        return []
    least, point = min(known_ones, key=lambda pair: pair[0])
    surely = sum(chance >= BEST_RATIO_LEVEL for chance, _ in known_ones)
    text = (
        f"{surely} of the front's {len(known_ones)} points are dominated by no other with a probability of at least "
        f"{BEST_RATIO_LEVEL:.0%}; the least sure is {point.label}, with {least:.0%}."
    )
    pairs = {
        frozenset((point, other)): f"{point.label} = {other.label}"
        for _, point in chances
        for other in view.ties(point, seeds)
    }
    shown = [*list(pairs.values())[:MOST_TIES], *(["…"] if len(pairs) > MOST_TIES else [])]
    return [text, *([f"Ties, which neither quality nor speed tells apart: {', '.join(shown)}."] if pairs else [])]


def _agreements(view: StudyView) -> list[str]:
    """How well cheaper measurements ranked schedules as better ones do."""
    parts = [
        f"{each.few} rank as {each.many} do with {each.rank_correlation:.2f} ({each.num_schedules} schedules)"
        for each in view.agreements
    ]
    return [f"Kendall's tau: {'; '.join(parts)}."] if parts else []


def _own_repeats(view: StudyView) -> list[str]:
    """Whether the full schedule's own images repeat each other, which no guard can hold against another schedule."""
    share = view.full and view.full.search and view.full.search.figures.repeats
    if not share or share.lower <= MOST_REPEATS:
        return []
    return [
        f"{share.value:.0%} of the full schedule's own images nearly repeat another one. Look at the images, "
        "and check the checkpoint, its decoder and its settings."
    ]


def _scale(view: StudyView) -> list[str]:
    """The two ends of loss, and whether the metric tells them apart."""
    scale, metric = view.standard.scale, view.full and view.full.search and view.full.search.metric
    if scale is None:
        return []
    if scale.width <= 0:
        return [
            f"{metric} finds {NOTHING[scale.nearest]} no farther from real images than the full schedule's images, so "
            "no schedule is recommended. Look at the full schedule's images: if they are good, choose another metric; "
            "if not, check the checkpoint, its settings and the reference."
        ]
    told = f"Loss is 0% at the full schedule and 100% at {NOTHING[scale.nearest]}"
    if not scale.is_narrow:
        return [f"{told}; the two are {scale.standard_errors:.0f} standard errors apart."]
    return [
        f"{told}; the two are only {scale.standard_errors:.1f} standard errors apart, so {metric} hardly separates "
        "them. Look at the full schedule's images, and choose another metric or more images (--num-images)."
    ]


def _vetoes(view: StudyView) -> list[str]:
    """How many points must not be used, and why the first of them."""
    if not (vetoed := view.vetoed):
        return []
    seeds: Seeds = "final" if view.measured("final") else "search"
    count = f"{len(vetoed)} measured schedules are" if len(vetoed) > 1 else "1 measured schedule is"
    return [f"{count} vetoed, for example {vetoed[0].label}: {view.objections(vetoed[0], seeds)[0]}."]


def _text(view: StudyView) -> list[str]:
    """The time to encode prompts, which no speed includes."""
    speed = view.speed(view.full, "final") if view.full else None
    whole = view.with_text(speed)
    if speed is None or whole is None or view.text_seconds is None:
        return []
    if view.unit.is_latency:
        return [f"Text encoding takes {1000 * view.text_seconds:.3g} ms a prompt, which these times don't include."]
    return [
        f"Text encoding takes {1000 * view.text_seconds:.3g} ms a prompt, which these speeds don't include: the full "
        f"schedule samples {per_second(whole)} images/s with it, {per_second(speed)} without."
    ]


def _gain(view: StudyView, best: Advantage[Point]) -> str:
    rival = "" if best.contender is best.baseline else f", against {best.contender.label}"
    return (
        f"That is {best.ratio:.2f} × the speed of the fastest baseline of equal or better quality, "
        f"{best.baseline.label}; with {BEST_RATIO_LEVEL:.0%} confidence at least {best.lower:.2f} × that of any "
        f"baseline that isn't significantly worse{rival}."
    )


def tiles(view: StudyView) -> list[tuple[str, str]]:
    """The figures under the headline, each with what it counts; those that aren't known yet are left out."""
    found: list[tuple[str, str]] = []
    if best := view.best:
        found.append((f"{best.ratio:.2f} ×", f"best ratio to a baseline of its quality; at least {best.lower:.2f} ×"))
    if knee := view.knee("final"):
        loss = view.loss(knee, "final")
        at = f", at {view.standard.words(loss.value)}" if loss is not None else ""
        found.append((_factor(view, knee), f"speed-up at the knee, {knee.label}{at}"))
    if view.close:
        label = view.close[-1].label
        found.append((_factor(view, view.close[-1]), f"speed-up within {view.standard.limit_words}, {label}"))
    measured = sum(point.search is not None for point in view.points)
    noun = "schedule" if measured == 1 else "schedules"
    found.append((spelled_number(measured), f"{noun} measured, {len(view.front('final'))} on the final front"))
    images, seconds = sum(entry.images for entry in view.spent), sum(entry.seconds for entry in view.spent)
    found.append((spelled_number(images), f"images sampled by the search, in {duration(seconds)} of device time"))
    return found


def _factor(view: StudyView, point: Point) -> str:
    return f"{known(view.speedup(point), point).value:.2f} ×"


def with_interval(interval: Interval, unit: str = "") -> str:
    """`1.95 × [1.88, 2.01]`."""
    return f"{interval.value:.2f}{unit} [{interval.lower:.2f}, {interval.upper:.2f}]"


def duration(seconds: float) -> str:
    """`38 s`, `4 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
