"""How a study states quality and loss: against real images, the full schedule's images, or by a user's own score.

Against real images a loss is stated on the excess distance, in parts of the full schedule's. Where there are none, the
full schedule loses nothing by definition, and what others lose is stated in parts of what another noise changes: the
same measure between two of the full schedule's own images of one prompt.

The definitions of the report's words, which are printed with it, follow from that.
"""

from dataclasses import dataclass
from typing import Literal

from ...backends.quality.names import TO_BASELINE
from ...studies.config.study import QualityConfig
from .interval import Interval, spelled_number
from .pareto import Score

# best_ratio looks at points up to this many times the full schedule's excess distance,
EXCESS_LIMIT = 1.5
# or up to this part of what another noise changes. On the bundled checkpoint (weights with exits, 128 images) caches
# and exits of 1.3 to 1.6 times the excess distance are at 0.20 to 0.26 of it, those of 1.1 times at 0.04 to 0.12.
NOISE_LIMIT = 0.25
BEST_RATIO_LEVEL = 0.95  # of its lower bound

QualityKind = Literal["reference", "baseline", "score"]
# What an excess is, and what relative excesses are parts of.
_NAMES: dict[QualityKind, tuple[str, str]] = {
    "reference": ("excess over the floor", "the full schedule's excess"),
    "baseline": ("distance to the full schedule's images", "the distance between noises"),
    "score": ("score lost against the full schedule", "the difference between noises"),
}


@dataclass(frozen=True)
class Standard:
    """What quality is compared with.

    Attributes:
        kind: "reference" (a distance to real images), "baseline" (a distance to the full schedule's image of the same
            noise) or "score" (a user's score, compared with the full schedule's on the same noises).
        noise: what another noise changes, by the same measure; None against real images, and until it is measured.
        higher_is_better: the direction of scores; None for distances.
    """

    kind: QualityKind = "reference"
    noise: Interval | None = None
    higher_is_better: bool | None = None

    @property
    def limit(self) -> float:
        """The relative excess up to which `best_ratio` looks at points."""
        return EXCESS_LIMIT if self.kind == "reference" else NOISE_LIMIT

    def relative(self, excess: float, full: float) -> float | None:
        """A schedule's excess ÷ the full schedule's, or ÷ what another noise changes; None where that isn't above 0."""
        whole = full if self.kind == "reference" else self.noise.value if self.noise else 0.0
        return excess / whole if whole > 0 else None

    def loss(self, relative: float) -> float:
        """What is lost, as a share; 0 for the full schedule."""
        return relative - 1 if self.kind == "reference" else relative

    def shown(self, value: Interval) -> Interval:
        """A value with the sign that people know: scores of which more is better are stored with a minus."""
        return Interval(-value.value, -value.upper, -value.lower) if self.higher_is_better else value

    @property
    def excess_name(self) -> str:
        """What a schedule's `excess` is."""
        return _NAMES[self.kind][0]

    @property
    def whole(self) -> str:
        """What relative excesses are parts of."""
        return _NAMES[self.kind][1]

    def words(self, relative: float, excess: str = "the excess distance") -> str:
        """A relative excess as people read it, after "at": `1.32 × the excess distance`."""
        if self.kind == "reference":
            return f"{relative:.2f} × {excess}"
        return f"{'a loss of ' if self.kind == 'score' else ''}{relative:.1%} of {self.whole}"

    def brief(self, relative: float) -> str:
        """The same in two or three words, for captions."""
        return f"{relative:.2f} × excess" if self.kind == "reference" else f"{relative:.1%} of noise"

    @property
    def limit_brief(self) -> str:
        """`1.5 ×`."""
        return f"{self.limit:g} ×" if self.kind == "reference" else f"{self.limit:.0%} of noise"

    @property
    def limit_words(self) -> str:
        """`1.5 × the full schedule's excess`."""
        number = f"{self.limit:g} ×" if self.kind == "reference" else f"{self.limit:.0%} of"
        return f"{number} {self.whole}"


TO_REFERENCE = Standard()


def standard_of(quality: QualityConfig, noise: Interval | None) -> Standard:
    """How a study with these settings states quality.

    Args:
        quality: as the study stores it, with nothing left open.
        noise: what another noise changes, if it was measured.
    """
    if quality.metric.endswith(TO_BASELINE):
        return Standard("baseline", noise)
    if ":" in quality.metric and quality.reference is None:
        return Standard("score", noise, quality.higher_is_better)
    return TO_REFERENCE


LOSSES: dict[QualityKind, str] = {
    "reference": "excess distance",
    "baseline": "distance to the full schedule's images",
    "score": "loss of score",
}
_NOISE = (
    "the same measure between two images that the full schedule makes of one prompt or label, one from search seeds "
    "and one from final seeds. 0% is the full schedule's own image, 100% is as different as another noise makes it."
)
CORNERS: dict[QualityKind, str] = {
    "reference": "its floor plus four times its excess distance",
    "baseline": "the distance between noises",
    "score": "its own value made worse by the difference between noises (scores of which more is better have a minus)",
}
_QUALITIES: dict[QualityKind, tuple[str, str]] = {
    "reference": (
        "Excess distance",
        "The distance to the reference minus the floor, which is the distance between real images and real images "
        "at the same count. Small counts make distances large; subtracting the floor removes most of that. Loss is "
        "stated on the excess distance.",
    ),
    "baseline": (
        "Distance to the full schedule's images",
        "The mean over images of the squared distance between the features of an image and of the full schedule's "
        f"image of the same noise. Loss is stated in parts of the distance between noises: {_NOISE}",
    ),
    "score": (
        "Score, and score lost",
        "The mean of the study's own score, and how much worse it is than the full schedule's on the same noises, with "
        f"a paired interval. Loss is stated in parts of the difference between noises: {_NOISE}",
    ),
}


def best_ratio(standard: Standard) -> str:
    """What `best_ratio` and `best_ratio_lower` are."""
    normal = " on the normal weights" if standard.kind == "reference" else ""
    return (
        f"Among the searched points of the front on final seeds whose {LOSSES[standard.kind]} is at most "
        f"{standard.limit_words}{normal}, for the one with the largest best_ratio_lower: the ratio of its speed "
        "to the speed of the fastest baseline of equal or better quality, at equal counts. best_ratio_lower is its "
        "lower bound at "
        f"{BEST_RATIO_LEVEL:.0%}: the lowest lower bound of its speed ratio, from repeats that are neighbours in "
        "time, over that baseline and every other one that is not significantly worse than the point (paired interval "
        "of the difference on the same noises). Where every baseline is worse, the comparison is with the baseline of "
        "the best quality."
    )


def definitions(standard: Standard, reference: Score | None) -> list[tuple[str, str]]:
    """(word, meaning) pairs. `reference` is the hypervolume's reference point, None while there is none."""
    found = [
        _QUALITIES[standard.kind],
        (
            "Speed-up and acceleration",
            "t₀ / t and 1 − t/t₀, where t₀ is the full schedule's time for the same batch. Both are end to end "
            "(network, solver, decoder), and the speed-up is the median ratio of repeats that were measured side by "
            "side. Images per second are the speed-up times the full schedule's median.",
        ),
        (
            "Search and final values",
            "The search compared schedules on the noises of search seeds. The values of the front come from final "
            "seeds, whose noises no selection saw. The two are never mixed.",
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
