"""A study's metric: what makes features of images, what they are compared with, and the value that comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from ..backends.features import Extractor, FeatureArray, load_extractor, parse_metric
from ..backends.fidelity import frechet, paired_distance
from ..backends.floors import frechet_floor, kernel_floor
from ..backends.kernel import kid
from ..backends.reference_images import Preparation
from ..backends.references import Reference, load_reference
from ..backends.uncertainty import Distance, Floor, estimate
from ..studies.config import QualityConfig
from ..studies.records import QualityRecord


@dataclass(frozen=True)
class Metric:
    """Scores features against a reference.

    Attributes:
        name: the registered name, such as `fid` or `fd-efficientnet-lite0`.
        kind: "frechet" or "kernel".
        extractor: makes features of images.
        source: the reference.
        level: the confidence of intervals.
    """

    name: str
    kind: str
    extractor: Extractor
    source: Reference
    level: float
    _floors: dict[int, Floor] = field(default_factory=dict[int, Floor])

    @property
    def reference(self) -> str:
        """What tells references apart."""
        return self.source.digest

    @property
    def extractor_digest(self) -> str:
        """What tells extractors apart, weights and preprocessing included."""
        return self.extractor.digest

    @property
    def label_probabilities(self) -> Sequence[float] | None:
        """How often each label occurs among the reference images, where whoever made the reference noted it."""
        return self.source.made.get("label_probabilities")

    def features(self, images: Sequence[Tensor]) -> FeatureArray:
        """(N, D) features of batches of images, each (n, 3, H, W) uint8."""
        return np.concatenate([self.extractor(batch) for batch in images])

    def score(self, evaluation: str, features: FeatureArray, keep_influence: bool = False) -> QualityRecord:
        """The value of features (N, D) with its interval and the floor at that count.

        Args:
            evaluation: the digest of the question that the features answer.
            features: of images 0 … N − 1.
            keep_influence: whether paired intervals will be wanted of it.
        """
        distance = self.distance(features)
        influence = tuple(distance.pack().ravel().tolist()) if keep_influence else ()
        found = self._record(evaluation, self.name, self.reference, distance)
        return replace(found, floor=self.floor(len(features)).value, influence=influence)

    def score_beside(
        self, evaluation: str, features: FeatureArray, baseline: str, of_baseline: FeatureArray
    ) -> list[QualityRecord]:
        """What stands beside the value: the paired distance to the baseline's images, and a kernel distance.

        Args:
            evaluation: the digest of the question that the features (N, D) answer.
            features: of images 0 … N − 1.
            baseline: the digest of the question that `of_baseline` answers.
            of_baseline: (N, D) features of the baseline's images of the same noises.
        """
        paired = paired_distance(features, of_baseline)
        found = [self._record(evaluation, f"{self.extractor.name}-to-baseline", baseline, paired)]
        if self.kind == "frechet" and self.source.features is not None:
            distance = kid(features, self.source.kernel)
            found.append(self._record(evaluation, self.extractor.kernel_metric, self.reference, distance))
        return found

    def _record(self, evaluation: str, metric: str, reference: str, distance: Distance) -> QualityRecord:
        found = estimate(distance, self.level)
        return QualityRecord(
            evaluation=evaluation,
            metric=metric,
            reference=reference,
            first_image=0,
            num_images=found.num_images,
            value=found.value,
            lower=found.lower,
            upper=found.upper,
            standard_error=found.standard_error,
            level=found.level,
        )

    def distance(self, features: FeatureArray) -> Distance:
        """The distance of features (N, D) from the reference."""
        return frechet(features, self.source.root) if self.kind == "frechet" else kid(features, self.source.kernel)

    def floor(self, count: int) -> Floor:
        """The distance between real images and real images at a count."""
        if count not in self._floors:
            self._floors[count] = frechet_floor(self.source, count) if self.kind == "frechet" else kernel_floor(count)
        return self._floors[count]


def load_metric(config: QualityConfig, image_size: tuple[int, int], device: str) -> Metric:
    """The metric that a study asks for.

    Args:
        config: names metric and reference, and how reference images are prepared.
        image_size: (height, width) of generated images, which real ones are brought to.
        device: where the extractor runs.

    Raises:
        InputError: an unknown metric, weights that are not to be had, or a reference that does not fit.
    """
    name, kind = parse_metric(config.metric)
    extractor = load_extractor(name, config.extractor_weights, device)
    preparation = Preparation(image_size, config.crop, config.resize_filter)
    reference = load_reference(config.reference, extractor, preparation)
    if kind == "kernel":
        reference.kernel  # noqa: B018  Worked out now, because it refuses a reference without features.
    return Metric(config.metric, kind, extractor, reference, config.level)
