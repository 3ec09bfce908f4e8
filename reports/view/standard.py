"""How a study states quality and loss: against real images, the full schedule's images, or by a user's own score.

Against real images a loss is stated on the excess distance, in parts of the full schedule's. Where there are none, the
full schedule loses nothing by definition, and what others lose is stated in parts of what another noise changes: the
same measure between two of the full schedule's own images of one prompt.

The definitions of the report's words, which are printed with it, follow from that.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ...backends.quality.names import NOTHING, TO_BASELINE, nothing_metric
from ...studies.config.goal import Goal, parse_goal
from ...studies.config.study import QualityConfig
from ...studies.store.records import QualityRecord
from .interval import Interval, SpeedUnit, spelled_number
from .pareto import Score

BEST_RATIO_LEVEL = 0.95  # of its lower bound
# best_ratio looks at points up to this loss. On the bundled checkpoint (weights with exits, 256 images) 6 steps are at
# 0 %, the published staircase at 2 %, exit 7 of 12 at 8 %, 3 steps at 15 %, exit 3, which is ragged, at 30 %.
LOSS_LIMIT = 0.05
# Beyond this loss no speed makes up for the images.
WORST_LOSS = 0.25
_WORST_AT_SPEED = 0.4  # where a goal names a speed, more than this is still something
# A scale that is so many standard errors of one evaluation wide, or fewer, hardly tells the full schedule from nothing.
NARROW = 10.0

# Distances that differ by this share, or less, are the same but for rounding.
SAME = 1e-3

# The same for studies that were measured before there was a scale: in parts of the full schedule's excess, and of what
# another noise changes. On the bundled checkpoint (weights with exits, 128 images) caches and exits of 1.3 to 1.6 times
# the excess distance are at 0.20 to 0.26 of it, those of 1.1 times at 0.04 to 0.12.
_LIMITS = {"reference": 0.5, "baseline": 0.25, "score": 0.25}
# Exit 3 of 12 (2.7 × the excess distance) is at 0.74 of what another noise changes, exit 4 at 0.59, exit 6 at 0.40.
_WORST = {"reference": 2.0, "baseline": 0.65, "score": 0.65}

QualityKind = Literal["reference", "baseline", "score"]
# What an excess is, and what losses are parts of without a scale.
_NAMES: dict[QualityKind, tuple[str, str]] = {
    "reference": ("excess over the floor", "the full schedule's excess"),
    "baseline": ("distance to the full schedule's images", "the distance between noises"),
    "score": ("score lost against the full schedule", "the difference between noises"),
}


@dataclass(frozen=True)
class Scale:
    """The two ends of loss, as excess distances on search seeds: 0 % at the full schedule, 100 % at nothing.

    Attributes:
        full: the full schedule's; 0 where everything is stated against its own images.
        nothing: those of images that show nothing, by their kinds; see `backends/quality/names.py`.
        error: the standard error of one evaluation: the full schedule's, or of the nearest of nothing where the full
            schedule's is 0 by definition.
    """

    full: float
    nothing: Mapping[str, float]
    error: float

    @property
    def nearest(self) -> str:
        """The kind of images that show nothing whose distance is the smallest."""
        return min(self.nothing, key=lambda kind: self.nothing[kind])

    @property
    def width(self) -> float:
        """From the full schedule to the nearest of nothing; not above 0 where the metric can't tell them apart."""
        nothing = self.nothing[self.nearest]
        found = nothing - self.full
        return found if found > SAME * abs(nothing) else min(found, 0.0)

    @property
    def standard_errors(self) -> float:
        """The width in standard errors of one evaluation."""
        return self.width / self.error if self.error > 0 else math.inf if self.width > 0 else 0.0

    @property
    def is_narrow(self) -> bool:
        """Whether the metric hardly tells the full schedule from nothing."""
        return self.standard_errors < NARROW


