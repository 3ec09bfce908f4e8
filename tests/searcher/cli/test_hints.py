"""What a command says to type next: after Ctrl-C, and where a budget buys nothing."""

import json
import re
import signal
from pathlib import Path

import processes
import pytest
from click.testing import CliRunner
from exeunt.searcher.cli.main import cli
from exeunt.studies.database.urls import file_url


@pytest.mark.parametrize("workers", [[], pytest.param(["--workers", "2"], marks=pytest.mark.slow)])
def test_ctrl_c_names_the_database_and_the_study(closed_form: list[str], workers: list[str], tmp_path: Path) -> None:
    words = [*closed_form, "--storage", "a study.db", "--study", "mine", "--report", "none", "--budget", "1h"]
    process = processes.exeunt("optimize", *words, "--num-images", "2000", *workers, cwd=tmp_path)
    processes.read_until(process, "images/s", 60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    command = f"exeunt resume --storage '{file_url(tmp_path / 'a study.db')}' --study mine"
    assert f"Go on with `{command}`." in said


@pytest.mark.parametrize(("budget", "unit"), [("10s", "[mh]"), ("1k-images", "-images")])
def test_a_budget_for_no_proposals_is_told_what_is_enough(closed_form: list[str], budget: str, unit: str) -> None:
    words = ["optimize", *closed_form, "--dry-run", "--num-images", "100000", "--budget"]
    poor = CliRunner().invoke(cli, [*words, budget])
    assert "about 0 proposals" in poor.output
    found = re.search(rf"Use --budget (\S+{unit}) for about 30 of them", poor.output)
    assert found is not None, poor.output
    rich = CliRunner().invoke(cli, [*words, found[1], "--json"])
    assert json.loads(rich.stdout)["proposals"] >= 5  # the machine's pace is measured anew
    assert "nothing for proposals" not in rich.output
