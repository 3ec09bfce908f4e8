"""`exeunt finetune` on a tiny DiT: its checkpoint, going on after any end, and what it refuses."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_dit
import torch
from click.testing import CliRunner, Result
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import save
from exeunt.searcher.cli.main import cli
from safetensors.torch import load_file


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint, data and a schedule in the working folder."""
    monkeypatch.chdir(tmp_path)
    save(tiny_dit.staircase(tiny_dit.tiny_dit(tmp_path)), "stairs.schedule.json")
    tiny_dit.idx_data(tmp_path / "data")


BASE = ["--checkpoint", "tiny.safetensors", "--data", "data", "--batch-size", "8", "--learning-rate", "1e-3"]
STAIRS = [*BASE, "--schedule", "stairs.schedule.json", "--ema-decay", "0.9", "--warmup", "2"]


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", *map(str, words)], catch_exceptions=False)


def process(*words: object, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "exeunt", "finetune", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **variables}, stderr=pipe, stdout=pipe)


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def test_a_schedule_is_trained_and_the_checkpoint_serves_every_other_command() -> None:
    result = run(*STAIRS, "--num-steps", 60, "--log-every", 20, "-o", "tuned", "--json")
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    assert card["steps"] == 60
    assert card["losses"][0][1] > card["losses"][-1][1]
    assert (
        "the exit" in Path("tuned/card.md").read_text() or "at each time its exit" in Path("tuned/card.md").read_text()
    )
    before, after = load_network("tiny.safetensors"), load_network("tuned")
    assert after.signature.weights_sha256 == card["weights_sha256"] != before.signature.weights_sha256
    for name in ("noise", "prediction", "num_classes", "reading", "guidance_channels"):
        assert getattr(after, name) == getattr(before, name)
    fixed = {name: value for name, value in weights("tuned").items() if name.startswith(("t_embedder", "pos_embed"))}
    assert fixed
    assert all(torch.equal(load_file("tiny.safetensors")[name], value) for name, value in fixed.items())
    sampled = CliRunner().invoke(
        cli, ["sample", "stairs.schedule.json", "--checkpoint", "tuned", "--num-images", "4", "-o", "images.png"]
    )
    assert sampled.exit_code == 0, sampled.output
    x, time_, labels = torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    assert after.evaluate(NetworkInput(x, time_, labels), None, []).shape == (1, 1, 8, 8)


def test_all_exits_are_trained_without_labels_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 10, 12, 3)).astype(np.uint8)
    np.savez("plain.npz", images=images)
    words = ["--checkpoint", "tiny.safetensors", "--data", "plain.npz", "--batch-size", 4, "--num-steps", 4]
    result = run(*words, "--exits", "all", "--accumulation", 2, "-o", "tuned")
    assert result.exit_code == 0, result.output
    assert "full depth, and random exits at depths 1 to 3" in result.output


def test_accumulated_parts_are_one_batch() -> None:
    for parts in (1, 4):
        run(*STAIRS, "--num-steps", 5, "--learning-rate", "1e-4", "--accumulation", parts, "-o", f"parts-{parts}")
    one, four = weights("parts-1"), weights("parts-4")
    for name, value in one.items():
        torch.testing.assert_close(four[name], value, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_same_weights() -> None:
    words = [*STAIRS, "--num-steps", 120, "--save-every", 0, "--decay", "cosine"]
    whole = process(*words, "-o", "whole")
    assert whole.wait() == 0, whole.stderr
    rng, killed = random.Random(0), 0
    for _ in range(3):
        running = process(*words, "-o", "killed")
        state = Path("killed/training/state.pt")
        known = state.stat().st_mtime_ns if state.exists() else 0
        while running.poll() is None and (not state.exists() or state.stat().st_mtime_ns == known):
            time.sleep(0.01)
        time.sleep(rng.random() * 0.3)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            killed += 1
        running.communicate()
    assert killed
    last = process(*words, "-o", "killed")
    assert last.wait() == 0
    for each in (whole, last):
        each.communicate()
    expected, found = weights("whole"), weights("killed")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    curves = [json.loads(Path(name, "card.json").read_text())["losses"] for name in ("whole", "killed")]
    assert curves[0] == curves[1]


def test_ctrl_c_keeps_what_was_done() -> None:
    running = process(*STAIRS, "--num-steps", 100_000, "--save-every", 0, "-o", "tuned")
    while running.poll() is None and not Path("tuned/card.md").exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1].decode()
    assert running.returncode == 75, said
    assert "what was trained is kept in tuned. Run the command again." in said
    assert load_network("tuned").num_blocks == 4


