"""A study's metric: what makes features of images, what they are compared with, and the value that comes out.

The metric that a study asks for: a registered one, or a function of the user's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from ...backends.errors import InputError
from ...backends.quality.distances import (
    check_features,
    frechet,
    frechet_vector,
    kid,
    paired_distance,
    paired_vector,
)
from ...backends.quality.extractors import Extractor, FeatureArray, load_extractor, refuse_weights
from ...backends.quality.floors import frechet_floor, kernel_floor, sliced_floor
from ...backends.quality.intervals import Distance, FloatArray, Floor, estimate_distance
from ...backends.quality.names import TO_BASELINE, ReferenceKind, parse_metric
from ...backends.quality.reference_images import Preparation
from ...backends.quality.references import Reference, load_reference
from ...backends.quality.sliced import mind
from ...backends.quality.user_metric import OwnFeatures, OwnMetric, Shown, unpack_scores
from ...studies.config.study import QualityConfig
from ...studies.store.records import QualityRecord


@dataclass(frozen=True)
class Answer:
    """Features (N, D) of a schedule's images 0 … N − 1, with the digest of the question that they answer."""

    question: str
    features: FeatureArray


@dataclass(frozen=True)
class Metric(ABC):
    """Turns images into features, and features into a value. A lower value is better.

    Attributes:
        name: as the study names it.
        level: the confidence of intervals.
    """

    name: str
    level: float

    needs_baseline: ClassVar[bool] = True

    @property
    def higher_is_better(self) -> bool | None:
        """The direction of a user's scores; None for distances."""
        return None

    def told(self, value: float) -> str:
        """A value in words, with the sign that people know."""
        if self.higher_is_better is None:
            return f"distance {value:.4g}"
        return f"score {-value if self.higher_is_better else value:.4g}"

    @property
    @abstractmethod
    def extractor_digest(self) -> str:
        """What tells extractors apart, weights and preprocessing included."""

    @property
    def reference(self) -> str:
        """What tells references apart. The baseline is told apart by its own settings."""
        return "baseline"

    @property
    def label_probabilities(self) -> Sequence[float] | None:
        """How often each label occurs among the reference images, where the reference says so."""
        return None

    @abstractmethod
    def features(self, images: Sequence[Tensor], shown: Sequence[Shown]) -> FeatureArray:
        """(N, D) features of batches of images, each (n, 3, H, W) uint8, shown the given prompts or labels."""

    @abstractmethod
    def score(self, answer: Answer, baseline: Answer | None, keep_influence: bool = False) -> QualityRecord:
        """The value of features with its interval and its floor.

        Args:
            answer: of a schedule.
            baseline: of the full schedule on the same noises; not looked at unless `needs_baseline`.
            keep_influence: whether paired intervals will be wanted of a value whose influences are large to keep.
        """

    @property
    def has_features(self) -> bool:
        """Whether an image's features are more than its own score."""
        return True

    def vector(self, answer: Answer, baseline: Answer | None) -> FloatArray | None:
        """A vector whose squared length is the value but for what hardly changes; None where there is no such.

        It changes almost linearly with what a schedule does, so that a search learns it from few schedules.
        """
        return None

    def second(self, answer: Answer) -> list[QualityRecord]:
        """A second opinion on the same features, if there is one."""
        return []

    def score_beside(self, answer: Answer, baseline: Answer) -> list[QualityRecord]:
        """What stands beside the value at the end of a study."""
        return []

    def noise(self, other: Answer, baseline: Answer) -> QualityRecord | None:
        """How far the baseline is from itself on other noises, image by image; None where a floor says what counts.

        Args:
            other: the baseline's images of other noises.
            baseline: those of the same prompts or labels that schedules are compared on.
        """
        return None

    def record(self, question: str, metric: str, reference: str, distance: Distance) -> QualityRecord:
        """A distance with its interval, as it is stored."""
        found = asdict(estimate_distance(distance, self.level))
        return QualityRecord(evaluation=question, metric=metric, reference=reference, first_image=0, **found)


