"""Distances to real images by name, and what stands beside a value."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.quality.distances import Statistics
from exeunt.backends.quality.extractors import load_extractor
from exeunt.backends.quality.references import Reference
from exeunt.backends.quality.sliced import SlicedReference, mind
from exeunt.searcher.measuring.metric import Answer, ReferenceMetric, load_metric
from exeunt.studies.config.study import QualityConfig
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from transformers import Dinov2Config, Dinov2Model

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(300, 12)).astype(np.float32)
FAKE, BASELINE = (RNG.normal(loc, 1.2, size=(100, 12)).astype(np.float32) for loc in (0.3, 0.1))


def metric(features: np.ndarray | None) -> ReferenceMetric:
    moments = Statistics.of(REAL)
    extractor = load_extractor("pixels")
    reference = Reference("real", "pixels", extractor.digest, 300, moments.mean, moments.covariance, features)
    return ReferenceMetric("fd-pixels", 0.9, extractor, "frechet", reference)


def test_the_paired_distance_is_the_mean_square_between_images_of_one_noise() -> None:
    record = metric(None).score_beside(Answer("question", FAKE), Answer("baseline", BASELINE))[0]
    assert (record.metric, record.reference, record.num_images) == ("pixels-to-baseline", "baseline", 100)
    assert record.value == pytest.approx(float(((FAKE - BASELINE) ** 2).sum(axis=1).mean()), rel=1e-6)
    assert record.lower < record.value < record.upper


def test_the_kernel_distance_is_torch_fidelitys_and_needs_real_features() -> None:
    assert len(metric(None).score_beside(Answer("question", FAKE), Answer("baseline", BASELINE))) == 1
    record = metric(REAL).score_beside(Answer("question", FAKE), Answer("baseline", BASELINE))[1]
    assert record.metric == "kid-pixels"
    whole = kid_features_to_metric(
        torch.from_numpy(FAKE), torch.from_numpy(REAL[:100]), kid_subset_size=100, kid_subsets=1, verbose=False
    )[KEY_METRIC_KID_MEAN]
    same = metric(REAL[:100]).score_beside(Answer("question", FAKE), Answer("baseline", BASELINE))[1]
    assert same.value == pytest.approx(whole, rel=1e-4)


def loaded(name: str, folder: Path, weights: str | None = None, **arrays: np.ndarray) -> ReferenceMetric:
    np.savez(folder / "real.npz", **arrays)
    config = QualityConfig(metric=name, reference=str(folder / "real.npz"), extractor_weights=weights)
    found = load_metric(config, (8, 8), "cpu")
    assert isinstance(found, ReferenceMetric)
    return found


def test_mind_of_real_images(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    metric = loaded("mind-pixels", tmp_path, images=images)
    features = metric.features([torch.from_numpy(255 - images[:16]).permute(0, 3, 1, 2)], [])
    record = metric.score(Answer("question", features), None, keep_influence=True)
    assert metric.source.features is not None
    expected = mind(features, SlicedReference.of(metric.source.features))
    assert (record.metric, record.num_images, record.value) == ("mind-pixels", 16, expected.value)
    assert record.floor is not None
    assert record.floor > 0
    assert len(record.influence) == 17 * 16
    assert [each.metric for each in metric.second(Answer("question", features))] == ["kid-pixels"]


def test_a_gaussian_kernel_on_real_images_is_torch_fidelitys(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    metric = loaded("mmd-pixels", tmp_path, images=images)
    features = metric.features([torch.from_numpy(255 - images // 2).permute(0, 3, 1, 2)], [])
    record = metric.score(Answer("question", features), None)
    real = metric.source.features
    assert real is not None
    expected = kid_features_to_metric(
        *(torch.from_numpy(each.astype(np.float64)) for each in (features, real)),
        kid_kernel="rbf",
        kid_kernel_rbf_sigma=16,
        kid_subset_size=40,
        kid_subsets=1,
        verbose=False,
    )[KEY_METRIC_KID_MEAN]
    assert (record.metric, record.floor) == ("mmd-pixels", 0.0)
    assert record.value == pytest.approx(1000 * expected, rel=1e-5)
    assert [each.metric for each in metric.second(Answer("question", features))] == ["kid-pixels"]


@pytest.mark.parametrize("name", ["kid-pixels", "mind-pixels", "mmd-pixels"])
def test_a_mean_and_a_covariance_are_refused_where_features_are_needed(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs features of real images.*only mean and covariance"):
        loaded(name, tmp_path, mu=np.zeros(192), sigma=np.eye(192))


@pytest.mark.parametrize("name", ["fd-dinov2", "kid-dinov2", "mind-dinov2", "mmd-dinov2"])
def test_dinov2_takes_its_weights_from_the_settings(name: str, tmp_path: Path) -> None:
    config = Dinov2Config(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=518)
    Dinov2Model(config).save_pretrained(tmp_path)
    images = RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    metric = loaded(name, tmp_path, str(tmp_path / "model.safetensors"), images=images)
    near, far = (metric.features([torch.from_numpy(x).permute(0, 3, 1, 2)], []) for x in (images, images // 8))
    values = [metric.score(Answer("question", features), None).value for features in (near, far)]
    assert near.shape == (40, 64)
    assert values[0] < values[1]
