"""Windows' editors begin a text with a byte order mark: no text that a user gives is read otherwise for it."""

from codecs import BOM_UTF8
from pathlib import Path

import pytest
import vectors
from click.testing import CliRunner
from exeunt.backends import schedule as schedules
from exeunt.backends.checkpoints.files import read_object, read_text
from exeunt.searcher.cli.main import cli
from exeunt.studies.config.reading import from_toml
from exeunt.studies.database.urls import read_url

GOOD = vectors.DIRECTORY / "guided.schedule.json"


def marked(path: Path, text: str) -> Path:
    path.write_bytes(BOM_UTF8 + text.encode())
    return path


def test_schedules_are_read(tmp_path: Path) -> None:
    path = marked(tmp_path / "a.schedule.json", GOOD.read_text())
    assert schedules.load(path) == schedules.load(GOOD)
    assert schedules.parse("\ufeff" + GOOD.read_text()) == schedules.load(GOOD)
    assert BOM_UTF8 not in schedules.dumps(schedules.load(path)).encode()


def test_texts_settings_and_urls_are_read(tmp_path: Path) -> None:
    assert read_text(marked(tmp_path / "prompts.txt", "a cat\na dog"), 100, "conditions") == "a cat\na dog"
    assert read_object(marked(tmp_path / "a.json", '{"a": 1}'), 100, "checkpoint") == {"a": 1}
    assert from_toml(marked(tmp_path / "a.toml", 'name = "demo"')).name == "demo"
    assert read_url(marked(tmp_path / "url.txt", "sqlite:///a.db\n")) == "sqlite:///a.db"


@pytest.mark.parametrize("name", ["ase", "timesteps", "cache-dit", "schedule", "exeunt"])
def test_files_of_other_runtimes_are_recognised(name: str, tmp_path: Path) -> None:
    base = str(tmp_path / "base.schedule.json")
    words = ["schedule", "full", "--checkpoint", "closed-form", "--solver", "ddim", "--num-steps", "10", "-o", base]
    assert CliRunner().invoke(cli, [*words, "--device", "cpu"]).exit_code == 0
    text = CliRunner().invoke(cli, ["schedule", "convert", base, "--to", name])
    path = str(marked(tmp_path / "other.txt", text.stdout))
    given = [] if name in ("schedule", "exeunt") else ["--base", base]
    read = CliRunner().invoke(cli, ["schedule", "convert", path, "--from", name, *given])
    assert read.exit_code == 0, read.output
