"""How a study states quality and loss: against real images, the full schedule's images, or by a user's own score.

Against real images a loss is stated on the excess distance, in parts of the full schedule's. Where there are none, the
full schedule loses nothing by definition, and what others lose is stated in parts of what another noise changes: the
same measure between two of the full schedule's own images of one prompt.
"""

from dataclasses import dataclass
from typing import Literal

from ...backends.quality.names import TO_BASELINE
from ...studies.config.study import QualityConfig
from .interval import Interval

# best_ratio looks at points up to this many times the full schedule's excess distance,
EXCESS_LIMIT = 1.5
# or up to this part of what another noise changes. On the bundled checkpoint (weights with exits, 128 images) caches
# and exits of 1.3 to 1.6 times the excess distance are at 0.20 to 0.26 of it, those of 1.1 times at 0.04 to 0.12.
NOISE_LIMIT = 0.25

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
