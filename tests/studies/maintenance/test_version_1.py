"""A database of version 1, made by an earlier Exeunt, is upgraded, reports and resumes; see data/README.md."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from exeunt.backends.schedule import load
from exeunt.searcher.cli.main import cli
from exeunt.studies.database import schema
from exeunt.studies.database.engine import bare_engine
from exeunt.studies.database.migrations import CURRENT
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.database.transactions import reading
from exeunt.studies.maintenance import upgrade as upgrading
from exeunt.studies.store.store import open_store
from optuna import load_study

DATA = Path(__file__).parents[1] / "data"
# Distance, excess and speed-up on final noises, as the Exeunt that made the file reported them.
FINAL = {
    "full": (0.023298, 0.012864, 1.0),
    "exit 1": (0.004547, -0.005887, 1.700869271457339),
    "trial 0": (0.080292, 0.069857, 2.9820958173139234),
    "2 steps": (0.080970, 0.070536, 2.1907665396982026),
}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy, and the reference that its studies name, in the working folder."""
    shutil.copy(DATA / "version-1.db", tmp_path / "old.db")
    shutil.copy(DATA / "version-1.real.npz", tmp_path / "real.npz")
    monkeypatch.chdir(tmp_path)
    return "old.db"


@pytest.fixture
def database(old: str) -> str:
    """A copy that was upgraded."""
    engine = bare_engine(f"sqlite:///{old}")
    done = upgrading.upgrade_database(engine)
    engine.dispose()
    assert (done.before, done.after) == (1, CURRENT)
    return old


def run(*words: str) -> str:
    """What a command that succeeds prints."""
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    return found.stdout


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_nobody_changes_it_unasked(old: str):
    before = digest(old)
    for words in (["status"], ["resume", "--study", "interrupted"]):
        found = CliRunner().invoke(cli, [*words, "--storage", old])
        assert found.exit_code == 2
        assert "has version 1. Type `exeunt db upgrade" in found.stderr
        assert digest(old) == before


def test_upgraded_it_says_what_it_said_and_stays_so(database: str):
    before = digest(database)
    finished, interrupted = json.loads(run("status", "--storage", database, "--json"))["studies"]
    assert (finished["study"], finished["state"], finished["trials"]) == (
        "finished", "finished", {"complete": 10, "fail": 1, "waiting": 2},
    )  # fmt: skip
    assert (finished["schedules_measured"], finished["images"], finished["chunks"]) == (8, 152, 20)
    assert finished["last_errors"][0].startswith("trial 3: samples: images 0 to 9 have NaN")
    assert (interrupted["state"], interrupted["images"]) == ("measuring baselines", 50)
    figures = json.loads(run("report", "--storage", database, "--study", "finished", "--json"))
    points = {point["label"]: point for point in [*figures["front"], *figures["baselines"]]}
    for label, (distance, excess, speedup) in FINAL.items():
        point = points[label]
        assert (point["final_num_images"], point["final_distance"]) == (12, pytest.approx(distance, rel=1e-4))
        assert (point["final_excess"], point["speedup"]) == (pytest.approx(excess, rel=1e-3), pytest.approx(speedup))
    assert digest(database) == before


def test_its_points_are_exported_and_reported(database: str, tmp_path: Path):
    run("export", "--storage", database, "--study", "finished", "--knee", "-o", "knee.schedule.json")
    assert load("knee.schedule.json").networks[0].architecture == "closed-form"
    run("report", "--storage", database, "--study", "finished", "-o", "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "There are no samples" not in page


@pytest.mark.parametrize("study", ["finished", "interrupted"])
def test_it_is_resumed_where_it_was(database: str, study: str):
    with open_store(f"sqlite:///{database}", read_only=True) as store:
        before, config = store.evaluations.chunks(), store.studies.config(study)
    run("resume", "--storage", database, "--study", study, "--budget", "2-trials", "--report", "none", "--quiet")
    with open_store(f"sqlite:///{database}") as store:
        after, now = store.evaluations.chunks(), store.studies.config(study)
        with reading(store.engine) as connection:
            assert schema.inspect_tables(connection).is_current
        trials = load_study(study_name=study, storage=optuna_storage(store.engine)).get_trials()
    assert after[: len(before)] == before
    assert len({(chunk.evaluation, chunk.first_image) for chunk in after}) == len(after) > len(before)
    assert (now.quality, now.baseline, now.search) == (config.quality, config.baseline, config.search)
    assert not any(trial.constraints for trial in trials), "a study of that time goes on without a constraint"
    assert json.loads(run("status", "--storage", database, "--study", study, "--json"))["state"] == "finished"
