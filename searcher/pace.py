"""How long images take, learnt from those that were sampled."""

from dataclasses import dataclass


@dataclass
class Pace:
    """Turns a schedule's predicted seconds into what its images really take, features and commits included.

    Attributes:
        stretch: sampling seconds ÷ predicted seconds, recent images weighing most.
        feature_seconds: per image, for features and the commit.
    """

    stretch: float = 1.1
    feature_seconds: float = 0.004
    _chunks: int = 0

    def learn(self, images: int, predicted: float, sampling: float, features: float) -> None:
        """Takes in one chunk: its images, and the seconds that it was predicted to take and took."""
        weight = max(0.1, 1 / (1 + self._chunks))
        self.stretch += weight * (sampling / predicted - self.stretch)
        self.feature_seconds += weight * (features / images - self.feature_seconds)
        self._chunks += 1

    def seconds(self, images: int, predicted_per_image: float) -> float:
        """What that many images of a schedule will take."""
        return images * (predicted_per_image * self.stretch + self.feature_seconds)
