"""Whole studies of diffusers folders with U-Nets from an empty folder, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exeunt.searcher.cli.main import cli
from PIL import Image
from tiny_unets import tiny_unet


def exeunt(*words: str) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_ddpm_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_unet("ddpm").save_pretrained("ddpm")
    Path("photos").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(f"photos/{index}.png")
    exeunt(
        *("optimize", "--checkpoint", "ddpm", "--reference", "photos", "--budget", "6-trials", "--device", "cpu"),
        *("--num-images", "16", "--final-images", "32", "--batch-size", "16", "--num-steps", "6"),
        *("--metric", "fd-pixels"),
    )
    status = json.loads(exeunt("status", "--json"))
    assert (status["state"], status["evaluations_failed"]) == ("finished", 0)
    assert status["schedules_measured"] >= 8
    exeunt("export", "--study", "ddpm", "--knee", "-o", "fast.schedule.json")
    document = json.loads(Path("fast.schedule.json").read_text())
    assert document["networks"][0]["architecture"] == "UNet2DModel"
    assert document["networks"][0]["kinds"] == [["replace", 7]]
    exeunt(
        "sample",
        "fast.schedule.json",
        "--checkpoint",
        "ddpm",
        "--num-images",
        "4",
        "-o",
        "images.npz",
        "--device",
        "cpu",
    )
    assert np.load("images.npz")["images"].shape == (4, 16, 16, 3)


@pytest.mark.slow
def test_stable_diffusion_folder_with_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No real images: the metric is the distance to the full schedule's own."""
    monkeypatch.chdir(tmp_path)
    tiny_unet("sd").save_pretrained("sd")
    Path("prompts.txt").write_text("a red bicycle\ntwo dogs on a beach\n")
    exeunt(
        *("optimize", "--checkpoint", "sd", "--conditions", "prompts.txt", "--guidance", "4", "--device", "cpu"),
        *("--budget", "3-trials", "--num-images", "8", "--final-images", "16", "--batch-size", "8", "--num-steps", "4"),
        *("--metric", "pixels-to-baseline"),
    )
    status = json.loads(exeunt("status", "--json"))
    assert (status["state"], status["evaluations_failed"]) == ("finished", 0)
    assert status["schedules_measured"] >= 8
