"""docs/other-runtimes.md, typed line by line in an empty folder."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exeunt.backends.formats.branches import at_branch
from exeunt.backends.formats.registry import FORMATS
from exeunt.backends.schedule import NetworkSignature, Noise, load, save
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.cli.main import cli
from PIL import Image

PAGE = Path(__file__).parents[3] / "docs" / "other-runtimes.md"


def lines() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pixart_base()
    for line in lines():
        words = shlex.split(line)
        if words[0] == "echo":
            Path(words[3]).write_text(words[1])
            continue
        assert words[0] == "exeunt"
        done = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{line}: {done.output}"
    assert load("back.schedule.json").digest == load("pixart.schedule.json").digest
    images = np.asarray(Image.open("fora.png"))
    assert images.std() > 10


def write_pixart_base() -> None:
    """What `exeunt schedule full` makes of a PixArt folder."""
    network = at_branch(NetworkSignature("PixArtTransformer2DModel", "block", (("residual", 28),)))
    noise = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    save(make_schedule(network, noise, "epsilon", num_steps=20, guidance=4.5), "pixart.schedule.json")


def test_the_page_speaks_of_every_format() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert set(rows) == {*FORMATS, "onnx"}