@dataclass(frozen=True)
class _ExtractorMetric(Metric):
    """One whose features a registered extractor makes, or a function of the user's own."""

    extractor: Extractor

    @property
    def extractor_digest(self) -> str:
        return self.extractor.digest

    def features(self, images: Sequence[Tensor], shown: Sequence[Shown]) -> FeatureArray:
        return np.concatenate([self.extractor(batch) for batch in images])


@dataclass(frozen=True)
class ReferenceMetric(_ExtractorMetric):
    """The distance of features from those of real images.

    Attributes:
        kind: of the distance.
        source: the reference.
    """

    kind: ReferenceKind
    source: Reference
    _floors: dict[int, Floor] = field(default_factory=dict[int, Floor])

    needs_baseline: ClassVar[bool] = False

    @property
    def reference(self) -> str:
        return self.source.digest

    @property
    def label_probabilities(self) -> Sequence[float] | None:
        return self.source.made.get("label_probabilities")

    def score(self, answer: Answer, baseline: Answer | None, keep_influence: bool = False) -> QualityRecord:
        distance = self.distance(answer.features)
        influence = packed_distance(distance) if keep_influence else ()
        found = self.record(answer.question, self.name, self.reference, distance)
        return replace(found, floor=self.floor(len(answer.features)).value, influence=influence)

    def score_beside(self, answer: Answer, baseline: Answer) -> list[QualityRecord]:
        """The paired distance to the baseline's images, and a kernel distance."""
        paired = paired_distance(answer.features, baseline.features)
        name = f"{self.extractor.name}{TO_BASELINE}"
        return [self.record(answer.question, name, baseline.question, paired), *self.second(answer)]

    def vector(self, answer: Answer, baseline: Answer | None) -> FloatArray | None:
        return frechet_vector(answer.features, self.source.root) if self.kind == "frechet" else None

    def second(self, answer: Answer) -> list[QualityRecord]:
        """The kernel distance, where the value is another one and the reference has features."""
        if self.kind == "kernel" or self.source.features is None:
            return []
        distance = kid(answer.features, self.source.kernel)
        return [self.record(answer.question, self.extractor.kernel_metric, self.reference, distance)]

    def distance(self, features: FeatureArray) -> Distance:
        """The distance of features (N, D) from the reference."""
        match self.kind:
            case "frechet":
                return frechet(features, self.source.root)
            case "kernel":
                return kid(features, self.source.kernel)
            case "gaussian":
                return kid(features, self.source.gaussian)
            case "sliced":
                return mind(features, self.source.sliced)

    def floor(self, count: int) -> Floor:
        """The distance between real images and real images at a count."""
        if count not in self._floors:
            self._floors[count] = self._floor(count)
        return self._floors[count]

    def _floor(self, count: int) -> Floor:
        match self.kind:
            case "frechet":
                return frechet_floor(self.source, count)
            case "kernel" | "gaussian":
                return kernel_floor(count)
            case "sliced":
                return sliced_floor(self.source.real_features, count)


@dataclass(frozen=True)
class BaselineMetric(_ExtractorMetric):
    """The mean squared distance between the features of an image and of the baseline's of the same noise."""

    def score(self, answer: Answer, baseline: Answer | None, keep_influence: bool = False) -> QualityRecord:
        assert baseline is not None, "needs_baseline"
        distance = paired_distance(answer.features, baseline.features)
        found = self.record(answer.question, self.name, baseline.question, distance)
        return replace(found, influence=packed_distance(distance))

    def vector(self, answer: Answer, baseline: Answer | None) -> FloatArray | None:
        assert baseline is not None, "needs_baseline"
        return paired_vector(answer.features, baseline.features)

    def noise(self, other: Answer, baseline: Answer) -> QualityRecord | None:
        distance = paired_distance(other.features, baseline.features)
        return self.record(other.question, self.name, baseline.question, distance)


