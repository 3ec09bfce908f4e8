"""`exeunt sample` and `exeunt evaluate` as a user calls them, and a command that is misspelt."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import save
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.cli.main import cli
from PIL import Image


@pytest.fixture
def schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A schedule file for the closed-form network of three components, in the current folder."""
    monkeypatch.chdir(tmp_path)
    network = load_network("closed-form", components=3)
    save(make_schedule(network.signature, network.noise, network.prediction, num_steps=4), "a.schedule.json")
    return "a.schedule.json"


CLOSED_FORM = ["--checkpoint", "closed-form", "--device", "cpu", "--batch-size", "4", "--network-arg", "components=3"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_an_archive_has_the_images_of_the_indices_and_their_labels(schedule: str):
    found = run("sample", schedule, *CLOSED_FORM, "--num-images", "6", "--first-image", "2", "-o", "a.npz", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert (said["output"], said["first_image"], said["num_images"], said["seed"]) == ("a.npz", 2, 6, 1)
    network = load_network("closed-form", components=3)
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=4)
    assert said["digest"] == full.digest
    (wanted,) = sample([network], full, seed=1, images=range(2, 8), conditions=uniform(3), batch_size=6)
    with np.load("a.npz") as archive:
        assert archive["labels"].tolist() == [2, 0, 1, 2, 0, 1]
        assert np.abs(archive["images"].astype(int) - wanted.images.permute(0, 2, 3, 1).numpy()).max() <= 1


def test_a_grid_has_ten_columns(schedule: str):
    found = run("sample", schedule, *CLOSED_FORM, "--num-images", "12", "-o", "a.png")
    assert found.exit_code == 0, found.output
    assert found.stdout == f"12 images of {schedule} on closed-form (seed 1): a.png\n"
    assert "Note" not in found.stderr
    with Image.open("a.png") as grid:
        assert grid.size == (40, 8)


def test_other_weights_than_the_schedules_are_remarked(schedule: str, reference: Path):
    other = [*CLOSED_FORM, "--network-arg", "seed=1"]
    note = "Note: the schedule was made for other weights"
    assert note in run("sample", schedule, *other, "--num-images", "1").stderr
    metric = ["--metric", "fd-pixels", "--reference", str(reference), "--num-images", "8", "--num-steps", "4"]
    found = run("evaluate", schedule, *other, *metric, "--repeats", "2")
    assert found.exit_code == 0, found.output
    assert note in found.stderr
    assert "fd-pixels" in found.stdout
    quiet = run("evaluate", schedule, *CLOSED_FORM, *metric, "--repeats", "2", "--json")
    assert (json.loads(quiet.stdout)["num_images"], quiet.stderr) == (8, "")


def test_a_network_of_other_arguments_than_the_study_s_is_remarked(schedule: str):
    said = ' on other arguments", "provenance": {"study": "a", "x-network-args": "components=3, seed=2"}'
    Path(schedule).write_text(Path(schedule).read_text().replace('"version": 1', f'"version": 1, "name": "found{said}'))
    note = "Note: the schedule was found with --network-arg components=3, seed=2, but runs with components=3 here, so"
    assert note in run("sample", schedule, *CLOSED_FORM, "--num-images", "1").stderr
    same = run("sample", schedule, *CLOSED_FORM, "--network-arg", "seed=2", "--num-images", "1")
    assert same.exit_code == 0, same.output
    assert "--network-arg" not in same.stderr


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_another_network_than_the_schedule_s_is_refused_before_anything_else(schedule: str, command: str):
    network = load_network("closed-form", num_blocks=5)
    save(make_schedule(network.signature, network.noise, network.prediction, num_steps=4), "five.schedule.json")
    missing = ["--metric", "fd-pixels", "--reference", "nowhere"] if command == "evaluate" else []
    found = run(command, "five.schedule.json", *CLOSED_FORM, *missing)
    assert found.exit_code == 2
    assert "is for closed-form with 5 blocks" in found.stderr
    assert "sampling" not in found.stderr
    assert "Note" not in found.stderr


def test_the_bundled_weights_that_a_schedule_names_are_offered(tmp_path: Path):
    network = load_network("fashion-dit")
    path = tmp_path / "normal.schedule.json"
    save(make_schedule(network.signature, network.noise, network.prediction, num_steps=2), path)
    found = run("sample", str(path), "--num-images", "1", "--device", "cpu", "-o", str(tmp_path / "a.png"))
    assert found.exit_code == 0, found.output
    assert "than `fashion-dit-exits` has. Did you mean --checkpoint fashion-dit?" in found.stderr


def test_a_misspelt_command_names_the_nearest():
    found = run("optimise")
    assert found.exit_code == 2
    assert "Did you mean 'optimize'?" in found.stderr
    assert "Did you mean" not in run("frobnicate").stderr
