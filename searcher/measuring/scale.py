"""The two ends of the scale of loss, and the figures that guards judge by, worked out for one study.

Loss is 0 at the full schedule and 1 at the nearest of what shows nothing: undenoised noise, a constant image, the full
schedule's images blurred and grey, and under wrong labels where quality is judged image by image.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...backends.quality.distances import paired_distance
from ...backends.quality.extractors import FeatureArray
from ...backends.quality.guards.checks import PixelRange, pixel_deviation, repeats, strays
from ...backends.quality.guards.nothing import images_of_nothing
from ...backends.quality.intervals import Distance
from ...backends.quality.names import GUARD_PAIRED, GUARD_PIXELS, GUARD_REPEATS, GUARD_STRAYS, nothing_metric
from ...backends.sampling.conditions import noises, shown_condition
from ...studies.store.records import QualityRecord
from .metric import Answer, Metric
from .setup import StudySetup


def features_of_nothing(study_setup: StudySetup, images: Tensor, seed: int) -> dict[str, FeatureArray]:
    """The features (N, D) of as many images that show nothing as there are of the full schedule, by their kinds.

    Args:
        study_setup: makes the features.
        images: the baseline's first images on noises of that seed, (N, 3, H, W) uint8.
        seed: of the noises.
    """
    network, size, metric = study_setup.network, study_setup.config.quality.batch_size, study_setup.metric
    mean = images.double().mean(dim=0).round().to(torch.uint8)
    order = wrong_order(study_setup, len(images), seed) if metric.needs_baseline else None
    found: dict[str, list[FeatureArray]] = defaultdict(list)
    for first in range(0, len(images), size):
        part = range(first, min(first + size, len(images)))
        shown = shown_condition(study_setup.conditions, part, seed)
        noise = noises(seed, part, network.sample_shape, 1)[0].to(network.device, network.dtype)
        with torch.inference_mode(), study_setup.lock.shared():
            empty = images_of_nothing(images[part.start : part.stop], network.decode(noise).cpu(), mean)
            if order is not None:
                empty["shuffled"] = images[order[part.start : part.stop]]
            for name, batch in empty.items():
                found[name].append(metric.features([batch], [shown]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def wrong_order(study_setup: StudySetup, count: int, seed: int) -> NDArray[np.intp] | None:
    """An order in which most of the first images stand where another label or prompt was asked for; None without."""
    shown = shown_condition(study_setup.conditions, range(count), seed)
    if not shown or count < 2:
        return None
    asked = np.array(next(iter(shown.values())))
    shifts = range(1, min(count, 64))
    best = max(shifts, key=lambda shift: int((np.roll(asked, -shift) != asked).sum()))
    return np.roll(np.arange(count), -best) if (np.roll(asked, -best) != asked).mean() > 0.5 else None


def values_of_nothing(metric: Metric, found: Mapping[str, FeatureArray], baseline: Answer) -> list[QualityRecord]:
    """What a metric says of images that show nothing, and how far they are from the baseline's, pair by pair."""
    records: list[QualityRecord] = []
    for name, features in found.items():
        if not np.isfinite(features).all():  # a network or a function of the user's own may have no answer
            continue
        answer = Answer(baseline.question, features)
        scored = [metric.score(answer, baseline), *metric.second(answer)]
        records += [replace(each, metric=nothing_metric(name, each.metric), influence=()) for each in scored]
        if metric.has_features:
            distance = paired_distance(features, baseline.features)
            kind = nothing_metric(name, GUARD_PAIRED)
            records.append(metric.record(baseline.question, kind, baseline.question, distance))
    return records


def guard_figures(
    metric: Metric,
    answer: Answer,
    statistics: FeatureArray | None,
    baseline: Answer,
    normal: FeatureArray | None,
) -> list[QualityRecord]:
    """What guards judge a schedule's images by.

    Args:
        metric: the study's.
        answer: the features of the schedule's images.
        statistics: (N, S) of their pixels, None where they were sampled before there were any.
        baseline: the features of the full schedule's images of the same noises.
        normal: (M, S) statistics of the full schedule's pixels.
    """
    figures: list[tuple[str, Distance]] = []
    if metric.has_features:
        figures.append((GUARD_PAIRED, paired_distance(answer.features, baseline.features)))
        figures.append((GUARD_REPEATS, repeats(answer.features, baseline.features)))
    if statistics is not None and normal is not None:
        usual = PixelRange.of(normal)
        deviation, worst = pixel_deviation(statistics, usual)
        figures += [(f"{GUARD_PIXELS}{worst}", deviation), (GUARD_STRAYS, strays(statistics, usual))]
    return [metric.record(answer.question, name, baseline.question, distance) for name, distance in figures]