@dataclass(frozen=True)
class ScoreMetric(Metric):
    """The mean of a user's score, with a minus where more is better.

    Attributes:
        own: the user's function.
        upward: whether more is better.
    """

    own: OwnMetric
    upward: bool

    @property
    def higher_is_better(self) -> bool | None:
        return self.upward

    @property
    def has_features(self) -> bool:
        return False

    @property
    def extractor_digest(self) -> str:
        return self.own.digest

    def features(self, images: Sequence[Tensor], shown: Sequence[Shown]) -> FeatureArray:
        return np.concatenate([self.own.scores(batch, each) for batch, each in zip(images, shown, strict=True)])

    def score(self, answer: Answer, baseline: Answer | None, keep_influence: bool = False) -> QualityRecord:
        assert baseline is not None, "needs_baseline"
        distance = Distance.of_mean(self._losses(answer))
        found = self.record(answer.question, self.name, baseline.question, distance)
        return replace(found, floor=float(self._losses(baseline).mean()), influence=packed_distance(distance))

    def noise(self, other: Answer, baseline: Answer) -> QualityRecord | None:
        distance = Distance.of_mean(np.abs(self._losses(other) - self._losses(baseline)))
        return self.record(other.question, self.name, baseline.question, distance)

    def _losses(self, answer: Answer) -> FloatArray:
        """(N,) values; lower is better."""
        check_features(answer.features, 2)
        scores = unpack_scores(answer.features)
        return -scores if self.upward else scores


def packed_distance(distance: Distance) -> tuple[float, ...]:
    """What a record keeps of a distance for paired intervals."""
    return tuple(distance.pack().ravel().tolist())


def load_metric(
    config: QualityConfig,
    image_size: tuple[int, int],
    device: str,
    conditions: Literal["none", "labels", "prompts"] = "none",
) -> Metric:
    """The metric that a study asks for.

    `image_size` is (height, width) of generated images, which real ones are brought to; the extractor runs on `device`.

    Raises:
        InputError: an unknown metric, weights that are not available, or a reference that does not fit or is missing.
    """
    if ":" in config.metric:
        refuse_weights(config.metric, None if config.extractor_weights is None else Path(config.extractor_weights))
        own = OwnMetric(config.metric.removesuffix(TO_BASELINE), device)
        if own.probe(image_size, conditions):
            return _to_scores(config, own)
        kind, extractor = "paired" if config.metric.endswith(TO_BASELINE) else "frechet", OwnFeatures(own)
    else:
        name, kind = parse_metric(config.metric)
        extractor = load_extractor(name, config.extractor_weights, device)
    if config.higher_is_better is not None:
        raise InputError(
            f"quality.higher_is_better: is for a function of your own that returns scores, but the metric is "
            f"`{config.metric}`, a distance. Omit it."
        )
    if kind == "paired":
        _refuse_reference(config)
        return BaselineMetric(config.metric, config.level, extractor)
    return _to_reference(config, image_size, extractor, kind)


def _to_scores(config: QualityConfig, own: OwnMetric) -> ScoreMetric:
    _refuse_reference(config)
    if config.metric.endswith(TO_BASELINE):
        raise InputError(f"metric: `{own.name}` returns scores, not features. Omit `{TO_BASELINE}`.")
    said = {own.higher_is_better, config.higher_is_better} - {None}
    if len(said) != 1:
        problem = "and the setting differ" if said else "does not state it"
        raise InputError(
            f"metric: the direction of scores must be known, but `{own.name}` {problem}. Write "
            f"`{own.name.rpartition(':')[2]}.higher_is_better = True` (or False) under the function, or "
            "`--set quality.higher_is_better=true`."
        )
    return ScoreMetric(config.metric, config.level, own, True in said)


def _to_reference(
    config: QualityConfig, image_size: tuple[int, int], extractor: Extractor, kind: ReferenceKind
) -> ReferenceMetric:
    if config.reference is None:
        raise InputError(
            f"reference: `{config.metric}` needs real images to compare with. Add --reference FOLDER, or compare "
            f"with the full schedule's images: --metric {extractor.name}{TO_BASELINE}."
        )
    preparation = Preparation(image_size, config.crop, config.resize_filter)
    reference = load_reference(config.reference, extractor, preparation)
    if kind != "frechet":
        reference.real_features  # noqa: B018  Asked for now, because it refuses a reference without features.
    return ReferenceMetric(config.metric, config.level, extractor, kind, reference)


def _refuse_reference(config: QualityConfig) -> None:
    if config.reference is not None:
        raise InputError(
            f"reference: `{config.metric}` takes no real images, but got `{config.reference}`. "
            "Omit --reference, or choose a metric such as fd-efficientnet-lite0."
        )
