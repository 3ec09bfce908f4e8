"""What a study has measured, as plain values: everything that the plots, the page and the exports show.

`loading.py` builds a `StudyView` from the database; nothing here reads one. Search values and final values are separate
fields everywhere, because the selection saw the noises of the first and never those of the second.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from statistics import NormalDist
from typing import Literal, TypeVar

import numpy as np

from ...backends.quality.names import NOTHING
from ...backends.schedule import Schedule
from ...backends.timing.samples import Timing
from ...studies.config.goal import Goal
from ...studies.store.records import ScheduleSummary
from .guards import NO_FIGURES, NO_GUARDS, GuardFigures, Guards, is_normal
from .interval import Interval, SpeedUnit, Timed, ratio_of_speeds, relative_speed
from .pareto import (
    Advantage,
    FrontProgress,
    Score,
    Uncertain,
    advantage,
    best,
    front,
    front_probabilities,
    hypervolume_over_cost,
    knee,
)
from .standard import BEST_RATIO_LEVEL, LOSS_LIMIT, TO_REFERENCE, Standard

Seeds = Literal["search", "final"]
Key = tuple[str, str]  # schedule digest, name of the weights
_T = TypeVar("_T")
_Z = NormalDist().inv_cdf((1 + BEST_RATIO_LEVEL) / 2)
AT_LEAST = 0.98  # of a wanted speed-up, a measured one may be


@dataclass(frozen=True)
class Quality:
    """A schedule's quality on one set of noises at one count, as a distance: less is better.

    Attributes:
        metric: the distance's name, such as `fid` or `fd-efficientnet-lite0`.
        distance: with the interval for its expectation at this count, the reference fixed. A user's score stands here
            too, with a minus where more is better.
        floor: real images against real images at the same count, or the full schedule's own value for a score; None
            where there are none to draw.
        to_baseline: the paired distance to the full schedule's images of the same noises, and None if it wasn't
            measured.
        kernel: the kernel distance of the same features, unbiased; None without real images' features.
        lost: what the distance has beyond the full schedule's on the same noises, with a paired interval; None where
            that wasn't kept.
        is_score: whether it is a user's score, whose excess is what is lost.
        figures: what guards judge by.
    """

    seeds: Seeds
    metric: str
    num_images: int
    distance: Interval
    floor: float | None
    to_baseline: float | None = None
    kernel: Interval | None = None
    lost: Interval | None = None
    is_score: bool = False
    figures: GuardFigures = NO_FIGURES

    @property
    def excess(self) -> Interval:
        """The distance beyond the floor (the whole distance where there is no floor)."""
        return (self.lost if self.is_score else None) or self.distance.minus(self.floor or 0.0)


@dataclass(frozen=True)
class Throughput(Timing):
    """End-to-end timings of one schedule (network, solver, decoder), interleaved with the full schedule's.

    Attributes:
        latency_seconds: one image alone, median; None if it wasn't measured.
        peak_memory_bytes: the device's, or the process's on a CPU; None if it wasn't measured.
        sitting: which timing session it belongs to. Repeat r of all schedules of one sitting is from the same round.
    """

    latency_seconds: float | None = None
    peak_memory_bytes: int | None = None
    sitting: int | None = None

    @property
    def timed(self) -> Timed:
        """What ratios of speeds are worked out from."""
        return self.seconds, self.neighbours


@dataclass(frozen=True)
class Memory:
    """Bytes that a schedule needs: of its network's tensors, and of the values that it stores, at the most."""

    weights: int
    stored: int


@dataclass(frozen=True, eq=False)  # a point is itself: comparing whole schedules would cost more than the report
class Point:
    """One schedule of a study on one set of weights.

    Attributes:
        role: `baseline` for what needs no search, `trial` for what the search proposed.
        family: a baseline's family, such as `fewer-steps`; empty for trials.
        weights: the name of the weights that it ran on.
        trial: its number, None for a point that no trial stands for.
        predicted_seconds: of a batch, summed from timed kinds of steps (the search's objective); None until they are
            timed.
        flops: of one image, decoding included; None until its network counted them.
        memory: at the batch size of the timings; None until it is measured on final seeds and its network counted it.
    """

    label: str
    role: Literal["baseline", "trial"]
    family: str
    weights: str
    stored: ScheduleSummary
    trial: int | None
    search: Quality | None = None
    final: Quality | None = None
    predicted_seconds: float | None = None
    throughput: Throughput | None = None
    flops: int | None = None
    memory: Memory | None = None

    @property
    def schedule(self) -> Schedule:
        """All of it, read when it is first asked for."""
        return self.stored.schedule

    @property
    def key(self) -> Key:
        """What tells points apart: the schedule's digest and the weights."""
        return self.stored.digest, self.weights

    def quality(self, seeds: Seeds) -> Quality | None:
        """The search value or the final value; never one for the other."""
        return self.search if seeds == "search" else self.final


