"""Where a study's files are: named when its database is made, proved to whoever joins, mended where they are lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import load
from exeunt.reports.plots.samples import GridInfo
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.selection import pictured
from exeunt.reports.view.view import StudyView
from exeunt.searcher.cli.main import cli
from exeunt.searcher.cli.report import sampled
from exeunt.searcher.measuring import setup
from exeunt.studies.artifacts.files import VARIABLE
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.store.store import open_store
from optuna import load_study
from optuna.trial import TrialState
from PIL import Image
from stored import workers_of

FAIL = TrialState.FAIL
STUDY = """
name = "filed"
checkpoint = { path = "closed-form", baseline_weights = [] }
baseline = { num_steps = 4 }
quality = { metric = "pixels-to-baseline", reference = "none", num_images = 16, final_images = 32 }
search = { baselines = ["full"] }
throughput = { device = "cpu", repeats = 2 }
run = { budget = "1-trials", report = "none", chunk_images = 16 }
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study file in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    return "study.toml"


def run(*words: str) -> Result:
    found = CliRunner().invoke(cli, [*words, "--quiet"] if words[0] in ("optimize", "resume", "worker") else words)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exc_info
    return found


def done(*words: str) -> str:
    found = run(*words)
    assert found.exit_code == 0, found.output
    return found.stdout


def refused(*words: str) -> str:
    found = run(*words)
    assert found.exit_code == 2, found.output
    return found.stderr


def test_a_study_keeps_its_files_where_it_is_told(study: str, tmp_path: Path) -> None:
    done("optimize", "--config", study, "--artifacts", "files")
    marker = json.loads((tmp_path / "files" / "exeunt-artifacts.json").read_text())
    assert marker["url"] == (tmp_path / "files").as_uri()
    assert list((tmp_path / "files").glob("*.f16"))
    assert not (tmp_path / "exeunt.db-files").exists()
    done("resume", "--budget", "2-trials", "--report", "none")
    assert not (tmp_path / "exeunt.db-files").exists()
    assert "No problem was found" in done("db", "check")


def test_nobody_works_without_the_study_s_own_files(study: str, tmp_path: Path) -> None:
    done("optimize", "--config", study, "--artifacts", "files")
    shutil.move("files", "moved")
    for words in (["resume", "--budget", "1-trials"], ["worker", "--set", "run.budget=9-trials", "--report", "x"]):
        assert "does not have the marker of" in refused(*words)
    Path("files").mkdir()
    assert "does not have the marker of" in refused("resume", "--budget", "1-trials")
    done("resume", "--budget", "1-trials", "--report", "none", "--artifacts", "moved")
    assert list(Path("files").iterdir()) == []


def test_two_databases_share_no_store(study: str) -> None:
    done("optimize", "--config", study, "--artifacts", "files")
    said = refused("optimize", "--config", study, "--storage", "other.db", "--artifacts", "files")
    assert "its marker says that it belongs to another database" in said


def test_a_store_is_not_named_once_files_are_elsewhere(study: str) -> None:
    done("optimize", "--config", study)
    assert "Omit --artifacts" in refused("resume", "--budget", "1-trials", "--artifacts", "late")


@pytest.mark.parametrize("place", ["s3://AKIA:hunter2@bucket/x", "ftp://host/x"])
def test_a_place_that_cannot_be_is_refused_before_anything_is_made(study: str, place: str) -> None:
    said = refused("optimize", "--config", study, "--artifacts", place)
    assert "hunter2" not in said
    assert not Path("exeunt.db").exists()


def chunks() -> list[tuple[object, ...]]:
    with sqlite3.connect("file:exeunt.db?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT id, first_image, num_images, sha256 FROM exeunt_chunks ORDER BY id"
        ).fetchall()
    connection.close()
    return rows


def test_files_that_are_lost_are_sampled_again_and_said(study: str) -> None:
    done("optimize", "--config", study)
    before, folder = chunks(), Path("exeunt.db-files")
    lost = sorted(folder.glob("*.f16"))
    lost[0].write_bytes(b"damaged")
    for path in lost[1:]:
        path.unlink()
    assert run("db", "check").exit_code == 1
    found = CliRunner().invoke(cli, ["resume", "--budget", "2-trials", "--report", "none"])
    assert found.exit_code == 0, found.output
    assert "are sampled again. storage: features must have the digest" in found.stderr
    assert chunks()[: len(before)] == before, "the same network makes the same images"
    assert any(path.exists() and path.stat().st_size > 7 for path in lost)


