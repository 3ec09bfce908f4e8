"""Guards: what is wrong with a schedule's images, whatever their distance says. A guard's objection is a veto.

A distance can be fooled: a weakly trained network's images may be hardly nearer to real ones than static is. So each
schedule's images are also held against the full schedule's own, pair by pair, against the range of their pixels, and
against each other. What is normal is learnt from the study: from its full schedules and from fewer steps, down to 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

from ...backends.quality.names import GUARD_PAIRED, GUARD_PIXELS, GUARD_PREFIX, GUARD_REPEATS, GUARD_STRAYS
from ...studies.store.records import QualityRecord
from .interval import Interval, spelled

# Fewer steps than this may be broken themselves; so many and more are what people use, and say what is normal.
LEAST_NORMAL_STEPS = 4
# What is normal may be exceeded by this factor. On the bundled checkpoint (256 images) the deviation of pixels is 2.7
# to 2.9 with 4 steps and more, with 3 steps 5.4, with one image in ten replaced by noise 5.0 ± 0.4, and blurred by one
# pixel 17.6.
SLACK = 1.25
# Of the paired distance of images that show nothing: beyond it, images are nearer to these than to the full schedule's.
# There, 4 steps have 0.29 of it, exit 3 of 12, whose clothes are ragged, 0.58, and images under wrong labels 1.2.
NEARER_TO_NOTHING = 0.5
# Where fewer steps make other images altogether, a paired distance says nothing about them.
MOST_OF_NOTHING = 0.9
# The share of images that nearly repeat another one: at most 1 in 1,000 there, and all of them in a collapse.
MOST_REPEATS = 0.03

# The share of images that stray: of good ones 1 %, there up to 2.3 % with 4 steps and more, 10 % with 3 steps, and 8 %
# where one image in ten is decoded noise.
MOST_STRAYS = 0.03

GuardName = Literal["paired", "pixels", "strays", "repeats"]


@dataclass(frozen=True)
class GuardFigures:
    """What guards judge a schedule by on one set of noises; None where it wasn't measured.

    Attributes:
        paired: the mean squared distance to the features of the full schedule's images of the same noises.
        pixels: the mean over images of the largest squared deviation of a pixel statistic from its normal range.
        strays: the share of images whose pixel statistics are together unlike those of good images.
        repeats: the share of images that nearly repeat another one of the set.
        deviating: the statistic that deviates most.
    """

    paired: Interval | None = None
    pixels: Interval | None = None
    strays: Interval | None = None
    repeats: Interval | None = None
    deviating: str = ""

    @classmethod
    def of(cls, records: Iterable[QualityRecord]) -> "GuardFigures":
        """Those among the records of one evaluation, at one count."""
        found: dict[str, Interval] = {}
        deviating = ""
        for record in records:
            if record.metric in (GUARD_PAIRED, GUARD_STRAYS, GUARD_REPEATS):
                found[record.metric.removeprefix(GUARD_PREFIX)] = Interval.of(record)
            elif record.metric.startswith(GUARD_PIXELS):
                found["pixels"], deviating = Interval.of(record), record.metric.removeprefix(GUARD_PIXELS)
        return cls(**found, deviating=deviating)


NO_FIGURES = GuardFigures()


def is_normal(family: str, num_steps: int) -> bool:
    """Whether a baseline is one of those that say what is normal."""
    return family == "full" or (family == "fewer-steps" and num_steps >= LEAST_NORMAL_STEPS)


@dataclass(frozen=True)
class Guards:
    """The largest value of each figure that is normal in a study; None where nothing says so."""

    paired: float | None = None
    pixels: float | None = None
    strays: float | None = MOST_STRAYS
    repeats: float | None = MOST_REPEATS

    @classmethod
    def of(cls, normal: Iterable[GuardFigures], nothing: float | None) -> "Guards":
        """What a study's own schedules say.

        Args:
            normal: of its full schedules and of fewer steps, down to `LEAST_NORMAL_STEPS`, on search seeds.
            nothing: the smallest paired distance of images that show nothing.
        """
        figures = list(normal)
        paired = _largest(each.paired for each in figures)
        strays = SLACK * (_largest(each.strays for each in figures) or 0.0)
        repeats = SLACK * (_largest(each.repeats for each in figures) or 0.0)
        most = None if paired is None or nothing is None else max(SLACK * paired, NEARER_TO_NOTHING * nothing)
        if most is not None and nothing is not None and most >= MOST_OF_NOTHING * nothing:
            most = None
        pixels = _largest(each.pixels for each in figures)
        return cls(most, SLACK * pixels if pixels else None, max(MOST_STRAYS, strays), max(MOST_REPEATS, repeats))

    def excess(self, figures: GuardFigures) -> float:
        """By which share the worst figure is beyond what is normal, with 95 % confidence; 0 or less where none is."""
        beyond = [
            value.lower / most - 1
            for each in fields(self)
            if (value := getattr(figures, each.name)) is not None and (most := getattr(self, each.name))
        ]
        return max(beyond, default=-1.0)

    def objections(self, figures: GuardFigures) -> list[str]:
        """What is wrong with a schedule's images, a sentence each without a full stop."""
        wanted: dict[GuardName, str] = {
            "paired": "its images are nearer to images that show nothing than to the full schedule's of the same "
            "noises (paired distance {value}, at most {most})",
            "pixels": f"its pixels are out of the normal range, {figures.deviating} most (deviation {{value}}, at most "
            "{most})",
            "strays": "single images have pixels unlike the full schedule's (share {value}, at most {most})",
            "repeats": "its images repeat each other (share {value}, at most {most})",
        }
        found: list[str] = []
        for name, sentence in wanted.items():
            value: Interval | None = getattr(figures, name)
            most: float | None = getattr(self, name)
            if value is not None and most is not None and value.lower > most:
                found.append(sentence.format(value=spelled(value), most=f"{most:.3g}"))
        return found


def _largest(values: Iterable[Interval | None]) -> float | None:
    return max((each.value for each in values if each is not None), default=None)


NO_GUARDS = Guards()
