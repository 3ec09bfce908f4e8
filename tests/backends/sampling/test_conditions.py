"""Conditions: what label an image gets, the digest that stands for it, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.sampling import conditions


def test_uniform_goes_round_the_classes() -> None:
    found = conditions.labels(conditions.uniform(3), range(2, 9))
    assert found is not None
    assert found.dtype == torch.long
    assert found.tolist() == [2, 0, 1, 2, 0, 1, 2]
    assert conditions.labels(conditions.uniform(None), range(5)) is None


def test_reference_follows_the_probabilities_and_the_image_alone() -> None:
    drawn = conditions.reference([6, 0, 3, 1])
    whole = conditions.labels(drawn, range(4000), seed=9)
    assert whole is not None
    counts = np.bincount(whole.numpy(), minlength=4) / 4000
    assert counts == pytest.approx([0.6, 0, 0.3, 0.1], abs=0.03)
    part = conditions.labels(drawn, range(1000, 1010), seed=9)
    assert part is not None
    assert torch.equal(part, whole[1000:1010])
    other = conditions.labels(drawn, range(4000), seed=10)
    assert other is not None
    assert not torch.equal(other, whole)


def test_a_file_has_integers_and_objects_and_goes_round(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text('3\n{"label": 1}\n\n0\n')
    loaded = conditions.load_conditions(path, 4)
    found = conditions.labels(loaded, range(1, 6))
    assert found is not None
    assert found.tolist() == [1, 0, 3, 1, 0]


def test_digests_tell_conditions_apart(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("0\n1\n")
    made = [
        conditions.uniform(10),
        conditions.uniform(9),
        conditions.uniform(None),
        conditions.reference([1, 1]),
        conditions.reference([1, 2]),
        conditions.labels_from_file(path, 2),
    ]
    assert len({value.digest for value in made}) == len(made)
    assert conditions.reference([2, 4]).digest == conditions.reference([1, 2]).digest
    path.write_text('{"label": 0}\n\n1')
    assert conditions.labels_from_file(path, 2).digest == made[-1].digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have 1 to"),
        ("0\nseven\n", "line 2: must be an integer or a JSON object, but got `seven`"),
        ("0\n10\n", "line 2: must be a label of this network's 10 classes"),
        ("-1\n", "must be a label"),
        ("true\n", "must be a label"),
        ("1.5\n", "must be a label"),
        ('{"label": "0"}\n', "must be a label"),
        ('{"prompt": "a shoe"}\n', "takes only `label`, but got \\['prompt'\\]"),
        ("[" * 100_000, "must be an integer or a JSON object"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        conditions.load_conditions(path, 10)


def test_other_bad_input_is_told(tmp_path: Path) -> None:
    binary = tmp_path / "labels.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    for spec, num_classes, probabilities, message in (
        ("nowhere.txt", 10, None, "can't be read"),
        (binary, 10, None, "can't be read"),
        ("reference", 10, None, "no labels to follow"),
        ("reference", 3, [0.5, 0.5], "2 classes, but the network 3"),
        ("reference", 2, [0.0, 0.0], "not all 0"),
        ("reference", 2, [0.5, -0.5], "not negative"),
        ("reference", 2, [0.5, float("nan")], "finite"),
        ("reference", None, [0.5, 0.5], "takes none"),
    ):
        with pytest.raises(InputError, match=message):
            conditions.load_conditions(spec, num_classes, probabilities)
