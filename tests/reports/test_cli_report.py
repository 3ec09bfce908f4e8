"""`exeunt report` and `exeunt export` on a recorded study, whose database stays as it was."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import processes
import pytest
from click.testing import CliRunner, Result
from exeunt.backends.schedule import load
from exeunt.reports.view.loading import load_view
from exeunt.searcher.cli.main import cli
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.store import open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def content(url: str) -> str:
    return hashlib.sha256(Path(url.removeprefix("sqlite:///")).read_bytes()).hexdigest()


def test_report_writes_the_folder_and_says_the_result(recorded: str, folder: Path) -> None:
    before = content(recorded)
    found = run("report", "--storage", recorded, "--no-samples")
    assert (found.exit_code, found.stderr) == (0, "")
    assert "as fast as the full schedule" in found.stdout
    assert "Open exeunt-report/index.html" in found.stdout
    page = (folder / "exeunt-report" / "index.html").read_text()
    assert "Samples were omitted (--no-samples)." in page
    assert content(recorded) == before


def test_without_the_checkpoint_the_report_says_why_there_are_no_samples(recorded: str, folder: Path) -> None:
    """The recorded schedules are no schedules of this checkpoint's network, whatever it is."""
    url = f"sqlite:///{folder / 'copy.db'}"
    (folder / "copy.db").write_bytes(Path(recorded.removeprefix("sqlite:///")).read_bytes())
    gone = {"name": "gone", "checkpoint.path": "gone.safetensors", "checkpoint.baseline_weights": ()}
    with open_store(url) as store:
        store.studies.put_config(override(StudyConfig(), gone))
        for member in store.studies.members("fashion")[:3]:
            store.studies.add_member("gone", member)
    found = run("report", "--storage", url, "--study", "gone", "-o", "out")
    assert found.exit_code == 0, found.output
    assert "There are no samples, because the network could not run here." in found.stdout
    assert "gone.safetensors" in found.stdout


def test_report_prints_json_and_csv_and_writes_nothing(recorded: str, folder: Path) -> None:
    found = run("report", "--storage", recorded, "--json")
    assert found.exit_code == 0
    figures = json.loads(found.stdout)
    assert {"best_ratio", "best_ratio_lower", "front", "baselines", "conditions"} <= figures.keys()
    lines = run("report", "--storage", recorded, "--csv").stdout.splitlines()
    assert len(lines) == figures["num_points"] + 1
    assert list(folder.iterdir()) == []


def test_an_empty_study_is_reported(folder: Path) -> None:
    with open_store("sqlite:///exeunt.db") as store:
        store.studies.put_config(StudyConfig())
    found = run("report")
    assert found.exit_code == 0, found.output
    assert "Nothing has been measured yet." in found.stdout
    assert "No trial has been measured yet." in found.stdout
    assert (folder / "exeunt-report" / "index.html").exists()


@pytest.mark.parametrize("choice", [["--knee"], ["--max-loss", "50%"], ["--min-speedup", "1.2"], ["--label", "full"]])
def test_export_writes_a_file_that_reads_back(recorded: str, folder: Path, choice: list[str]) -> None:
    before = content(recorded)
    found = run("export", "--storage", recorded, *choice, "-o", "new/fast.schedule.json")
    assert found.exit_code == 0, found.output
    schedule = load(folder / "new" / "fast.schedule.json")
    assert schedule.steps[0].coefficients is not None
    assert schedule.provenance is not None
    assert schedule.provenance.study == "fashion"
    assert content(recorded) == before


def test_without_a_flag_the_recommended_point_is_exported(recorded: str, folder: Path) -> None:
    with open_store(recorded, read_only=True) as store:
        recommended = load_view(store, "fashion").recommended
    assert recommended is not None
    found = run("export", "--storage", recorded, "-o", "fast.schedule.json")
    assert found.exit_code == 0, found.output
    assert recommended.label in found.stdout
    assert load(folder / "fast.schedule.json").num_steps == recommended.stored.num_steps


@pytest.mark.parametrize("place", ["-", "link"])
def test_export_and_backup_write_to_standard_output(recorded: str, folder: Path, place: str) -> None:
    """`link` is a device's, as in a container's /dev."""
    (folder / "link").symlink_to("/dev/stdout")
    begin = b'{\n  "format"'
    for words, start in {"export --knee": begin, "export --knee --json": begin, "study backup": b"SQLite form"}.items():
        process = processes.exeunt(*words.split(), "--storage", recorded, "-o", place, cwd=folder, text=False)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out[: len(start)]) == (0, start), err
    assert [each.name for each in folder.iterdir()] == ["link"]


def test_export_by_trial_names_the_file_after_it(recorded: str, folder: Path) -> None:
    with open_store(recorded, read_only=True) as store:
        trial = next(p.trial for p in load_view(store, "fashion").points if p.trial is not None)
    found = run("export", "--storage", recorded, "--trial", str(trial))
    assert found.exit_code == 0, found.output
    assert (folder / f"fashion-trial-{trial}.schedule.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--knee", "--trial", "3"],
            "give at most one of --trial, --label, --knee, --max-loss, --min-speedup, --at, but got",
        ),
        (["--trial", "999"], "no trial 999"),
        (["--min-speedup", "99"], "the nearest is"),
        (["--knee", "--format", "onx"], "Use --format onnx"),
        (["--max-loss", "five"], "a share such as 5% or 0.05"),
        (["--knee", "--study", "fashon"], "`fashon` is not in"),
        (["--label", "full", "--format", "ase", "-o", "/proc/none/x.txt"], "must be writable"),
    ],
)
def test_what_cannot_be_exported_is_said_with_the_fix(
    recorded: str, folder: Path, arguments: list[str], said: str
) -> None:
    found = run("export", "--storage", recorded, *arguments)
    assert found.exit_code == 2
    assert said in found.stderr
    assert "Traceback" not in found.output
    assert list(folder.iterdir()) == []


def test_no_database_is_made_by_looking(folder: Path) -> None:
    found = run("report")
    assert found.exit_code in (2, 75)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "export"])
def test_help_has_an_example(command: str) -> None:
    assert f"exeunt {command}" in run(command, "--help").stdout


def test_export_speaks_json(recorded: str, folder: Path) -> None:
    found = run("export", "--storage", recorded, "--knee", "-o", "fast.schedule.json", "--json")
    assert found.exit_code == 0, found.output
    written = json.loads(found.stdout)
    bare = [replace(step, coefficients=None) for step in load(folder / written["path"]).steps]
    assert replace(load(folder / written["path"]), steps=tuple(bare)).digest == written["digest"]
    assert (written["format"], written["study"]) == ("exeunt", "fashion")
    assert written["speedup"] > 1
    assert written["relative_excess"] > 0
