"""Hostile and broken folders of ONNX graphs, read by the program that every folder carries: one error and no traceback.

The program needs no Exeunt, so what it ends with is `SystemExit` with a sentence in place of an `ExeuntError`.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exeunt.backends.formats.onnx.export import export_onnx
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import REUSE, RUN
from exeunt.backends.solvers.tables import make_schedule
from hostile import bounded, damaged, mutated, quick
from hypothesis import given
from hypothesis import strategies as st
from onnx_folders import sampler_of

pytestmark = pytest.mark.slow  # making the folder takes as long as all other files' fast tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A schedule of three steps that reuses what a block made, on the closed-form network."""
    network = load_network("closed-form")
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=3)
    row = (*(RUN,) * (network.num_blocks - 1), REUSE)
    schedule = replace(full, steps=(full.steps[0], replace(full.steps[1], blocks=row), full.steps[2]))
    path = tmp_path_factory.mktemp("onnx") / "folder"
    export_onnx([network], schedule, path)
    return path


@pytest.fixture
def program(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The folder's own program, about to write its images into a temporary folder."""
    monkeypatch.setattr(sys, "argv", ["sample.py", "--images", "2", "-o", str(tmp_path / "images.npy")])
    return sampler_of(folder)


def run(program: ModuleType) -> str | None:
    """What it says instead of drawing images."""
    with bounded(), np.errstate(all="ignore"):
        try:
            program.main()
        except SystemExit as end:
            said = str(end.code)
        else:
            return None
    assert said.startswith("Error: ")
    return said


def changed(program: ModuleType, path: Path, data: bytes) -> str | None:
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        return run(program)
    finally:
        path.write_bytes(kept)


def test_a_whole_folder_is_sampled_from(program: ModuleType, tmp_path: Path) -> None:
    assert run(program) is None
    assert np.load(tmp_path / "images.npy").dtype == np.uint8


JSON = ["manifest.json", "schedule.schedule.json"]


@pytest.mark.parametrize("name", JSON)
@quick(25)
@given(data=st.data())
def test_mutated_manifests_and_schedules_draw_images_or_end(
    name: str, data: st.DataObject, folder: Path, program: ModuleType
) -> None:
    document: Any = data.draw(mutated(json.loads((folder / name).read_text())))
    changed(program, folder / name, json.dumps(document).encode())


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("content", [b"[" * 200_000, b"[]", b"null", b"\xff", b""], ids=repr)
def test_json_of_no_sense_is_refused(name: str, content: bytes, folder: Path, program: ModuleType) -> None:
    assert changed(program, folder / name, content[:200_000]) is not None


@pytest.mark.parametrize("key", ["sample_shape", "num_slots"])
@pytest.mark.parametrize("size", [10**6, 2**40, 2**63])
def test_sizes_that_would_fill_the_memory_are_refused(key: str, size: int, folder: Path, program: ModuleType) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    large: Any = [size, size] if key == "sample_shape" else size
    said = changed(program, folder / "manifest.json", json.dumps(manifest | {key: large}).encode())
    assert (said is not None) == (key == "sample_shape")


@pytest.mark.parametrize("name", ["call-0.onnx", "decode.onnx", "weights.bin"])
@quick(10, long=500)
@given(data=st.data())
def test_damaged_graphs_and_weights_draw_images_or_end(
    name: str, data: st.DataObject, folder: Path, program: ModuleType
) -> None:
    changed(program, folder / name, data.draw(damaged((folder / name).read_bytes())))