def test_samples_and_schedules_of_the_front_are_kept(study: str, tmp_path: Path) -> None:
    done("optimize", "--config", study)
    front = {point["label"] for point in json.loads(done("report", "--json"))["front"]} | {"full"}
    listed = json.loads(done("study", "files", "filed", "-o", "kept", "--json"))
    assert {each["about"]["label"] for each in listed if each["kind"] == "schedule"} == front
    assert len([each for each in listed if each["kind"] == "samples"]) == len(front)
    for each in listed:
        path = tmp_path / "kept" / each["file"]
        assert path.stat().st_size == each["num_bytes"]
        if each["kind"] == "schedule":
            provenance = load(path).provenance
            assert provenance is not None
            assert provenance.study == "filed"
        else:
            with Image.open(path) as image:
                assert image.size == (each["about"]["width"], 12 * each["about"]["height"])
    assert f"{len(listed)} files." in done("study", "files", "filed")
    assert "No problem was found" in done("db", "check")
    done("study", "backup", "-o", "backup.db")
    assert len(json.loads(done("study", "files", "filed", "--storage", "backup.db", "-o", "b", "--json"))) == len(
        listed
    )
    assert not Path("backup.db-files").exists()


def test_a_study_keeps_as_much_as_it_is_told(study: str) -> None:
    done("optimize", "--config", study, "--set", "run.keep=none")
    assert json.loads(done("study", "files", "filed", "--json")) == []
    done("resume", "--budget", "1-trials", "--report", "none")
    done("optimize", "--config", study, "--set", "run.keep=compared", "--study", "all")
    kinds = [each["kind"] for each in json.loads(done("study", "files", "all", "--json"))]
    compared = json.loads(done("report", "--study", "all", "--json"))
    assert kinds.count("schedule") == len({point["label"] for point in compared["front"]} | {"full"})


def gone(_: object) -> None:
    raise InputError("checkpoint: it is elsewhere.")


def grid_now() -> tuple[StudyView, GridInfo | str]:
    with open_store("sqlite:///exeunt.db", read_only=True) as store:
        view, config = load_view(store, "filed"), store.studies.config("filed")
    return sampled(view, config, "sqlite:///exeunt.db")


