"""Worker processes: started, lost, joined by others, stopped; the study is the same one all along."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import optuna
import processes
import pytest
from click.testing import CliRunner
from exeunt.backends.errors import ExeuntError
from exeunt.searcher.cli.main import cli
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.workers import pool, process
from exeunt.searcher.workers.pool import environments
from exeunt.searcher.workers.process import Job
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.interruption import Interruption
from exeunt.studies.store.store import open_store
from exeunt.studies.workers.status import read_status
from stored import workers_of

# Slow enough that a signal finds a worker at work: 32 images take a fifth of a second.
SLOW = ["--network-arg", "seconds_per_block=0.0001"]
TRIALS = 12
STUDY = "closed-form"
LEAVING = """
import sys
from exeunt.backends.networks.closed_form import ClosedFormNetwork

class Leaving(ClosedFormNetwork):
    def evaluate(self, inputs, call, slots):
        sys.exit(0)
"""


def wait_for(what: Callable[[], bool], process: Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not what() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


def rows(folder: Path, query: str) -> list[tuple]:
    try:
        with sqlite3.connect(f"file:{folder / 'exeunt.db'}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []  # No process has made the tables yet.


def alive(folder: Path) -> list[int]:
    return [pid for (pid,) in rows(folder, "select pid from exeunt_workers where ended is null")]


def committed(folder: Path) -> set[tuple]:
    found = rows(folder, "select evaluation_id, first_image, sha256 from exeunt_chunks")
    assert len({row[:2] for row in found}) == len(found), "an image was committed twice"
    return set(found)


def check_whole(folder: Path) -> None:
    """Nothing is left half done, and no more was spent than the budget had."""
    url = f"sqlite:///{folder / 'exeunt.db'}"
    with open_store(url, read_only=True) as store:
        study = optuna.load_study(study_name=STUDY, storage=optuna_storage(store.engine))
        asked = [trial for trial in study.trials if "label" not in trial.user_attrs]
        retried = {trial.user_attrs.get("exeunt:retry_of") for trial in asked}
        spent = [trial for trial in asked if trial.number not in retried and trial.state.name != "WAITING"]
        assert len(spent) == TRIALS
        assert {trial.state.name for trial in spent} == {"COMPLETE"}
        assert all(worker.ended for worker in workers_of(store, STUDY))
    assert rows(folder, "select name from exeunt_leases where owner is not null") == []
    assert rows(folder, "pragma integrity_check") == [("ok",)]
    assert read_status(url, STUDY).finished


@pytest.mark.slow
def test_a_study_of_several_workers_outlives_one_and_is_joined_by_another(tmp_path: Path, closed_form: list[str]):
    budget = ["--budget", f"{TRIALS}-trials", "--sampler", "random", "--report", "none"]
    parent = processes.exeunt("optimize", *closed_form, *SLOW, *budget, "--workers", "2", "--json", cwd=tmp_path)
    wait_for(lambda: len(committed(tmp_path)) >= 4, parent)
    before, (victim, *_) = committed(tmp_path), alive(tmp_path)
    os.kill(victim, signal.SIGKILL)
    joined = processes.exeunt("worker", "--study", STUDY, "--log-format", "json", cwd=tmp_path)
    out, err = parent.communicate(timeout=120)
    events = [json.loads(line) for line in joined.communicate(timeout=60)[1].splitlines()]
    assert parent.returncode == 0, err
    assert joined.returncode == 0, events
    assert json.loads(out)["study"] == STUDY
    assert "was lost (signal SIGKILL); starting another one" in err
    assert before <= committed(tmp_path)
    assert any(event["event"] == "say" and "joining" in event["text"] for event in events)
    check_whole(tmp_path)
    reasons = [reason for (reason,) in rows(tmp_path, "select reason from exeunt_workers")]
    assert sorted(reasons) == ["finished"] * 3 + ["its process is gone"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["signal", "order"])
def test_all_are_drained_and_go_on(tmp_path: Path, closed_form: list[str], how: str):
    budget = ["--budget", f"{TRIALS}-trials", "--sampler", "random", "--report", "none"]
    parent = processes.exeunt("optimize", *closed_form, *SLOW, *budget, "--workers", "2", "--quiet", cwd=tmp_path)
    wait_for(lambda: len(committed(tmp_path)) >= 6, parent)
    workers = alive(tmp_path)
    if how == "signal":
        parent.send_signal(signal.SIGINT)
    else:
        done = subprocess.run([sys.executable, "-m", "exeunt", "study", "stop", STUDY], cwd=tmp_path, timeout=60)
        assert done.returncode == 0
    _, err = parent.communicate(timeout=60)
    assert parent.returncode == 75, err
    assert "exeunt resume" in err
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert alive(tmp_path) == []
    before = committed(tmp_path)
    resumed = processes.exeunt("resume", "--workers", "2", "--quiet", cwd=tmp_path)
    _, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert before <= committed(tmp_path)
    check_whole(tmp_path)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_gone(tmp_path: Path, closed_form: list[str]):
    parent = processes.exeunt(
        "optimize", *closed_form, *SLOW, "--budget", "1h", "--report", "none", "--workers", "2", cwd=tmp_path
    )
    wait_for(lambda: len(committed(tmp_path)) >= 4, parent)
    workers = alive(tmp_path)
    assert len(workers) == 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def prepared(tmp_path: Path, closed_form: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A study that nobody has worked on yet."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["optimize", *closed_form, "--budget", "2-trials", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert done.output.endswith(f"Start them on any machine: exeunt worker --study {STUDY}\n")
    return tmp_path


def worker(*words: str):
    return CliRunner().invoke(cli, ["worker", *words])


def test_a_study_is_left_to_a_worker_which_then_has_nothing_more_to_do(prepared: Path):
    assert committed(prepared) == set()
    done = worker("--quiet")
    assert done.exit_code == 0, done.output
    assert read_status(f"sqlite:///{prepared / 'exeunt.db'}", STUDY).finished
    before = committed(prepared)
    again = worker()
    assert again.exit_code == 0
    assert "its budget is spent" in again.output
    assert committed(prepared) == before
    more = CliRunner().invoke(cli, ["resume", "--budget", "1-trials", "--workers", "0"])
    assert more.exit_code == 0
    assert worker("--quiet", "--report", "report").exit_code == 0
    assert (prepared / "report" / "index.html").exists()
    assert rows(prepared, "select count(*) from trial_user_attributes where key = 'exeunt:owner'") == [(3,)]


def test_a_stopped_study_keeps_workers_away_without_an_error(prepared: Path):
    assert CliRunner().invoke(cli, ["study", "stop", STUDY]).exit_code == 0
    done = worker()
    assert done.exit_code == 0
    assert f"exeunt study unpause {STUDY}" in done.output
    assert committed(prepared) == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--study", "closed-from"], "closed-form"),
        (["--set", "quality.num_images=16"], "quality.num_images: stored 32, given 16"),
        (["--storage", "elsewhere.db"], "no database"),
    ],
)
def test_a_worker_that_measures_something_else_is_refused(prepared: Path, words: list[str], said: str):
    done = worker(*words)
    assert done.exit_code == 2
    assert said in done.output


def test_a_worker_that_ends_early_without_an_error_has_finished_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "PROGRAM", "platform")  # which prints a line, and ends with exit code 0
    monkeypatch.setattr(pool, "_FIRST_PAUSE", 0.01)
    job = Job({}, "sqlite:///none.db", "1-trials", "id", 0.0, (), (), (), os.getpid())
    workers = pool.Workers(job, pool.processes(job.url, 1, "cpu"), ProgressListener(), lambda _: None)
    with pytest.raises(ExeuntError, match=r"lost 3 times in a row: exit code 0 before the study was finished\. Linux"):
        workers.run(Interruption())


def test_code_that_ends_the_process_is_an_error(tmp_path: Path, closed_form: list[str]):
    (tmp_path / "leaving.py").write_text(LEAVING)
    network = ["--network", f"{tmp_path / 'leaving.py'}:Leaving", "--storage", str(tmp_path / "leaving.db")]
    done = CliRunner().invoke(cli, ["optimize", *closed_form, *network, "--budget", "2-trials", "--report", "none"])
    assert done.exit_code == 1, done.output
    assert "ended the process with exit code 0 before the study was finished" in done.output


def test_workers_share_the_cores_and_the_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10)))
    assert environments(3, "cpu") == [{"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}] * 3
    assert environments(64, "cpu")[0]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    found = environments(3, "cuda")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["GPU-a", "GPU-b", "GPU-a"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "OMP_NUM_THREADS" not in environments(2, "cpu")[0]