def scale_of(quality: QualityConfig, full: QualityRecord | None, nothing: Iterable[QualityRecord]) -> Scale | None:
    """The two ends of loss; None before they were measured.

    Args:
        quality: as the study stores it, with nothing left open.
        full: the full schedule's value on search seeds.
        nothing: the values of images that show nothing on the same noises, of any metric, at any count.
    """
    names = {nothing_metric(kind, quality.metric): kind for kind in NOTHING}
    found = {names[each.metric]: each for each in nothing if each.metric in names}
    if full is None or not found or any(each.num_images != full.num_images for each in found.values()):
        return None
    excesses = {kind: each.value - (each.floor or 0.0) for kind, each in found.items()}
    if standard_of(quality, None).kind == "reference":
        return Scale(full.value - (full.floor or 0.0), excesses, full.standard_error)
    return Scale(0.0, excesses, min(found.values(), key=lambda each: each.value).standard_error)


@dataclass(frozen=True)
class Standard:
    """What quality is compared with.

    Attributes:
        kind: "reference" (a distance to real images), "baseline" (a distance to the full schedule's image of the same
            noise) or "score" (a user's score, compared with the full schedule's on the same noises).
        noise: what another noise changes, by the same measure; None against real images, and until it is measured.
        higher_is_better: the direction of scores; None for distances.
        scale: the two ends of loss; None until they are measured.
        goal: what the user wants; None where all of the front counts.
    """

    kind: QualityKind = "reference"
    noise: Interval | None = None
    higher_is_better: bool | None = None
    scale: Scale | None = None
    goal: Goal | None = None

    @property
    def limit(self) -> float:
        """The loss up to which `best_ratio` looks at points."""
        if self.goal and self.goal.most_loss is not None:
            return self.goal.most_loss
        return LOSS_LIMIT if self.scale else _LIMITS[self.kind]

    def relative(self, excess: float, full: float) -> float | None:
        """A schedule's excess ÷ the full schedule's, or ÷ what another noise changes; None where that isn't above 0."""
        whole = self._whole(full)
        return excess / whole if whole > 0 else None

    def _whole(self, full: float) -> float:
        return full if self.kind == "reference" else self.noise.value if self.noise else 0.0

    def unit(self, full: float) -> float | None:
        """The excess beyond the full schedule's that is a loss of 100 %; None where there is no such."""
        if self.scale:
            return self.scale.width if self.scale.width > 0 else None
        whole = self._whole(full)
        return whole if whole > 0 else None

    def own(self, full: float) -> float:
        """The excess of the full schedule that losses count from, where its excess is `full`."""
        return full if self.kind == "reference" else 0.0

    def limit_excess(self, full: float) -> float | None:
        """The excess at the limit, where the full schedule's is `full`; None where nothing says what a loss is."""
        unit = self.unit(full)
        return None if unit is None else self.own(full) + self.limit * unit

    def worst_excess(self, full: float, upper: float) -> float:
        """The excess beyond which a schedule is worthless; infinite where nothing says what a loss is.

        Args:
            full: the full schedule's.
            upper: the upper end of its interval, so that a network whose samples can hardly be told from real images
                at this count does not make everything else worthless.
        """
        unit = self.unit(full if self.scale else upper)
        worst = WORST_LOSS if self.scale else _WORST[self.kind]
        if self.goal:
            worst = max(worst, 1.5 * (self.goal.most_loss or _WORST_AT_SPEED))
        return math.inf if unit is None else self.own(upper) + worst * unit

    def shown(self, value: Interval) -> Interval:
        """A value with the sign that people know: scores of which more is better are stored with a minus."""
        return Interval(-value.value, -value.upper, -value.lower) if self.higher_is_better else value

    @property
    def excess_name(self) -> str:
        """What a schedule's `excess` is."""
        return _NAMES[self.kind][0]

    @property
    def whole(self) -> str:
        """What losses are parts of: "the way from the full schedule to undenoised noise"."""
        if self.scale:
            return f"the way from the full schedule to {NOTHING[self.scale.nearest]}"
        return _NAMES[self.kind][1]

    @property
    def _of_whole(self) -> str:
        """What a number of a loss needs after it: nothing where a loss has two ends."""
        return "" if self.scale else f" of {self.whole}"

    def words(self, loss: float | Interval) -> str:
        """A loss as people read it: `a loss of 3.9%`, with its interval if it is given, or `no loss`."""
        if isinstance(loss, Interval):
            if loss.value <= NO_LOSS:
                return f"no loss (at most {max(loss.upper, 0.0):.1%}{self._of_whole})"
            return f"a loss of {loss.value:.1%} [{loss.lower:.1%}, {loss.upper:.1%}]{self._of_whole}"
        return "no loss" if loss <= NO_LOSS else f"a loss of {loss:.1%}{self._of_whole}"

    def brief(self, loss: float) -> str:
        """The same in two or three words, for captions."""
        return "no loss" if loss <= NO_LOSS else f"loss {loss:.1%}"

    @property
    def limit_brief(self) -> str:
        """`a loss of 5%`."""
        return f"a loss of {self.limit:.0%}"

    @property
    def limit_words(self) -> str:
        """`a loss of 5%`, and of what where that isn't known otherwise."""
        return f"{self.limit_brief}{self._of_whole}"


