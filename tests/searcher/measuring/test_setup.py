"""What is loaded and checked before anything is sampled."""

from pathlib import Path

import numpy as np
import pytest
from exeunt.backends.errors import InputError
from exeunt.searcher.measuring.setup import load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig


@pytest.mark.parametrize("name", ["num_images", "final_images"])
def test_too_few_images_for_a_distance_are_refused(name: str, small: StudyConfig) -> None:
    with pytest.raises(
        InputError, match=rf"quality\.{name}: a distance needs 8 images or more, but got 7\. Add --{name[:3]}"
    ):
        load_setup(override(small, {f"quality.{name}": 7}))
    assert load_setup(override(small, {f"quality.{name}": 8})).network.name == "closed-form"


DECODES = """
import torch
from exeunt.backends.networks.closed_form import ClosedFormNetwork

class Mine(ClosedFormNetwork):
    def evaluate(self, inputs, call, slots):
        raise AssertionError("nothing may be sampled")

    def decode(self, x):
        images = super().decode(x)
        return {}
"""


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        ("images[1:]", r"torch.uint8 \(1, 3, "),
        ("images.float() / 255", r"torch.float32 \(2, 3, "),
        ("images.permute(0, 2, 3, 1)", r"torch.uint8 \(2, \d+, \d+, 3\)"),
        ("images.numpy()", "a ndarray"),
        ("images.nothing()", "fails with AttributeError"),
    ],
)
def test_a_network_that_decodes_otherwise_is_refused(
    returned: str, got: str, small: StudyConfig, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(DECODES.format(returned))
    with pytest.raises(InputError, match=rf"`decode` of `.*` must give uint8 of shape \(N, 3, .*{got}"):
        load_setup(override(small, {"checkpoint.network": f"{tmp_path / 'mine.py'}:Mine"}))


def test_what_takes_the_time_before_the_first_image_is_told_once(
    small: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.quality.reference is not None
    with np.load(small.quality.reference) as content:
        np.savez(tmp_path / "some.npz", images=content["images"][:321])
    for _ in range(2):
        load_setup(override(small, {"quality.reference": str(tmp_path / "some.npz")}))
    assert capsys.readouterr().err.count("working out the features of 321 real images of") == 1
