"""`exeunt doctor` as a user calls it."""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import diffusers
import pytest
import torch
from click.testing import CliRunner, Result
from exeunt.backends.networks.conformance.suite import CHECKS
from exeunt.backends.networks.hf.denoisers import survey
from exeunt.backends.networks.transformer.module import DiT
from exeunt.searcher.cli.main import cli
from safetensors.torch import save_file

BROKEN = """
import torch
from exeunt.backends.networks.closed_form import ClosedFormNetwork

class Leaky(ClosedFormNetwork):
    calls = 0
    def begin(self, x, time, conditions, guidance=None):
        self.calls += 1
        return super().begin(x + 0.1 * self.calls, time, conditions, guidance)
"""


def doctor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)])


def test_it_says_nothing_but_what_it_was_asked() -> None:
    """Libraries whose parts are left when Python ends must not complain of it."""
    found = subprocess.run([sys.executable, "-m", "exeunt", "doctor"], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "0050000.pt"
    module = DiT(input_size=8, patch_size=2, channels=4, width=48, depth=3, num_heads=3, num_classes=7)
    generator = torch.Generator().manual_seed(0)
    for value in module.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.1
    wrapped = {f"module.{name}": value for name, value in module.state_dict().items()}
    arguments = argparse.Namespace(model="DiT-S/8", num_classes=7)
    torch.save({"model": wrapped, "ema": wrapped, "opt": {"param_groups": []}, "args": arguments}, path)
    return path


class TestInstallation:
    def test_it_lists_versions_devices_and_extras(self) -> None:
        result = doctor()
        assert result.exit_code == 0
        assert f"torch                              {version('torch')} " in result.output
        assert "cpu " in result.output
        assert "missing psycopg: pip install 'exeunt[postgres]'" in result.output or "psycopg 3" in result.output

    def test_json(self) -> None:
        found = json.loads(doctor("--json").output)
        assert found["packages"]["torch"] == version("torch")
        assert "greenlet" in found["extras"]["gp"]
        assert "test" not in found["extras"]


class TestCheckpoint:
    def test_a_training_checkpoint(self, training: Path) -> None:
        result = doctor("--checkpoint", training)
        assert result.exit_code == 0, result.output
        for line in (
            "model: 42 tensors",
            "ema (chosen): 42 tensors",
            "  blocks.*.attn.qkv.weight               3 ×  144×48         float32",
            "opt: an optimizer's state with 1 entries",
            "  model = 'DiT-S/8'",
            "Note: weights: `ema` chosen from `model`, `ema`.",
            "Note: weights: `module.` removed from 42 names.",
            "Recognised as a DiT.",
        ):
            assert line in result.output
        assert "(chosen)" in doctor("--checkpoint", training, "--weights-key", "model").output.splitlines()[2]

    def test_json_has_every_group(self, training: Path) -> None:
        found = json.loads(doctor("--checkpoint", training, "--json").output)
        assert found["chosen"] == "ema"
        assert found["taken_for"]["network"] == "DiT"
        assert [entry["key"] for entry in found["entries"]] == ["model", "ema"]
        assert sum(group["count"] for group in found["entries"][1]["groups"]) == 42
        assert found["arguments"] == {"model": "'DiT-S/8'", "num_classes": "7"}

    def test_a_bundled_one(self) -> None:
        result = doctor("--checkpoint", "fashion-dit")
        assert result.exit_code == 0
        assert '"architecture": "DiT"' in result.output

    def test_what_cannot_be_loaded_is_listed_with_exit_code_2(self, tmp_path: Path) -> None:
        save_file({"model.embed_tokens.weight": torch.ones(5, 3)}, tmp_path / "llm.safetensors")
        result = doctor("--checkpoint", tmp_path / "llm.safetensors")
        assert result.exit_code == 2
        assert "model.embed_tokens.weight    5×3  float32" in result.output
        assert "a language model" in result.output

    def test_what_cannot_be_read_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "w.pt").write_bytes(b"<html>")
        for arguments in (("--checkpoint", tmp_path / "w.pt"), ("--checkpoint", tmp_path / "none.pt")):
            result = doctor(*arguments)
            assert result.exit_code == 2
            assert len(result.output.splitlines()) == 1
            assert result.output.startswith("Error: checkpoint: ")
        assert "not a file" in doctor("--checkpoint", "DiT").output


class TestNetwork:
    def test_a_whole_one(self, training: Path) -> None:
        result = doctor(
            "--checkpoint", training, "--network", "DiT", "--network-arg", "num_heads=3", "--device", "cpu"
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "0050000.pt: DiT, 3 blocks (3 residual), samples 4×8×8, predicts epsilon" in result.stdout
        assert "Note: weights: `ema` chosen" in result.stderr
        for check in CHECKS:
            assert f"\n{check.name} " in result.stdout
        assert " 0 failed" in result.stdout

    def test_a_broken_one_is_named_with_exit_code_1(self, tmp_path: Path) -> None:
        (tmp_path / "leaky.py").write_text(BROKEN)
        result = doctor("--network", f"{tmp_path / 'leaky.py'}:Leaky", "--device", "cpu")
        assert result.exit_code == 1
        assert "no state         FAILED          requests disturb each other" in result.output
        assert "no state: interleaved, aborted and differently sized requests are as each alone" in result.output

    def test_json(self, tmp_path: Path) -> None:
        (tmp_path / "leaky.py").write_text(BROKEN)
        result = doctor("--network", f"{tmp_path / 'leaky.py'}:Leaky", "--device", "cpu", "--json")
        assert result.exit_code == 1
        found = {check["name"]: check for check in json.loads(result.output)["checks"]}
        assert list(found) == [check.name for check in CHECKS]
        assert found["no state"]["outcome"] == "broken"
        assert found["no state"]["figures"]["difference"] > found["no state"]["figures"]["limit"]
        assert found["decoding"]["outcome"] == "kept"
        assert found["granularities"]["outcome"] == "not-applicable"

    def test_networks_that_cannot_be_made_are_one_line(self) -> None:
        for arguments in (["--network", "U-ViT"], ["--network", "Dit"], ["--network", "nowhere.py:Net"]):
            result = doctor(*arguments)
            assert result.exit_code == 2
            assert result.output.startswith("Error: ")

    def test_one_without_a_file_needs_no_checkpoint(self) -> None:
        assert doctor("--network", "closed-form", "--network-arg", "num_blocks=3", "--device", "cpu").exit_code == 0


def test_networks_are_a_table_with_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of diffusers' classes; tests/backends/networks/hf/denoisers/ holds the whole table to the documentation."""
    names = ("DiTTransformer2DModel", "RFD4ProteinaTransformer", "MotionAdapter")
    classes = [getattr(diffusers, name) for name in names]
    monkeypatch.setattr(survey, "denoiser_classes", lambda: iter(classes))
    found = doctor("--networks")
    assert found.exit_code == 0, found.output
    assert "| `DiTTransformer2DModel` | `transformer_blocks` | a tensor | residual | yes |" in found.output
    assert "| `RFD4ProteinaTransformer` | makes protein structures" in found.output
    assert f"1 of 2 denoisers of diffusers {version('diffusers')} work." in found.output
    verdicts = json.loads(doctor("--networks", "--json").output)
    assert [verdict["is_denoiser"] for verdict in verdicts] == [True, True, False]


def test_help_shows_examples() -> None:
    command = cli.get_command(click.Context(cli), "doctor")
    assert command is not None
    assert "exeunt doctor --checkpoint" in (command.help or "")