# A loss that nobody can see.
NO_LOSS = 0.0005
TO_REFERENCE = Standard()


def standard_of(
    quality: QualityConfig, noise: Interval | None, scale: Scale | None = None, goal: str | None = None
) -> Standard:
    """How a study with these settings states quality.

    Args:
        quality: as the study stores it, with nothing left open.
        noise: what another noise changes, if it was measured.
        scale: the two ends of loss, if they were measured.
        goal: what the user wants, in words.
    """
    wanted = parse_goal(goal) if goal else None
    if quality.metric.endswith(TO_BASELINE):
        return Standard("baseline", noise, scale=scale, goal=wanted)
    if ":" in quality.metric and quality.reference is None:
        return Standard("score", noise, quality.higher_is_better, scale, wanted)
    return Standard(scale=scale, goal=wanted)


_NOISE = (
    "the same measure between two images that the full schedule makes of one prompt or label, one from search seeds "
    "and one from final seeds. 0% is the full schedule's own image, 100% is as different as another noise makes it."
)
CORNERS: dict[QualityKind, str] = {
    "reference": "its floor plus four times its excess distance",
    "baseline": "the distance between noises",
    "score": "its own value, worsened by the difference between noises (scores are negated where higher is better)",
}
_QUALITIES: dict[QualityKind, tuple[str, str]] = {
    "reference": (
        "Excess distance",
        "The distance to the reference minus the floor, which is the distance between real images and real images "
        "at the same count. Small counts make distances large; subtracting the floor removes most of that.",
    ),
    "baseline": (
        "Distance to the full schedule's images",
        "The mean over images of the squared distance between the features of an image and of the full schedule's "
        "image of the same noise.",
    ),
    "score": (
        "Score, and score lost",
        "The mean of the study's own score, and how much worse it is than the full schedule's on the same noises, with "
        "a paired interval.",
    ),
}


def loss_definition(standard: Standard) -> str:
    """What a loss is."""
    if scale := standard.scale:
        others = ", ".join(
            f"{NOTHING[kind]} {spelled_number(100 * (value - scale.full) / scale.width)}%"
            for kind, value in scale.nothing.items()
            if scale.width > 0
        )
        return (
            "How much a schedule's excess is above the full schedule's, as a share of how much images that show "
            f"nothing are above it: 0% is the full schedule (normal weights), 100% the nearest of {others or 'them'}. "
            f"The two ends are {scale.standard_errors:.0f} standard errors of one evaluation apart. Intervals on final "
            "seeds are those of the difference on the same noises."
        )
    parts = standard.whole if standard.kind == "reference" else f"{standard.whole}: {_NOISE}"
    return f"How much a schedule's excess is above the full schedule's, as a share of {parts}"


