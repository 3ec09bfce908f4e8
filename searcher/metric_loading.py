"""The metric that a study asks for: a registered one, or a function of the user's own."""

from pathlib import Path
from typing import Literal

from ..backends.errors import InputError
from ..backends.quality.extractors import Extractor, load_extractor, refuse_weights
from ..backends.quality.names import TO_BASELINE, parse_metric
from ..backends.quality.reference_images import Preparation
from ..backends.quality.references import load_reference
from ..backends.quality.user_metric import OwnFeatures, OwnMetric
from ..studies.config.study import QualityConfig
from .metric import BaselineMetric, Metric, ReferenceMetric, ScoreMetric


def load_metric(
    config: QualityConfig,
    image_size: tuple[int, int],
    device: str,
    conditions: Literal["none", "labels", "prompts"] = "none",
) -> Metric:
    """The metric that a study asks for.

    Args:
        config: names metric and reference, and how reference images are prepared.
        image_size: (height, width) of generated images, which real ones are brought to.
        device: where the extractor runs.
        conditions: what images are asked to show.

    Raises:
        InputError: an unknown metric, weights that are not to be had, or a reference that does not fit or is missing.
    """
    if ":" in config.metric:
        return _own_metric(config, image_size, device, conditions)
    _refuse_direction(config)
    name, kind = parse_metric(config.metric)
    extractor = load_extractor(name, config.extractor_weights, device)
    if kind == "paired":
        return _to_baseline(config, extractor)
    return _to_reference(config, image_size, extractor, "kernel" if kind == "kernel" else "frechet")


def _own_metric(
    config: QualityConfig,
    image_size: tuple[int, int],
    device: str,
    conditions: Literal["none", "labels", "prompts"],
) -> Metric:
    refuse_weights(config.metric, None if config.extractor_weights is None else Path(config.extractor_weights))
    own = OwnMetric(config.metric.removesuffix(TO_BASELINE), device)
    if own.probe(image_size, conditions):
        return _to_scores(config, own)
    _refuse_direction(config)
    if config.metric.endswith(TO_BASELINE):
        return _to_baseline(config, OwnFeatures(own))
    return _to_reference(config, image_size, OwnFeatures(own), "frechet")


def _to_scores(config: QualityConfig, own: OwnMetric) -> ScoreMetric:
    _refuse_reference(config)
    if config.metric.endswith(TO_BASELINE):
        raise InputError(f"metric: `{own.name}` gives scores, not features. Leave `{TO_BASELINE}` away.")
    said = {own.higher_is_better, config.higher_is_better} - {None}
    if len(said) != 1:
        problem = "says both" if said else "doesn't say"
        raise InputError(
            f"metric: it must be known whether more is better, but `{own.name}` {problem}. Write "
            f"`{own.name.rpartition(':')[2]}.higher_is_better = True` (or False) under the function, or "
            "`--set quality.higher_is_better=true`."
        )
    return ScoreMetric(config.metric, config.level, own, True in said)


def _to_baseline(config: QualityConfig, extractor: Extractor) -> BaselineMetric:
    _refuse_reference(config)
    return BaselineMetric(config.metric, config.level, extractor)


def _to_reference(
    config: QualityConfig, image_size: tuple[int, int], extractor: Extractor, kind: Literal["frechet", "kernel"]
) -> ReferenceMetric:
    if config.reference is None:
        raise InputError(
            f"reference: `{config.metric}` needs real images to be compared with. Add --reference FOLDER, or compare "
            f"with the full schedule's images: --metric {extractor.name}{TO_BASELINE}."
        )
    preparation = Preparation(image_size, config.crop, config.resize_filter)
    reference = load_reference(config.reference, extractor, preparation)
    if kind == "kernel":
        reference.kernel  # noqa: B018  Worked out now, because it refuses a reference without features.
    return ReferenceMetric(config.metric, config.level, kind, extractor, reference)


def _refuse_reference(config: QualityConfig) -> None:
    if config.reference is not None:
        raise InputError(
            f"reference: `{config.metric}` has no use for real images, but got `{config.reference}`. "
            "Leave --reference away, or choose a metric such as fd-efficientnet-lite0."
        )


def _refuse_direction(config: QualityConfig) -> None:
    if config.higher_is_better is not None:
        raise InputError(
            f"quality.higher_is_better: is for a function of your own that gives scores, but the metric is "
            f"`{config.metric}`, a distance. Leave it away."
        )
