"""Raw seconds of one measurement, as they are taken and as they are read back."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Timing:
    """Raw repeats of one measurement, in seconds per batch.

    Attributes:
        seconds: one a repeat, in the order in which they were taken.
        batch_size: images a batch.
        neighbours: the baseline's seconds, measured beside each repeat; empty where there is no baseline.
    """

    seconds: tuple[float, ...]
    batch_size: int
    neighbours: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The middle repeat: interruptions only ever make a run slower, and would spoil the mean."""
        return median(self.seconds)

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.median
