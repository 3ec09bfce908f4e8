"""`exeunt baselines`: listed, written as files, and measured together."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from exeunt.backends.schedule import load
from exeunt.searcher.cli.main import cli
from exeunt.searcher.runner import study_view
from exeunt.studies.database.urls import storage_url

CHEAP = ["--num-steps", "4", "--baselines", "fora,taylorseer", "--set", "checkpoint.baseline_weights=[]"]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["baselines", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_listed_baselines_are_written_as_schedule_files(tmp_path: Path):
    rows = json.loads(run(*CHEAP, "--calibrate", "--json", "-o", str(tmp_path)))
    assert {row["family"] for row in rows} >= {"full", "fora", "taylorseer"}
    written = {load(path).digest for path in tmp_path.glob("*.schedule.json")}
    assert written == {row["digest"] for row in rows}


def test_a_new_name_and_two_outputs_are_refused(tmp_path: Path):
    result = CliRunner().invoke(cli, ["baselines", "--baselines", "smoothcache"])
    assert result.exit_code == 2
    assert "Known: full, fewer-steps" in result.output
    result = CliRunner().invoke(cli, ["baselines", "--measure", "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "--report" in result.output


@pytest.mark.slow
def test_all_baselines_are_measured_and_measured_once(tmp_path: Path):
    where = ["--storage", str(tmp_path / "a.db"), "--study", "field", "--report", str(tmp_path / "report")]
    counts = ["--num-images", "8", "--final-images", "8", "--measure", "--quiet"]
    text = run(*CHEAP, *counts, *where)
    assert "TaylorSeer N=2, O=1" in text
    view = study_view(storage_url(str(tmp_path / "a.db")), "field")
    assert {point.family for point in view.measured("search")} == {"full", "fora", "taylorseer"}
    assert not [point for point in view.points if point.role == "trial"]
    assert (tmp_path / "report" / "search.png").exists()
    run(*CHEAP, *counts, *where)
    again = study_view(storage_url(str(tmp_path / "a.db")), "field")
    assert len(again.spent) == len(view.spent)