def known(value: _T | None, point: Point) -> _T:
    """A value of a point that must be there, such as the speed of one on a front."""
    assert value is not None, point.label
    return value


@dataclass(frozen=True)
class Spent:
    """One finished evaluation on the search's noises: what it cost, and its search score (None if it failed)."""

    images: int
    seconds: float
    score: Score | None


@dataclass(frozen=True)
class Agreement:
    """How well one measurement ranks schedules as a better one does.

    Attributes:
        few: what ranks, such as "64 images of the search"; many: what it is held against.
        rank_correlation: Kendall's τ between the two.
        num_schedules: how many have both.
    """

    few: str
    many: str
    rank_correlation: float
    num_schedules: int


@dataclass(frozen=True)
class StudyView:
    """A study, read at one moment.

    Attributes:
        storage: the database's URL without its password.
        state: what the study is doing, in a word or two.
        normal_weights: the name of the weights that were trained normally; excess distances are compared with theirs.
        batch_size: of the timings.
        level: the confidence of the intervals that are shown; `best_ratio_lower` has `BEST_RATIO_LEVEL`.
        configuration: the study's whole configuration, nested.
        conditions: what the figures hold for: device, dtype, batch size, executor, versions, reference, extractor,
            seeds.
        differences: 95 % paired intervals of distance(a) − distance(b) on final seeds, by the two points' keys.
        search_differences: the same on search seeds, of the points on the front, where the study kept influences.
        spent: the search's evaluations in the order they finished.
        failures: what failed and why, newest last.
        standard: what quality is compared with.
        guards: what is normal for images of this study.
        kernel_of_nothing: the smallest kernel distance of images that show nothing, where it is a second opinion.
        text_seconds: what encoding one prompt takes, which no timing of a schedule includes; None without prompts.
        agreements: of each cheaper measurement with the next better one, where enough schedules have both.
        ended: why the last search ended before its budget was spent; empty where it did not.
        objective: of speed, "throughput" or "latency"; it decides how speed is stated.
    """

    name: str
    storage: str
    state: str
    normal_weights: str
    batch_size: int
    level: float
    configuration: Mapping[str, object]
    conditions: Mapping[str, str]
    points: tuple[Point, ...]
    differences: Mapping[tuple[Key, Key], Interval]
    spent: tuple[Spent, ...] = ()
    failures: tuple[str, ...] = ()
    standard: Standard = TO_REFERENCE
    guards: Guards = NO_GUARDS
    kernel_of_nothing: float | None = None
    text_seconds: float | None = None
    agreements: tuple[Agreement, ...] = ()
    ended: str = ""
    objective: str = "throughput"
    search_differences: Mapping[tuple[Key, Key], Interval] = field(default_factory=dict[tuple[Key, Key], Interval])

    @property
    def unit(self) -> SpeedUnit:
        """How speed is stated."""
        return SpeedUnit(self.batch_size, self.objective == "latency")

    @cached_property
    def full(self) -> Point | None:
        """The full schedule on the normal weights."""
        of_normal = (point for point in self.points if point.weights == self.normal_weights)
        return next((point for point in of_normal if point.family == "full"), None)

    @cached_property
    def _speedups(self) -> dict[Point, Interval]:
        return {p: relative_speed(p.throughput.timed, self.level) for p in self.points if p.throughput}

    def speedup(self, point: Point) -> Interval | None:
        """t₀ / t over the full schedule, end to end; 1 − t/t₀ is the acceleration. None until it is timed."""
        return self._speedups.get(point)

    def speed_interval(self, point: Point, seeds: Seeds) -> Interval | None:
        """Images a second, None until it is known.

        Beside search values it is the predicted speed, which the search saw and which has no interval. Beside final
        values it is the speed-up over neighbours in time, times the full schedule's median: a machine that slowed
        down during some timings moves no point.
        """
        if seeds == "search":
            speed = self.speed(point, seeds)
            return Interval(speed, speed, speed) if speed else None
        speedup = self.speedup(point)
        if speedup is None or self.full is None or self.full.throughput is None:
            return None
        return speedup.times(self.full.throughput.images_per_second)

    def speed(self, point: Point, seeds: Seeds) -> float | None:
        """The value of `speed_interval`."""
        if seeds == "search":  # asked for thousands of points, again and again
            return self.batch_size / point.predicted_seconds if point.predicted_seconds else None
        interval = self.speed_interval(point, seeds)
        return interval.value if interval else None

    def is_on_other_weights(self, point: Point) -> bool:
        """Whether it ran on the normal weights while the study searches others, such as fine-tuned ones."""
        return point.weights == self.normal_weights and any(each.weights != point.weights for each in self.points)

    def measured(self, seeds: Seeds) -> list[Point]:
        """The points with a speed, and a quality on these seeds at the largest count there is: what may be compared."""
        return list(self._compared[seeds][0])

    def front(self, seeds: Seeds) -> list[Point]:
        """The points that no other point dominates, slowest first; baselines are among them where they belong."""
        return self._compared[seeds][1]

    def knee(self, seeds: Seeds) -> Point | None:
        """The front's knee; None while the front is empty."""
        return self._compared[seeds][2]

    @cached_property
    def _compared(self) -> dict[Seeds, tuple[list[Point], list[Point], Point | None]]:
        """What is measured, the front, and the knee."""
        return {"search": self._compare("search"), "final": self._compare("final")}

    def _compare(self, seeds: Seeds) -> tuple[list[Point], list[Point], Point | None]:
        pairs = [(point, quality) for point in self.points if (quality := point.quality(seeds))]
        count, score = max((quality.num_images for _, quality in pairs), default=0), self.score(seeds)
        points = [point for point, quality in pairs if quality.num_images == count and self.speed(point, seeds)]
        best = front((point for point in points if not self.objections(point, seeds)), score)
        return points, best, knee(best, score) if best else None

    def probability(self, point: Point, seeds: Seeds) -> float | None:
        """That a point of the front is dominated by no other; None for other points."""
        return self._certainty[seeds][0].get(point)

    def ties(self, point: Point, seeds: Seeds) -> list[Point]:
        """What a point can't be told apart from, one of the two being on the front: neither their qualities nor their
        speeds differ beyond the 95 % interval of the difference."""
        return self._certainty[seeds][1].get(point, [])

    @cached_property
    def _certainty(self) -> dict[Seeds, tuple[dict[Point, float], dict[Point, list[Point]]]]:
        return {"search": self._certainty_of("search"), "final": self._certainty_of("final")}

    def _certainty_of(self, seeds: Seeds) -> tuple[dict[Point, float], dict[Point, list[Point]]]:
        """The probability of each point of the front, and the ties."""
        points = [point for point in self.measured(seeds) if not self.objections(point, seeds)]
        place = {point: index for index, point in enumerate(points)}
        members = [place[point] for point in self.front(seeds)]
        quality, speed = self._qualities(points, seeds), self._speeds(points, seeds)
        chances = front_probabilities(members, quality, speed)
        ties: dict[Point, list[Point]] = {}
        for i in members:
            for j in np.flatnonzero(quality.same(i, _Z) & speed.same(i, _Z)):
                if i != j:
                    ties.setdefault(points[i], []).append(points[j])
                    if j not in members:
                        ties.setdefault(points[j], []).append(points[i])
        return dict(zip(self.front(seeds), chances, strict=True)), ties

    def _qualities(self, points: Sequence[Point], seeds: Seeds) -> Uncertain:
        found = [known(point.quality(seeds), point).distance for point in points]
        half = NormalDist().inv_cdf((1 + self.level) / 2)
        differences = self.differences if seeds == "final" else self.search_differences
        place = {point.key: index for index, point in enumerate(points)}
        apart = {
            (place[a], place[b]): each.width / 2 / _Z
            for (a, b), each in differences.items()
            if a in place and b in place
        }
        return Uncertain(
            np.array([each.value for each in found]), np.array([each.width / 2 / half for each in found]), apart
        )

    def _speeds(self, points: Sequence[Point], seeds: Seeds) -> Uncertain:
        """Logarithms; predicted speeds count as known."""
        values = np.log([known(self.speed(point, seeds), point) for point in points])
        if seeds == "search":
            return Uncertain(values, np.zeros(len(points)), {})
        timed = [known(point.throughput, point).timed for point in points]
        alone = [relative_speed(each, BEST_RATIO_LEVEL).log_width / 2 / _Z for each in timed]
        apart = {
            (i, j): _speed_ratio(points[i], points[j]).log_width / 2 / _Z
            for i, j in combinations(range(len(points)), 2)
        }
        return Uncertain(values, np.array(alone), apart)

    def score(self, seeds: Seeds) -> Callable[[Point], Score]:
        """What fronts of measured points are drawn by."""

        def of(point: Point) -> Score:
            return Score(known(point.quality(seeds), point).distance.value, known(self.speed(point, seeds), point))

        return of

    def with_text(self, speed: float | None) -> float | None:
        """Images a second where each image's prompt is encoded too; None without prompts."""
        return 1 / (1 / speed + self.text_seconds) if speed and self.text_seconds is not None else None

    def gains(self, point: Point, seeds: Seeds = "final") -> list[str]:
        """What a point is worth, for captions: its speed-up beside final values, and its loss."""
        speedup, loss = self.speedup(point), self.loss(point, seeds)
        parts = [f"{speedup.value:.2f} ×"] if speedup and seeds == "final" else []
        return [*parts, self.standard.brief(loss.value)] if loss is not None else parts

    def loss(self, point: Point, seeds: Seeds) -> Interval | None:
        """What a point loses: 0 at the full schedule (normal weights), 1 at what shows nothing; see `standard.py`.

        The interval is that of the difference on the same noises, where it was kept; else the full schedule counts as
        known. None where one of them isn't measured at that count, or nothing says what a loss is.
        """
        mine, full = point.quality(seeds), self.full.quality(seeds) if self.full else None
        if mine is None or full is None or mine.num_images != full.num_images:
            return None
        if (unit := self.standard.unit(full.excess.value)) is None:
            return None
        own = self.standard.own(full.excess.value)
        beyond = mine.lost if mine.lost and self.standard.kind == "reference" else mine.excess.minus(own)
        return beyond.times(1 / unit)

    def objections(self, point: Point, seeds: Seeds) -> tuple[str, ...]:
        """Why a point must not be used, a sentence each without a full stop; the full schedule never has any."""
        if (point, seeds) not in self._objections:
            self._objections[point, seeds] = tuple(self._object(point, seeds))
        return self._objections[point, seeds]

    @cached_property
    def _objections(self) -> dict[tuple[Point, Seeds], tuple[str, ...]]:
        return {}

    def _object(self, point: Point, seeds: Seeds) -> Iterator[str]:
        quality, loss = point.quality(seeds), self.loss(point, seeds)
        if quality is None or point is self.full:
            return
        scale = self.standard.scale
        if scale and scale.width <= 0:
            yield f"{quality.metric} can't tell the full schedule's images from {NOTHING[scale.nearest]}"
        if scale and loss and loss.lower > 0.5:
            yield f"it is nearer to {NOTHING[scale.nearest]} than to the full schedule ({self.standard.words(loss)})"
        if not is_normal(point.family, point.stored.num_steps):
            yield from self.guards.objections(quality.figures)
        if (
            loss
            and (second := self._second_loss(quality, seeds))
            and second.lower > max(2 * loss.upper, 2 * LOSS_LIMIT)
        ):
            yield (
                f"the kernel distance contradicts the metric: {self.standard.words(second)} by it, "
                f"{self.standard.words(loss)} by {quality.metric}"
            )

    def _second_loss(self, quality: Quality, seeds: Seeds) -> Interval | None:
        """The loss by the kernel distance, where that is a second opinion."""
        full = self.full.quality(seeds) if self.full else None
        if self.kernel_of_nothing is None or quality.kernel is None or full is None or full.kernel is None:
            return None
        width = self.kernel_of_nothing - full.kernel.value
        return quality.kernel.minus(full.kernel.value).times(1 / width) if width > 0 else None

    def relative_excess(self, point: Point, seeds: Seeds) -> float | None:
        """The point's excess distance ÷ the full schedule's (normal weights) at the same count.

        Without real images, ÷ what another noise changes; see `standard.py`. None where one of them isn't measured at
        that count, or isn't above zero.
        """
        mine, full = point.quality(seeds), self.full.quality(seeds) if self.full else None
        if mine is None or full is None or mine.num_images != full.num_images:
            return None
        return self.standard.relative(mine.excess.value, full.excess.value)

    @cached_property
    def close(self) -> list[Point]:
        """The final front up to the standard's limit, slowest first."""
        losses = [(point, self.loss(point, "final")) for point in self.front("final")]
        return [point for point, loss in losses if loss is not None and loss.value <= self.standard.limit]

    @cached_property
    def advantages(self) -> list[Advantage[Point]]:
        """Each trial on the final front with a loss up to the standard's limit, against the baselines."""
        baselines = [point for point in self.measured("final") if point.role == "baseline"]
        eligible = [point for point in self.close if point.role == "trial"]
        return [
            advantage(
                point,
                baselines,
                quality=lambda each: self.score("final")(each).quality,
                speed_ratio=_speed_ratio,
                significantly_worse=self._significantly_worse,
            )
            for point in eligible
        ]

    @property
    def best(self) -> Advantage[Point] | None:
        """`best_ratio` and `best_ratio_lower`, with the points they belong to; None while there are none."""
        return best(self.advantages)

    @property
    def has_gain(self) -> bool:
        """Whether a searched point beats every baseline of its quality with 95 % confidence."""
        return self.best is not None and self.best.lower > 1

    @property
    def recommended(self) -> Point | None:
        """The point to take: the searched one that gains most, else the fastest baseline up to the standard's limit.

        The full schedule where nothing else is within the limit; None before the front is measured. Where the study
        has a goal, what that asks for: the fastest within a loss, or the best of at least a speed.
        """
        if (goal := self.standard.goal) and (close := self._of_goal(goal)):
            return close
        if self.best and self.has_gain:
            return self.best.point
        baselines = [point for point in self.close if point.role == "baseline"]
        return baselines[-1] if baselines else self.full if self.measured("final") else None

    def _of_goal(self, goal: Goal) -> Point | None:
        """The point of the final front that a goal asks for, if there is one."""
        if goal.most_loss is not None:
            return self.close[-1] if self.close else None
        return at_speed(self, goal.speedup or 0.0)

    @property
    def vetoed(self) -> list[Point]:
        """What was measured and must not be used, on final seeds where there are any; see `objections`."""
        seeds: Seeds = "final" if self.measured("final") else "search"
        return [point for point in self.measured(seeds) if self.objections(point, seeds)]

    @property
    def missing(self) -> tuple[str, ...]:
        """What the study doesn't have yet, a sentence each, for reports that are made before it ends."""
        wanted = {
            "The full schedule on the normal weights has not been measured.": self.full and self.full.search,
            "No trial has been measured yet.": any(p.search for p in self.points if p.role == "trial"),
            "The front has not been measured on final seeds yet: the values shown come from search seeds.": (
                self.front("final")
            ),
        }
        return tuple(sentence for sentence, there in wanted.items() if not there)

    @cached_property
    def reference_point(self) -> Score | None:
        """The hypervolume's: the full schedule's speed, at its floor plus four times its excess (search seeds).

        Without real images: at its own value plus what another noise changes.
        """
        if self.full is None or self.full.search is None or not (speed := self.speed(self.full, "search")):
            return None
        quality, noise = self.full.search, self.standard.noise
        beyond = noise.value if noise else 3 * max(quality.excess.value, 0.0)
        return Score(quality.distance.value + beyond, speed)

    @cached_property
    def progress(self) -> list[FrontProgress]:
        """The hypervolume of the search values over images spent; empty until the full schedule is measured."""
        if self.reference_point is None:
            return []
        return hypervolume_over_cost(((spent.images, spent.score) for spent in self.spent), self.reference_point)

    def _significantly_worse(self, a: Point, b: Point) -> bool:
        """Whether a baseline is surely worse than a point, and surely loses something: better than the full schedule is
        no better."""
        difference, loss = self.differences.get((a.key, b.key)), self.loss(a, "final")
        loses = loss is None or loss.lower > 0
        return difference is not None and difference.lower > 0 and loses


def at_speed(view: StudyView, wanted: float) -> Point | None:
    """The point of the best quality of the final front that is as fast as is wanted, or nearly; None if none is."""
    speeds = [(known(view.speedup(point), point).value, point) for point in view.front("final")]
    return next((point for speed, point in speeds if speed >= AT_LEAST * wanted), None)


def _speed_ratio(a: Point, b: Point) -> Interval:
    first, second = known(a.throughput, a), known(b.throughput, b)
    same_rounds = first.sitting is not None and first.sitting == second.sitting
    return ratio_of_speeds(first.timed, second.timed, BEST_RATIO_LEVEL, same_rounds)
