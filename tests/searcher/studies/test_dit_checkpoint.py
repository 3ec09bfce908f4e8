"""A DiT checkpoint as the public training code writes it, from an empty folder to images; blocks or branches."""

import argparse
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from diffusers import AutoencoderKL
from exeunt.backends.networks.transformer.module import DiT
from exeunt.backends.schedule import REUSE, Schedule, load, save
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.cli.main import cli
from PIL import Image


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`0400000.pt` with `model`, `ema`, `opt` and `args`; the folder `vae`; the folder `photos`."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    module, ema = make_dit(), make_dit()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    module(torch.randn(2, 4, 4, 4), torch.tensor([1.0, 2.0]), torch.tensor([0, 5])).sum().backward()
    optimizer.step()
    args = argparse.Namespace(model="DiT-S/8", image_size=32, num_classes=5, vae="ema", epochs=1400)
    content = {"model": module.state_dict(), "ema": ema.state_dict(), "opt": optimizer.state_dict(), "args": args}
    torch.save(content, folder / "0400000.pt")
    make_vae().save_pretrained(folder / "vae")
    (folder / "photos").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    return folder


def make_dit() -> DiT:
    module = DiT(
        input_size=4, patch_size=2, channels=4, width=32, depth=4, num_heads=4, num_classes=5, learned_range=True
    )
    module.initialize()
    for name, parameter in module.named_parameters():
        if "adaLN" in name or "final_layer" in name:
            parameter.data.normal_(std=0.05)
    return module


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words, catch_exceptions=False)


def checkpoint(files: Path, num_heads: int = 4) -> list[str]:
    return [
        *("--checkpoint", str(files / "0400000.pt"), "--network-arg", f"num_heads={num_heads}"),
        *("--vae", str(files / "vae"), "--device", "cpu", "--batch-size", "16"),
    ]


SHORT = ("--budget", "1-trials")


def study(files: Path, *more: str) -> list[str]:
    return [
        *("optimize", *checkpoint(files), "--reference", str(files / "photos"), "--metric", "fd-pixels"),
        *("--num-steps", "6", "--guidance", "1.5", "--num-images", "16", "--final-images", "32"),
        *("--set", "throughput.repeats=2", "--budget", "6-trials", "--quiet", *more),
    ]


def stored(folder: Path) -> list[dict]:
    with sqlite3.connect(folder / "exeunt.db") as connection:
        return [json.loads(text) for (text,) in connection.execute("select schedule from exeunt_schedules")]


def test_a_whole_study_from_an_empty_folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*study(files, "--solver", "ddpm"))
    assert result.exit_code == 0, result.output
    assert "8 × 8 images" in result.output
    assert "guidance 1.5 on 3 channels" in result.output
    assert (tmp_path / "exeunt-report" / "index.html").is_file()
    result = run("export", "--knee", "-o", "fast.schedule.json")
    assert result.exit_code == 0, result.output
    schedule = load("fast.schedule.json")
    assert schedule.sampler.variance == "learned-range"
    assert schedule.guidance.channels == 3
    result = run("sample", "fast.schedule.json", *checkpoint(files), "--num-images", "4", "-o", "images.npz")
    assert result.exit_code == 0, result.output
    assert np.load("images.npz")["images"].shape == (4, 8, 8, 3)


@pytest.mark.slow
def test_a_study_of_branches(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = study(files, "--granularity", "branch", "--report", "none", "--set", "search.baselines='interval-reuse'")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "every one of 8 branches" in result.output
    found = stored(tmp_path)
    assert len(found) > 6
    assert all(each["networks"][0]["kinds"] == [["branch", 8]] for each in found)
    assert any(action[0] == "reuse" for each in found for step in each["steps"] for action in step["blocks"])
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert "is finished" in again.output
    other = run(*study(files, "--report", "none", "--set", "search.baselines='interval-reuse'"))
    assert other.exit_code == 2
    assert 'checkpoint.granularity: stored "branch", given "block"' in other.output
    assert len(stored(tmp_path)) == len(found)


def by_branch(files: Path) -> Schedule:
    """A schedule that reuses every MLP at every second step."""
    from dataclasses import replace

    from exeunt.backends.networks.registry import load_network as load_network

    network = load_network(files / "0400000.pt", num_heads=4).at("branch")
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=4)
    steps = [
        replace(step, blocks=tuple(REUSE if s % 2 and j % 2 else action for j, action in enumerate(step.blocks)))
        for s, step in enumerate(full.steps)
    ]
    return replace(full, steps=tuple(steps))


def test_sample_and_evaluate_take_the_granularity_from_the_file(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(by_branch(files), tmp_path / "branches.schedule.json")
    result = run("sample", "branches.schedule.json", *checkpoint(files), "--num-images", "3", "-o", "images.npz")
    assert result.exit_code == 0, result.output
    words = ["--reference", str(files / "photos"), "--metric", "fd-pixels", "--num-images", "16", "--num-steps", "4"]
    result = run("evaluate", "branches.schedule.json", *checkpoint(files), *words, "--repeats", "2", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["block_evaluations"] == 24  # of 8 branches at 2 steps, and 4 at the 2 others


def test_a_study_stored_before_there_were_these_settings_resumes(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = study(files, "--report", "none", "--set", "search.baselines='full'", "--guidance-channels", "all", *SHORT)
    assert run(*words).exit_code == 0
    with sqlite3.connect("exeunt.db") as connection:
        ((text,),) = connection.execute("select config from exeunt_studies").fetchall()
        config = json.loads(text)
        del config["checkpoint"]["granularity"]
        connection.execute("update exeunt_studies set config = ?", (json.dumps(config),))
    count = len(stored(tmp_path))
    result = run("resume", *SHORT, "--quiet")
    assert result.exit_code == 0, result.output
    assert len(stored(tmp_path)) > count


def test_a_study_keeps_to_its_autoencoder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vae = make_vae()
    vae.save_pretrained(tmp_path / "vae")
    words = study(files, "--report", "none", "--set", "search.baselines='full'", "--vae", str(tmp_path / "vae"), *SHORT)
    assert run(*words).exit_code == 0
    vae.decoder.conv_out.bias.data += 1.0
    vae.save_pretrained(tmp_path / "vae")
    result = run("resume", *SHORT, "--quiet")
    assert result.exit_code == 2
    assert "other contents of checkpoint.vae" in result.output


def test_latents_need_an_autoencoder_and_heads_must_divide(files: Path, tmp_path: Path) -> None:
    words = study(files)
    place = words.index("--vae")
    result = run(*words[:place], *words[place + 2 :], "--storage", str(tmp_path / "x.db"))
    assert result.exit_code == 2
    assert "--vae FOLDER" in result.output
    assert not (tmp_path / "x.db").exists()
    bare = [word for word in checkpoint(files) if word not in ("--vae", str(files / "vae"))]
    assert run("baselines", *bare, "--num-steps", "4").exit_code == 0  # which decodes nothing
    result = run("optimize", *checkpoint(files, num_heads=3), "--reference", str(files / "photos"))
    assert result.exit_code == 2
    assert "num_heads: must divide the width 32, but got 3" in result.output


def test_schedules_of_branches_are_no_proposals_for_blocks(files: Path, tmp_path: Path) -> None:
    save(by_branch(files), tmp_path / "branches.schedule.json")
    words = ["--proposals", str(tmp_path / "branches.schedule.json"), "--storage", str(tmp_path / "x.db")]
    result = run(*study(files), *words)
    assert result.exit_code == 2
    assert "DiT with 8 branches" in result.output
    assert "DiT with 4 blocks" in result.output
    assert "--granularity branch" in result.output
