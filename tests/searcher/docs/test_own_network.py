"""docs/own-network.md followed to the letter: its file is saved and run, and its commands go through."""

import re
import runpy
import shlex
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks.registry import load_network
from exeunt.searcher.cli.main import cli

pytestmark = pytest.mark.cpu

PAGE = Path(__file__).parents[3] / "docs" / "own-network.md"
FEW = ["--budget", "2-trials", "--num-images", "8", "--final-images", "16", "--batch-size", "8", "--quiet"]
FEW += ["--set", 'search.baselines=["full"]']


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's first command leaves, after fewer steps."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "shapes.py").write_text(block("python"))
    command = shlex.split(block("sh").splitlines()[0])
    assert command[:3] == ["python", "shapes.py", "."]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [*command[1:3], "8"])
        runpy.run_path(command[1], run_name="__main__")
    assert "step 0: loss" in said.getvalue()
    return folder


def test_the_class_is_about_forty_lines() -> None:
    source = re.search(r"^class Shapes\(.*?(?=^def )", block("python"), re.MULTILINE | re.DOTALL)
    assert source is not None
    assert 20 < len([line for line in source.group().splitlines() if line.strip()]) <= 45


@pytest.mark.slow
def test_the_commands_go_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lines = [shlex.split(line)[1:] for line in block("sh").splitlines() if line.startswith("exeunt ")]
    listed, examined, searched = (
        CliRunner().invoke(cli, [*line, *(FEW if line[0] == "optimize" else [])]) for line in lines
    )
    assert listed.exit_code == 2  # the file alone does not say what it is
    assert "57 tensors of no supported network" in listed.output
    assert examined.exit_code == 0, examined.output
    assert "19 checks passed, 0 failed" in examined.output
    assert searched.exit_code == 0, searched.output
    assert "every one of 6 blocks" in searched.output
    assert "(ShapesConvNet)" in searched.output
    assert "Note: weights: `ema` chosen from `model`, `ema`." in searched.stderr


def test_the_lines_that_the_page_shows_are_the_doctors(folder: Path) -> None:
    from exeunt.backends.networks.conformance.suite import CHECKS

    shown = [line[:17].strip() for line in block("text").splitlines()]
    assert shown == [check.name for check in CHECKS]


def test_full_depth_is_the_modules_own(folder: Path) -> None:
    """As the page advises."""
    import torch

    network = load_network(folder / "shapes.pt", network=f"{folder / 'shapes.py'}:Shapes", num_classes=4)
    x, t, labels = torch.randn(3, 1, 16, 16), torch.tensor([3.0, 500.0, 999.0]), torch.tensor([0, 3, 4])
    assert torch.equal(network.evaluate(NetworkInput(x, t, labels), None, []), network.module(x, t, labels))