def test_a_report_of_a_finished_study_loads_no_network(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done("optimize", "--config", study, "--set", 'search.baselines=["full", "fewer-steps"]')
    with monkeypatch.context() as patch:
        patch.setattr(setup, "load_networks", gone)
        view, kept = grid_now()
        said = run("report", "-o", "report")
    assert (said.exit_code, said.stderr) == (0, "")
    assert "There are no samples" not in Path("report/index.html").read_text()
    shutil.rmtree("exeunt.db-files")
    counted, fresh = grid_now()
    assert isinstance(kept, GridInfo)
    assert isinstance(fresh, GridInfo)
    assert [row.title for row in kept.rows] == [each.point.label for each in pictured(view)]
    assert kept.seed == fresh.seed
    for row, again in zip(kept.rows, fresh.rows, strict=True):
        assert (row.title, row.notes, row.images.shape) == (again.title, again.notes, again.images.shape)
        assert np.abs(row.images.astype(int) - again.images.astype(int)).max() <= 1
    assert all(point.flops for point in view.points)
    assert [point.flops for point in view.points] == [point.flops for point in counted.points]


def test_samples_that_are_damaged_or_gone_are_made_afresh_and_said(
    study: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done("optimize", "--config", study)
    next(Path("exeunt.db-files").glob("*.png")).write_bytes(b"damaged")
    view, fresh = grid_now()
    assert isinstance(fresh, GridInfo)
    assert [row.title for row in fresh.rows] == [each.point.label for each in pictured(view)]
    assert "The samples that the study kept are not available: " in capsys.readouterr().err
    monkeypatch.setattr(setup, "load_networks", gone)
    assert grid_now()[1] == "There are no samples, because the network could not run here. checkpoint: it is elsewhere."


def test_a_grid_does_not_mix_what_was_kept_with_fresh_images(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The full schedule's images are kept no more; the others' are shown where nothing can be sampled."""
    slow = 'path = "closed-form", options = { seconds_per_block = 0.0002 }'  # fewer steps are surely faster
    others = STUDY.replace('baselines = ["full"]', 'baselines = ["full", "fewer-steps"]')
    Path(study).write_text(others.replace('path = "closed-form"', slow))
    done("optimize", "--config", study)
    with open_store("sqlite:///exeunt.db") as store:
        view = load_view(store, "filed")
        others = [each.key for each in store.kept.kept("filed", "samples") if each.key[0] != view.full.key[0]]  # type: ignore[union-attr]
        assert store.kept.drop("filed", "samples", but=others) == 1
    _, fresh = grid_now()
    monkeypatch.setattr(setup, "load_networks", gone)
    _, kept = grid_now()
    assert isinstance(fresh, GridInfo)
    assert isinstance(kept, GridInfo)
    assert [row.title for row in fresh.rows] == [each.point.label for each in pictured(view)]
    assert [row.title for row in kept.rows] == [row.title for row in fresh.rows[1:]]


@pytest.mark.postgres
class TestOnAServer:
    """A database on a server names a store that every worker reads."""

    @pytest.fixture(autouse=True)
    def _environment(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch, study: str) -> None:
        monkeypatch.setenv("EXEUNT_STORAGE", postgres_url)
        monkeypatch.delenv(VARIABLE)

    def test_it_must_be_named(self, study: str) -> None:
        said = refused("optimize", "--config", study)
        assert "must name a place for files that all workers can read" in said
        assert f"Add --artifacts with a folder, file:///FOLDER, or s3://BUCKET/PREFIX, or set {VARIABLE}" in said

    def test_workers_find_it_by_themselves_or_where_they_have_it(
        self, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done("optimize", "--config", study, "--artifacts", "files")
        done("resume", "--budget", "1-trials", "--report", "none")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "mounted"))
        assert "does not have the marker of" in refused("resume", "--budget", "1-trials")
        os.symlink("files", "mounted")
        done("resume", "--budget", "1-trials", "--report", "none")
        assert "No problem was found" in done("db", "check")

    def test_a_study_goes_there_and_back(self, study: str, monkeypatch: pytest.MonkeyPatch) -> None:
        done("optimize", "--config", study, "--storage", "local.db")
        to = ["--to", os.environ["EXEUNT_STORAGE"]]
        assert "must name a place for files" in refused("study", "copy", "filed", "--storage", "local.db", *to)
        there = json.loads(done("study", "copy", "filed", "--storage", "local.db", *to, "--artifacts", "a", "--json"))
        back = json.loads(done("study", "copy", "filed", "--to", "back.db", "--json"))
        assert there["digest"] == back["digest"]
        for word in ("local.db", "back.db", os.environ["EXEUNT_STORAGE"]):
            assert "No problem was found" in done("db", "check", "--storage", word)


FULL = """
import resource, sys
from exeunt.studies.database import transactions
transactions.PATIENCE = 1.0
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from exeunt.searcher.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.postgres
def test_a_full_disk_of_files_ends_with_one_error_and_the_trial_is_given_back(
    postgres_url: str, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server the database has room, so that what happened is known to it."""
    monkeypatch.setenv("EXEUNT_STORAGE", postgres_url)
    done("optimize", "--config", study)
    words = ["resume", "--budget", "3-trials", "--report", "none", "--quiet"]
    full = subprocess.run([sys.executable, "-c", FULL, *words], capture_output=True, text=True, timeout=100)
    assert full.returncode == 75, full.stderr
    assert full.stderr.count("Error:") == 1
    assert "has no room left on its disk. Make room" in full.stderr
    assert "Traceback" not in full.stderr
    before = json.loads(done("status", "--json"))
    assert "running" not in before["trials"]
    with open_store(postgres_url, read_only=True) as store:
        (failed,) = load_study(study_name="filed", storage=optuna_storage(store.engine)).get_trials(states=[FAIL])
        assert "has no room left" in failed.user_attrs["reason"]
        assert "has no room left" in str(workers_of(store, "filed")[-1].reason)
    done("resume", "--report", "none")
    after = json.loads(done("status", "--json"))
    assert after["trials"]["complete"] > before["trials"]["complete"]
    assert "Nothing" in done("db", "check")
