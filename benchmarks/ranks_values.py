"""What `ranks.py` judges and by what, and the values of each schedule's images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from exeunt.backends.networks.bundled.trainer import held_out_images
from exeunt.backends.quality.distances import frechet_value, paired_distance
from exeunt.backends.quality.extractors import Extractor, FeatureArray
from exeunt.backends.quality.names import metric_names
from exeunt.backends.quality.references import load_reference
from exeunt.searcher.measuring.metric import Metric, ReferenceMetric, load_metric
from exeunt.searcher.measuring.scale import features_of_nothing
from exeunt.searcher.measuring.setup import StudySetup
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.studies.config.reading import override
from ranks_classifier import Classifier, train
from ranks_images import Images
from ranks_order import Array

COUNTS = (32, 64, 128, 256)
DRAWS = 2
EVERY = 3  # of the 15,000 real images that no network was trained on
EXTRACTORS = ("efficientnet-lite0", "pixels")  # whose weights come with a package


@dataclass(frozen=True)
class Ground:
    """What is judged, and by what.

    Attributes:
        setup: of the study, with the default metric.
        metrics: that are judged.
        truths: Fréchet distances by the names of their extractors.
        real: an .npz of real images that no network was trained on.
    """

    setup: StudySetup
    metrics: Mapping[str, Metric]
    truths: Mapping[str, ReferenceMetric]
    real: Path

    @classmethod
    def prepare(cls, setup: StudySetup, data: Path, keep: Path) -> "Ground":
        """Every metric of extractors that are at hand, and the classifier, which is trained once."""
        real, weights = keep / "real.npz", keep / "classifier.safetensors"
        if not real.exists():
            np.savez_compressed(real, images=np.repeat(held_out_images(data)[::EVERY, ..., None], 3, axis=3))
        if not weights.exists():
            train(data, weights)
        wanted = [name for name, (extractor, _) in metric_names().items() if extractor in EXTRACTORS]
        metrics = {name: _metric(setup, name, real) for name in wanted}
        classifier = Classifier(weights=weights, device=torch.device("cpu"))
        truths = {classifier.name: to_real_images(classifier, real)}
        for name in EXTRACTORS:
            own = metrics[f"fd-{name}"]
            assert isinstance(own, ReferenceMetric)
            truths[name] = own
        return cls(setup, metrics, truths, real)

    def judged_by(self, truth: str) -> list[str]:
        """The metrics that have nothing to do with a truth."""
        return [name for name in self.metrics if metric_names()[name][0] != truth]

    def features(self, images: torch.Tensor) -> dict[str, FeatureArray]:
        """What the metrics go by of images, by the names of their extractors."""
        return {name: self.truths[name].extractor(images) for name in EXTRACTORS}


def _metric(setup: StudySetup, name: str, real: Path) -> Metric:
    """A metric by its name, with the study's reference where that is of its extractor, else with real images."""
    extractor, kind = metric_names()[name]
    reference = setup.config.quality.reference if extractor == EXTRACTORS[0] else str(real)
    changes = {"quality.metric": name, "quality.reference": None if kind == "paired" else reference}
    _, height, width = setup.network.image_shape
    quality = override(setup.config, changes).quality
    return load_metric(quality, (height, width), setup.config.throughput.device, setup.network.condition_kind)


def to_real_images(extractor: Extractor, real: Path) -> ReferenceMetric:
    """The Fréchet distance from real images."""
    return ReferenceMetric(f"fd-{extractor.name}", 0.9, extractor, "frechet", load_reference(real, extractor))


@dataclass(frozen=True)
class Ranked:
    """A schedule's values: of each metric at each count, a number a draw; and of each truth."""

    candidate: Candidate
    values: Mapping[str, Mapping[str, Sequence[float]]]
    truth: Mapping[str, float]

    @property
    def cost(self) -> int:
        """Block evaluations of one image."""
        return self.candidate.stored.block_evaluations


def rank(ground: Ground, images: Images, baseline: Mapping[str, FeatureArray]) -> Ranked:
    """A schedule's values, worked out unless they are kept beside its images.

    Args:
        ground: what is judged, and by what.
        images: the schedule's.
        baseline: what `Ground.features` makes of the first full schedule's on the search's noises.
    """
    path = images.path.with_suffix(".json")
    if not path.exists():
        features = ground.features(images.search)
        values = {
            name: {count: _draws(metric, features[own], baseline[own], count) for count in COUNTS}
            for name, metric in ground.metrics.items()
            for own in [metric_names()[name][0]]
        }
        truth = {
            name: frechet_value(metric.extractor(images.final), metric.source.root)
            for name, metric in ground.truths.items()
        }
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"values": values, "truth": truth}))
        part.replace(path)
    return Ranked(images.candidate, **json.loads(path.read_text()))


def _draws(metric: Metric, features: FeatureArray, baseline: FeatureArray, count: int) -> list[float]:
    """The values of the first disjoint draws of so many images."""
    parts = [slice(start * count, (start + 1) * count) for start in range(DRAWS)]
    if isinstance(metric, ReferenceMetric):
        return [metric.distance(features[part]).value for part in parts]
    return [paired_distance(features[part], baseline[part]).value for part in parts]


def true_losses(ground: Ground, truth: str, ranked: Sequence[Ranked], full: Images) -> Array:
    """(n,) losses by a truth: 0 for the first full schedule, 1 for the nearest of what shows nothing."""
    metric, seed = ground.truths[truth], ground.setup.config.quality.final_seed
    nothing = features_of_nothing(replace(ground.setup, metric=metric), full.final, seed)
    end = min(frechet_value(each, metric.source.root) for each in nothing.values())
    values = np.array([each.truth[truth] for each in ranked])
    return (values - values[0]) / (end - values[0])
