"""`exeunt export --format onnx` and `exeunt schedule convert --to onnx`: a study's point runs without PyTorch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import load as load_schedule
from exeunt.searcher.cli.main import cli

NUM_IMAGES, SEED = 6, 4


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def drawn_by(folder: Path) -> np.ndarray:
    """The images that the folder's own program draws, in a process that never imports torch."""
    program = str(folder / "sample.py")
    code = f"import sys, runpy; sys.modules['torch'] = None; runpy.run_path({program!r}, run_name='__main__')"
    output = folder.parent / "images.npy"
    words = [sys.executable, "-c", code, "--images", str(NUM_IMAGES), "--seed", str(SEED), "-o", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    images = np.load(output)
    assert f"uint8 of shape {images.shape}, from seed {SEED}" in done.stdout
    return images


def drawn_here(schedule: Path) -> np.ndarray:
    network, plan = load_network("closed-form"), load_schedule(schedule)
    conditions = uniform(network.num_classes)
    batches = sample([network], plan, seed=SEED, images=range(NUM_IMAGES), conditions=conditions, batch_size=NUM_IMAGES)
    return next(iter(batches)).images.numpy()


def assert_same_images(folder: Path) -> None:
    ours, theirs = drawn_here(folder / "schedule.schedule.json"), drawn_by(folder)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.slow
def test_a_studys_point_and_a_schedule_file(
    closed_form: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run("optimize", *closed_form, "--study", "toy", "--budget", "3-trials", "--set", "run.report=none")
    assert made.exit_code == 0, made.output
    exported = run("export", "--label", "full", "--format", "onnx")
    assert exported.exit_code == 0, exported.output
    assert "toy-full-onnx" in exported.stdout
    assert_same_images(tmp_path / "toy-full-onnx")

    assert run("export", "--label", "full", "-o", "full.schedule.json").exit_code == 0
    words = ["full.schedule.json", "--to", "onnx", "--checkpoint", "closed-form", "-o", "again"]
    converted = run("schedule", "convert", *words)
    assert converted.exit_code == 0, converted.output
    assert_same_images(tmp_path / "again")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "onnx", "--checkpoint", "closed-form"], "Add -o FOLDER"),
        (["--to", "onnx", "-o", "out"], "Add --checkpoint FILE"),
        (["--to", "ase", "--checkpoint", "closed-form"], "--checkpoint: is for --to onnx"),
        (["--to", "onnx", "--checkpoint", "closed-form", "-o", "out"], "the schedule is for DiT"),
        (["--to", "onnx", "--checkpoint", "fashion-dit", "-o", "."], "must be new or empty"),
    ],
)
def test_what_cannot_be_converted_is_said_with_the_fix(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Path(__file__).parents[3] / "docs" / "examples" / "fashion.schedule.json"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full.schedule.json").write_bytes(example.read_bytes())
    found = run("schedule", "convert", "full.schedule.json", *words)
    assert found.exit_code == 2, found.output
    assert said in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["full.schedule.json"]
