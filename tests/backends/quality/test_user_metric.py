"""A user's function as a metric: what it is given, what it may return, what is kept, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.quality.user_metric import OwnFeatures, OwnMetric, pack_scores, unpack_scores

SOURCE = """
import torch

def brightness(images):
    return images.float().mean(dim=(1, 2, 3))
brightness.higher_is_better = True

def length(images, prompts):
    return [float(len(prompt)) for prompt in prompts]

def label(images, labels):
    return torch.tensor(labels)

def colours(images):
    return images.float().mean(dim=(2, 3))

def pair(images, prompts):
    return torch.zeros(len(images), 2)

def one(images):
    return 3.0

def cube(images):
    return images

def text(images):
    return ["good"] * len(images)

def fickle(images):
    return torch.zeros(len(images)) if len(images) == 2 else torch.zeros(len(images), 3)

def broken(images):
    raise ValueError("no weights here")

def undecided(images):
    return torch.zeros(len(images))
undecided.higher_is_better = "yes"

number = 3
"""
IMAGES = torch.arange(3 * 3 * 4 * 4, dtype=torch.uint8).reshape(3, 3, 4, 4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metrics") / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_function_gets_what_its_parameters_name(file: Path) -> None:
    shown = {"prompts": ["a", "bcd", "ef"], "labels": [5, 6, 7]}
    assert unpack_scores(OwnMetric(f"{file}:length", "cpu").scores(IMAGES, shown)).tolist() == [1.0, 3.0, 2.0]
    assert unpack_scores(OwnMetric(f"{file}:label", "cpu").scores(IMAGES, shown)).tolist() == [5.0, 6.0, 7.0]
    found = OwnMetric(f"{file}:brightness", "cpu")
    assert found.higher_is_better is True
    assert unpack_scores(found.scores(IMAGES, {})) == pytest.approx(IMAGES.float().mean(dim=(1, 2, 3)).numpy())


def test_features_are_an_extractors(file: Path) -> None:
    own = OwnMetric(f"{file}:colours", "cpu")
    assert own.probe((4, 4), "prompts") is False
    extractor = OwnFeatures(own)
    assert (extractor.name, extractor.digest) == (own.name, own.digest)
    assert extractor(IMAGES) == pytest.approx(IMAGES.float().mean(dim=(2, 3)).numpy())


def test_scores_keep_22_bits_in_half_precision() -> None:
    scores = np.random.default_rng(0).normal(30, 5, size=1000)
    stored = pack_scores(scores).astype(np.float16).astype(np.float32)
    assert np.abs(unpack_scores(stored) - scores).max() <= np.abs(scores).max() * 2**-22
    assert np.abs(stored[:, 0] - scores).max() > 1e-3
    assert not np.isfinite(pack_scores(np.array([1e6])).astype(np.float16)).all()


def test_the_digest_is_that_of_the_file_the_function_and_its_version(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.py"
    copy.write_text(SOURCE)
    digest = OwnMetric(f"{file}:brightness", "cpu").digest
    assert OwnMetric(f"{copy}:brightness", "cpu").digest == digest
    assert OwnMetric(f"{copy}:colours", "cpu").digest != digest
    copy.write_text(SOURCE + "brightness.version = 2\n")
    newer = OwnMetric(f"{copy}:brightness", "cpu").digest
    copy.write_text(SOURCE + "# mended\n")
    assert len({digest, newer, OwnMetric(f"{copy}:brightness", "cpu").digest}) == 3


def test_a_module_without_a_file_needs_a_version() -> None:
    with pytest.raises(InputError, match=r"no source file.*Give it a `version`"):
        OwnMetric("math:sqrt", "cpu")


@pytest.mark.parametrize(
    ("name", "conditions", "message"),
    [
        ("length", "labels", "asks for prompts, but this network takes labels"),
        ("label", "prompts", "asks for labels, but this network takes prompts"),
        ("one", "none", r"must return numbers.*gave \(\) for 2 images"),
        ("cube", "none", r"gave \(2, 3, 4, 4\) for 2 images"),
        ("text", "none", "must return numbers"),
        ("broken", "none", "fails with ValueError: no weights here"),
        ("undecided", "none", "must be True or False"),
        ("brightnes", "none", "Did you mean `brightness`"),
        ("number", "none", "no function called `number`"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_sampled(
    file: Path, name: str, conditions: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        OwnMetric(f"{file}:{name}", "cpu").probe((4, 4), conditions)  # type: ignore[arg-type]


def test_a_function_keeps_to_what_it_gave_first(file: Path) -> None:
    own = OwnMetric(f"{file}:fickle", "cpu")
    assert own.probe((4, 4), "none") is True
    with pytest.raises(InputError, match=r"as before, \(N,\)"):
        own.scores(IMAGES, {})


def test_features_are_of_images_alone(file: Path) -> None:
    with pytest.raises(InputError, match="must be of images only, but asks for prompts"):
        OwnFeatures(OwnMetric(f"{file}:pair", "cpu"))


def test_missing_files_and_modules_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metric: .*nowhere\.py` does not exist"):
        OwnMetric(f"{tmp_path}/nowhere.py:score", "cpu")
    with pytest.raises(InputError, match="can't be imported"):
        OwnMetric("nowhere.at.all:score", "cpu")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=r"metric: .* fails at line 1: ZeroDivisionError"):
        OwnMetric(f"{tmp_path}/fails.py:score", "cpu")
