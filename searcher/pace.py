"""How long images take, learnt from those that were sampled."""

from dataclasses import dataclass


@dataclass
class Pace:
    """Turns a schedule's predicted seconds into what its images really take, features and commits included.

    Attributes:
        stretch: sampling seconds ÷ predicted seconds, recent images weighing most.
        feature_seconds: per image, for features and the commit.
        scoring_seconds: per image, for the distance of all of them; the first value is that of 1,280 features.
    """

    stretch: float = 1.1
    feature_seconds: float = 0.004
    scoring_seconds: float = 0.0004
    _chunks: int = 0
    _scores: int = 0

    def learn(self, images: int, predicted: float, sampling: float, features: float) -> None:
        """Takes in one chunk: its images, and the seconds that it was predicted to take and took."""
        weight = max(0.1, 1 / (1 + self._chunks))
        self.stretch += weight * (sampling / predicted - self.stretch)
        self.feature_seconds += weight * (features / images - self.feature_seconds)
        self._chunks += 1

    def seconds(self, images: int, predicted_per_image: float) -> float:
        """What that many images of a schedule will take."""
        return images * (predicted_per_image * self.stretch + self.feature_seconds)

    def learn_score(self, images: int, seconds: float) -> None:
        """Takes in how long the distance of so many images took."""
        weight = max(0.2, 1 / (1 + self._scores))
        self.scoring_seconds += weight * (seconds / images - self.scoring_seconds)
        self._scores += 1

    def score_seconds(self, images: int) -> float:
        """What the distance of so many images will take: in proportion, as between 256 and 1,024 images it was."""
        return images * self.scoring_seconds
