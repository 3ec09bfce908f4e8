"""Whether a metric tells a network's full schedule from images that show nothing, before anything is spent on it.

A few images of the full schedule answer it for every metric that is at hand. Where the default one hardly tells them
apart, the one that does best takes its place.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ...backends.errors import ExeuntError
from ...backends.quality.names import TO_BASELINE, metric_names
from ...backends.sampling.conditions import shown_condition
from ...backends.sampling.loop import NonFiniteSamples
from ...reports.view.standard import NARROW, Scale, scale_of
from ...studies.config.reading import override
from ...studies.config.study import AUTO, StudyConfig
from .chunks import ChunkSampler, OutOfMemory
from .metric import Answer, load_metric
from .scale import features_of_nothing, values_of_nothing
from .setup import StudySetup, tell_notes

PROBE_IMAGES = 64
# Extractors whose weights come with a package.
_AT_HAND = ("efficientnet-lite0", "pixels")


def settle_metric(setup: StudySetup, asked: StudyConfig, check: Callable[[], None]) -> StudySetup:
    """The setup with a metric that tells the full schedule from nothing, if the user left the metric open.

    Where the metric does, or was named by the user, it stays; what others would do is told where it hardly does.

    Args:
        setup: of a study that is not stored yet.
        asked: what the user said.
        check: raises to stop; called at every step of sampling.
    """
    sampler = ChunkSampler(setup, check, lambda text: tell_notes([text]))
    try:
        images = sampler.baseline_images(min(PROBE_IMAGES, setup.config.quality.num_images))
    except (NonFiniteSamples, OutOfMemory):
        return setup  # the study will say so, and keep the reason
    own = standard_errors(setup, images)
    if own is None or own >= NARROW:
        return setup
    tell_notes(
        [
            f"{setup.config.quality.metric} hardly separates the full schedule from images that show nothing: by only "
            f"{own:.1f} standard errors of an evaluation of {setup.config.quality.num_images} images (estimated from "
            f"{len(images)})"
        ]
    )
    others = {
        each.config.quality.metric: (found, each)
        for each in _alternatives(setup)
        if (found := standard_errors(each, images)) is not None
    }
    if others:
        ranked = sorted(others, key=lambda name: -others[name][0])
        tell_notes(
            ["other metrics, in standard errors: " + ", ".join(f"{name} {others[name][0]:.1f}" for name in ranked)]
        )
    better = _best({name: found for name, (found, _) in others.items() if found > max(own, 0.0)})
    if better is None:
        tell_notes(["no other metric does better: check the full schedule's images, its settings and the reference"])
        return setup
    if asked.quality.metric != AUTO:
        tell_notes([f"choose another with --metric {better}"])
        return setup
    unused = "; it compares each image with the full schedule's of the same noise and uses no reference"
    tell_notes(
        [f"{better} is used instead{unused if better.endswith(TO_BASELINE) else ''}. Choose another with --metric"]
    )
    return others[better][1]


def _best(widths: dict[str, float]) -> str | None:
    """The widest of those that use the reference, if one is wide; else the widest of all."""
    kept = {name: width for name, width in widths.items() if not name.endswith(TO_BASELINE) and width >= NARROW}
    return max(kept or widths, key=lambda name: widths[name], default=None)


def standard_errors(setup: StudySetup, images: Tensor) -> float | None:
    """How far the two ends of loss are apart at the search's count, in standard errors of one evaluation.

    Args:
        setup: whose metric is asked.
        images: the full schedule's first images on search seeds, (N, 3, H, W) uint8.
    """
    scale = _scale(setup, images)
    if scale is None:
        return None
    return scale.standard_errors * math.sqrt(setup.config.quality.num_images / len(images))


def _scale(setup: StudySetup, images: Tensor) -> Scale | None:
    metric, seed = setup.metric, setup.config.quality.search_seed
    shown = shown_condition(setup.conditions, range(len(images)), seed)
    try:
        full = Answer("full", metric.features([images], [shown]))
        nothing = values_of_nothing(metric, features_of_nothing(setup, images, seed), full)
        return scale_of(setup.config.quality, metric.score(full, full), nothing)
    except ExeuntError:
        return None  # it will be refused, with its reason, where it is measured


def _alternatives(setup: StudySetup) -> list[StudySetup]:
    """The setup with each other metric that needs no file of weights and takes what the user gave."""
    config, found = setup.config, list[StudySetup]()
    _, height, width = setup.network.image_shape
    for name, (extractor, kind) in metric_names().items():
        if extractor not in _AT_HAND or name == config.quality.metric:
            continue
        if kind != "paired" and config.quality.reference is None:
            continue
        changes = {"quality.metric": name, "quality.extractor_weights": None}
        other = override(config, changes | ({"quality.reference": None} if kind == "paired" else {}))
        try:
            metric = load_metric(other.quality, (height, width), config.throughput.device, setup.network.condition_kind)
        except ExeuntError:
            continue
        found.append(replace(setup, config=other, metric=metric))
    return found
