"""Features of real images are worked out once for each set of files, preparation and extractor."""

import os
from pathlib import Path

import numpy as np
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.quality.extractors import PixelExtractor
from exeunt.backends.quality.reference_cache import VARIABLE, cache_folder
from exeunt.backends.quality.reference_images import Preparation
from exeunt.backends.quality.references import Reference, load_reference
from PIL import Image
from torch import Tensor, device


class Counting(PixelExtractor):
    """Pixels, with the number of images that were looked at."""

    def __init__(self) -> None:
        super().__init__(weights=None, device=device("cpu"))
        self.images = 0

    def extract(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return super().extract(images)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "real"
    folder.mkdir()
    for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8)):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return folder


def load(path: Path, size: int = 4) -> tuple[Reference, int]:
    extractor = Counting()
    return load_reference(path, extractor, Preparation((size, size))), extractor.images


def test_the_second_study_on_the_same_images_works_nothing_out(folder: Path) -> None:
    (first, before), (second, after) = load(folder), load(folder.rename(folder.with_name("moved")))
    assert (before, after) == (300, 0)
    assert first.digest == second.digest
    assert (second.count, second.made["name"]) == (300, "moved")
    assert [path.suffix for path in cache_folder().iterdir()] == [".safetensors"]


@pytest.mark.parametrize("change", ["file", "size", "damage"])
def test_whatever_decides_them_makes_other_ones(folder: Path, change: str) -> None:
    first, _ = load(folder)
    if change == "file":
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "000.png")
    elif change == "damage":
        (kept,) = cache_folder().iterdir()
        content = bytearray(kept.read_bytes())
        content[-1] ^= 1
        kept.write_bytes(content)
    second, after = load(folder, 3 if change == "size" else 4)
    assert after == 300
    assert (first.digest == second.digest) == (change == "damage")


def test_a_folder_that_cant_be_written_costs_the_time_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, os.devnull)
    assert [load(folder)[1] for _ in range(2)] == [300, 300]


@pytest.mark.parametrize("different", [1, 7])
def test_copies_of_a_few_images_are_refused(folder: Path, different: int) -> None:
    for index in range(different, 300):
        (folder / f"{index:03}.png").write_bytes((folder / f"{index % different:03}.png").read_bytes())
    with pytest.raises(InputError, match=rf"`.*` has 300, of which only {different} differ\. Give more images"):
        load(folder)
    assert list(cache_folder().iterdir()) == []
