"""Hostile files and words on the command line: schedules, proposals, settings, budgets, URLs, files that hold one."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exeunt.backends import schedule
from exeunt.backends.networks.registry import load_network
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.cli.main import cli
from exeunt.searcher.measuring.setup import StudySetup, load_setup, read_proposals
from exeunt.studies.config.budget import parse_budget
from exeunt.studies.config.reading import override, parse_assignment
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.urls import parse_url, read_url, storage_url
from exeunt.studies.store.store import database_exists
from hostile import bounded, damaged, mutated, quick, survives
from hypothesis import given
from hypothesis import strategies as st

NETWORK = load_network("closed-form")
SCHEDULE = schedule.dumps(make_schedule(NETWORK.signature, NETWORK.noise, NETWORK.prediction, num_steps=4))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
PARTS = st.lists(st.sampled_from(["4m", "1h", "-", ",", "100-trials", "20k-images", "9" * 400, "e", "nan", " "]))


def run(*words: str) -> None:
    """A command ends with one of our exit codes, and says nothing that steers a terminal."""
    with bounded():
        result = CliRunner().invoke(cli, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exc_info)
    assert result.exit_code in (0, 1, 2), result.output
    assert not any(sign in result.output for sign in "\x1b\x07\x9b\u202e\u2066\0"), words


@quick(20)
@given(data=st.data())
def test_commands_about_schedules_take_or_refuse_any_file(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "a.schedule.json"
    text = mutated(json.loads(SCHEDULE)).map(lambda each: json.dumps(each).encode())
    path.write_bytes(data.draw(st.one_of(text, damaged(SCHEDULE.encode()))))
    run("schedule", "show", str(path))
    run("schedule", "show", "--json", str(path))
    run("schedule", "validate", str(path))


@quick(20)
@given(data=damaged(SCHEDULE.encode()), to=st.sampled_from(["ase", "timesteps", "exeunt", "cache-dit", "ecad"]))
def test_conversions_take_or_refuse_any_file(data: bytes, to: str, tmp_path: Path) -> None:
    path, base = tmp_path / "a.json", tmp_path / "base.schedule.json"
    path.write_bytes(data)
    base.write_text(SCHEDULE)
    run("schedule", "convert", str(path), "--base", str(base), "--to", to, "-o", str(tmp_path / "out"))


@quick(30)
@given(numbers=st.text("0123456789,.-+eENaInfinity[] ", max_size=30))
def test_numbers_by_hand_are_taken_or_refused(numbers: str, tmp_path: Path) -> None:
    base = tmp_path / "base.schedule.json"
    base.write_text(SCHEDULE)
    run("schedule", "convert", "--base", str(base), "-o", str(tmp_path / "out"), "--", numbers)


@pytest.fixture(scope="module")
def study_setup(tmp_path_factory: pytest.TempPathFactory) -> StudySetup:
    path = tmp_path_factory.mktemp("real") / "real.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 255, (64, 4, 4, 3), np.uint8))
    settings = {
        "checkpoint.path": "closed-form", "quality.metric": "fd-pixels", "throughput.device": "cpu",
        "checkpoint.baseline_weights": (), "quality.reference": str(path),
    }  # fmt: skip
    return load_setup(override(StudyConfig(), settings))


@quick(25)
@given(data=st.data())
def test_proposals_are_taken_or_refused(data: st.DataObject, study_setup: StudySetup, tmp_path: Path) -> None:
    (tmp_path / "good.schedule.json").write_text(SCHEDULE)
    document = data.draw(mutated(json.loads(SCHEDULE)))
    (tmp_path / "bad.schedule.json").write_text(json.dumps(document))
    survives(lambda: read_proposals([tmp_path], study_setup))


@quick(60)
@given(data=st.binary(max_size=60))
def test_files_with_a_url_are_read_or_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "url.txt"
    path.write_bytes(data)
    survives(lambda: parse_url(read_url(path)))


@quick(60)
@given(
    path=st.one_of(st.text(max_size=12), st.sampled_from(["~0", "~~", "a" * 300, "/a" * 5000, "/dev/null", "\udc80"]))
)
def test_paths_of_databases_are_looked_at_or_refused(path: str) -> None:
    survives(lambda: database_exists(storage_url(path)))
    survives(lambda: open_engine(storage_url(path), read_only=True))


def test_a_file_of_urls_without_an_end_is_refused() -> None:
    assert survives(lambda: parse_url(read_url(Path("/dev/zero")))) is not None


@quick(80)
@given(text=st.one_of(WORDS, PARTS.map("".join)))
def test_budgets_urls_and_settings_are_taken_or_refused(text: str) -> None:
    survives(lambda: parse_budget(text))
    survives(lambda: parse_url(text))
    survives(lambda: override(StudyConfig(), dict([parse_assignment(text)])))


@quick(80)
@given(
    key=st.sampled_from(sorted(["quality.num_images", "run.budget", "search.space", "baseline.spacing_options"])),
    value=WORDS,
)
def test_values_of_settings_are_taken_or_refused(key: str, value: str) -> None:
    survives(lambda: override(StudyConfig(), dict([parse_assignment(f"{key}={value}")])))