@pytest.mark.slow
def test_two_processes_train_the_same_weights_as_one() -> None:
    """gloo, on one machine, the same global batch: to 1e-5 after 50 steps."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [*BASE, "--num-steps", 50, "--learning-rate", "1e-4", "--schedule", "stairs.schedule.json"]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    two = [
        process(*words, "-o", "two", "--device", "cpu", **common, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    said = [each.communicate()[1].decode() for each in two]
    assert [each.returncode for each in two] == [0, 0], said
    assert run(*words, "-o", "one", "--device", "cpu").exit_code == 0
    assert json.loads(Path("two/card.json").read_text())["processes"] == 2
    one, both = weights("one"), weights("two")
    assert max(float((one[name] - both[name]).abs().max()) for name in one) < 1e-5


def test_what_does_not_fit_is_said_before_anything_is_trained() -> None:
    expected = [
        ([*BASE], "give either --schedule FILE or --exits all, but got neither"),
        ([*STAIRS, "--exits", "all"], "but got both"),
        ([*BASE, "--exits", "four"], "must be `all` or depths"),
        ([*BASE, "--exits", "9"], "depths must be from 1 to 3"),
        ([*BASE, "--exits", "all", "--accumulation", "3"], "Give 6"),
        ([*BASE, "--exits", "all", "--data", "absent"], "is not there"),
        ([*BASE, "--exits", "all", "--batch-size", "64"], "at least as many images as a batch"),
        ([*BASE, "--exits", "all", "--checkpoint", "closed-form"], "can't be fine-tuned"),
    ]
    for words, message in expected:
        result = run(*words, "-o", "tuned")
        assert result.exit_code == 2, result.output
        assert message in result.output
    assert not Path("tuned").exists()


def test_a_training_goes_on_only_with_its_own_settings() -> None:
    assert run(*STAIRS, "--num-steps", 3, "-o", "tuned").exit_code == 0
    refused = run(*STAIRS, "--num-steps", 6, "--weighting", "min-snr", "-o", "tuned")
    assert refused.exit_code == 2
    assert "weighting is min-snr, was constant" in refused.output
    assert run(*STAIRS, "--num-steps", 6, "-o", "tuned").exit_code == 0
    assert json.loads(Path("tuned/card.json").read_text())["steps"] == 6


def test_a_diverging_loss_and_a_full_disk_leave_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*STAIRS, "--num-steps", 3, "-o", "tuned").exit_code == 0
    kept = {name: Path("tuned", name).read_bytes() for name in ("model.safetensors", "training/state.pt")}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        result = run(*STAIRS, "--num-steps", 6, "-o", "tuned")
    assert result.exit_code == 1
    assert "No space left on device), and what was saved before is intact. Make room" in result.output
    assert {name: Path("tuned", name).read_bytes() for name in kept} == kept
    assert not list(Path("tuned").rglob("*.part"))

    state = torch.load("tuned/training/state.pt", weights_only=True)
    state["model"]["blocks.0.mlp.fc1.bias"].fill_(float("nan"))
    torch.save(state, "tuned/training/state.pt")
    result = run(*STAIRS, "--num-steps", 6, "-o", "tuned")
    assert result.exit_code == 1
    assert "the loss must stay finite" in result.output
    assert Path("tuned/model.safetensors").read_bytes() == kept["model.safetensors"]
    Path("tuned/training/state.pt").write_bytes(b"damaged")
    assert "Remove it to begin again" in run(*STAIRS, "--num-steps", 6, "-o", "tuned").output


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert "pip install 'exeunt[finetune]'" in run(*STAIRS, "-o", "tuned").output