_VETOED = (
    "Guards look at a schedule's images whatever their distance says, and veto it if they are broken with 95% "
    "confidence: nearer to images that show nothing than to the full schedule's of the same noises; pixels out of the "
    "range of the full schedule's (saturation, correlation of neighbours, detail, brightness, contrast, colour); "
    "images that repeat each other; on final seeds, a kernel distance that contradicts the metric. What is normal is "
    "learnt from the study's own full schedules and from fewer steps, down to 4. A vetoed schedule stays in the "
    "tables, but never joins a front."
)


def best_ratio(standard: Standard) -> str:
    """What `best_ratio` and `best_ratio_lower` are."""
    return (
        f"Both belong to one searched point of the front on final seeds: of those within {standard.limit_words}, the "
        "one with the largest best_ratio_lower. best_ratio is its speed divided by the speed of the fastest baseline "
        "of equal or better quality, at equal counts. best_ratio_lower is a lower bound with "
        f"{BEST_RATIO_LEVEL:.0%} confidence: the lowest lower bound of the speed ratio, from repeats that are "
        "neighbours in time, to that baseline and to every other one that is not significantly worse than the point, "
        "or than the full schedule (paired intervals of differences on the same noises). Being better than the full "
        "schedule counts as no gain. If every baseline is worse, the comparison is with the baseline of the best "
        "quality."
    )


def definitions(standard: Standard, reference: Score | None, unit: SpeedUnit) -> list[tuple[str, str]]:
    """(word, meaning) pairs. `reference` is the hypervolume's reference point, None while there is none."""
    stated = (
        f"Milliseconds are of one {unit.per}: the full schedule's median ÷ the speed-up."
        if unit.is_latency
        else "Images per second are the speed-up times the full schedule's median."
    )
    found = [
        _QUALITIES[standard.kind],
        ("Loss", loss_definition(standard)),
        ("Vetoed", _VETOED),
        (
            "Speed-up and acceleration",
            "t₀ / t and 1 − t/t₀, where t₀ is the full schedule's time for the same batch. Both are end to end "
            "(network, solver, decoder), and the speed-up is the median ratio of repeats that were measured side by "
            f"side. {stated}",
        ),
        (
            "Search and final values",
            "The search compared schedules on the noises of search seeds. The values of the front come from final "
            "seeds: held-out noises, on which no schedule was selected. The two are never mixed.",
        ),
        (
            "Recommended",
            f"What the study's goal asks for on the front: {standard.goal}."
            if standard.goal
            else "The point that best_ratio_lower belongs to, if that is above 1. Otherwise no gain was found, and it "
            f"is the fastest baseline of the front within {standard.limit_words}.",
        ),
        (
            "On the front, and ties",
            "The probability that no other measured point is at least as good and at least as fast as a point of the "
            "front: the share of 1,000 draws of all qualities and speeds, normal, with the errors of each and of each "
            "paired difference (the same noises; rounds of timing that are neighbours). Predicted speeds, beside "
            "search values, count as known. Two points are tied if neither their qualities nor their speeds differ by "
            f"more than the {BEST_RATIO_LEVEL:.0%} interval of the difference.",
        ),
        ("Knee", "The front's point farthest from the line between its ends, in log distance and log time."),
        ("best_ratio and best_ratio_lower", best_ratio(standard)),
    ]
    if reference:
        quality, speed = spelled_number(reference.quality), spelled_number(reference.speed)
        text = (
            "The area (distance × images per second) that the search's front dominates, from a distance of "
            f"{quality} at {speed} images per second: the full schedule's speed, at {CORNERS[standard.kind]}, "
            "on search seeds."
        )
        found.append(("Hypervolume", text))
    return found
