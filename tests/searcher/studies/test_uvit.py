"""Whole studies of U-ViT checkpoints from an empty folder, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKL
from exeunt.backends.networks.uvit import UViT
from exeunt.searcher.cli.main import cli
from PIL import Image

SMALL = ["--budget", "6-trials", "--num-images", "16", "--final-images", "32", "--device", "cpu", "--batch-size", "16"]


def save_checkpoint(path: Path, **arguments: int | bool) -> None:
    """Random weights in the file that the public training code writes."""
    torch.manual_seed(0)
    module = UViT(patch_size=2, width=32, depth=5, num_heads=2, hidden=64, **arguments)  # type: ignore[arg-type]
    torch.nn.init.normal_(module.pos_embed, std=0.02)
    torch.save(module.state_dict(), path)


def save_images(folder: Path, size: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def exeunt(*words: str) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def assert_finished() -> None:
    status = json.loads(exeunt("status", "--json"))
    assert (status["state"], status["evaluations_failed"]) == ("finished", 0)
    assert status["schedules_measured"] >= 8  # baselines, and schedules that the search proposed


@pytest.mark.slow
def test_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("u.pth"), input_size=8, channels=3)
    save_images(Path("photos"), 8)
    exeunt(
        *("optimize", "--checkpoint", "u.pth", "--network-arg", "num_heads=2", "--reference", "photos", *SMALL),
        *("--num-steps", "6", "--metric", "fd-pixels"),
    )
    assert_finished()
    exeunt("export", "--study", "u", "--knee", "-o", "fast.schedule.json")
    document = json.loads(Path("fast.schedule.json").read_text())
    assert document["networks"][0]["architecture"] == "U-ViT"
    assert document["networks"][0]["kinds"] == [["residual", 3], ["merge", 2]]
    assert document["sampler"]["noise"]["kind"] == "vp"


@pytest.mark.slow
def test_latents_with_labels_and_guidance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("l.pth"), input_size=8, channels=4, num_labels=6, conv=False)
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained("vae")  # fmt: skip
    save_images(Path("photos"), 16)
    exeunt(
        *("optimize", "--checkpoint", "l.pth", "--network-arg", "num_heads=2", "--network-arg", "num_classes=5"),
        *("--vae", "vae", "--guidance", "1.4", "--reference", "photos", *SMALL),
        *("--num-steps", "6", "--metric", "fd-pixels"),
    )
    assert_finished()
