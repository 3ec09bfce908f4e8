"""Workers on a Ray cluster: what fits, what is refused, a node that is lost, Ctrl-C, secrets."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from click.testing import CliRunner
from exeunt.backends.errors import InputError
from exeunt.searcher.cli.main import cli
from exeunt.searcher.workers.ray.actor import worker_place
from exeunt.searcher.workers.ray.cluster import Needs, Node, Share, count_workers
from exeunt.studies.store.store import open_store
from sqlalchemy import make_url
from stored import workers_of

ROOT = Path(__file__).parents[4]
TWO = [Node("a", "ada", cpus=8, gpus=2), Node("b", "bob", cpus=8, gpus=0)]


@pytest.mark.parametrize(
    ("wanted", "share", "count"),
    [
        (None, Share(cpus=1, gpus=1), 2),
        (None, Share(cpus=1, gpus=0.5), 4),
        (None, Share(cpus=1, gpus=0), 2),
        (5, Share(cpus=3, gpus=0), None),
        (4, Share(cpus=3, gpus=0), 4),
        (3, Share(cpus=1, gpus=1), None),
        (None, Share(cpus=1, gpus=4), None),
        (None, Share(cpus=0.1, gpus=0.1), 20),
    ],
)
def test_workers_are_as_many_as_fit(wanted: int | None, share: Share, count: int | None):
    if count is None:
        with pytest.raises(InputError, match="but its 2 machines have 2 GPU and 16 CPU"):
            count_workers(wanted, share, TWO)
    else:
        assert count_workers(wanted, share, TWO) == count


def test_machines_must_have_what_workers_need(tmp_path: Path):
    needs = Needs.of(f"sqlite:///{tmp_path / 'exeunt.db'}")
    here = worker_place(str(tmp_path))
    needs.check(here)
    for other in ({"kernel": "another"}, {"folder": (0, 1)}, {"folder": None}):
        with pytest.raises(InputError, match=f"can't share the SQLite file in {tmp_path}"):
            needs.check(here | other)
    with pytest.raises(InputError, match=r"has exeunt 0\.0\.9, and this one"):
        needs.check(here | {"exeunt": "0.0.9"})
    there = here | {"kernel": "another"}
    Needs.of("postgresql+psycopg://ada@db.example/exeunt").check(there)
    with pytest.raises(InputError, match="would look for PostgreSQL on itself"):
        Needs.of("postgresql+psycopg://ada@localhost/exeunt").check(there)


def nobody_listens() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "ray", "--address", nobody_listens()], "no Ray cluster answers at 127.0.0.1"),
        (["--engine", "ray", "--address", "ray://head:10001"], "must be HOST:PORT or auto"),
        (["--engine", "ray", "--address", "head"], "must be HOST:PORT or auto"),
        (["--address", "auto"], "Add --engine ray"),
        (["--gpus-per-worker", "1"], "Add --engine ray"),
    ],
)
def test_what_can_not_work_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["optimize", *words])
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_fix_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = CliRunner().invoke(cli, ["optimize", "--engine", "ray"])
    assert done.exit_code == 2
    assert "pip install 'exeunt[ray]'" in done.output


@pytest.fixture
def cluster() -> Iterator[tuple[str, Path]]:
    """The address of a cluster of one machine with two CPUs, and the folder that Ray writes to."""
    address = nobody_listens()
    # A socket in this folder may have a path of 107 characters only.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        words = ["start", "--head", "--block", f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1"]
        sizes = ["--num-cpus=2", "--object-store-memory=80000000", "--include-dashboard=false", f"--temp-dir={folder}"]
        variables = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        program = Path(sys.executable).with_name("ray")
        head = processes.start(program, *words, *sizes, env=variables, stderr=subprocess.STDOUT)
        assert head.stdout is not None
        for line in head.stdout:
            if "Ray runtime started" in line:
                break
        try:
            yield address, Path(folder)
        finally:
            head.terminate()
            head.communicate(timeout=60)


def command_lines() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return "\n".join(found)


@pytest.mark.slow
@pytest.mark.postgres
def test_ctrl_c_drains_all_and_no_password_is_left_behind(
    tmp_path: Path, closed_form: list[str], cluster: tuple[str, Path], postgres_url: str
):
    address, folder = cluster
    password = make_url(postgres_url).password
    assert password
    here = {**os.environ, "EXEUNT_STORAGE": postgres_url, "EXEUNT_ARTIFACTS": str(tmp_path / "artifacts")}
    words = ["optimize", *closed_form, "--network-arg", "seconds_per_block=0.0001", "--report", "none", "--json"]
    engine = ["--engine", "ray", "--address", address, "--budget", "1h"]
    program = [sys.executable, "-m", "exeunt", *words]

    refused = subprocess.run(
        [*program, *engine, "--gpus-per-worker", "4"], cwd=tmp_path, env=here, capture_output=True, text=True
    )
    assert refused.returncode == 2, refused.stderr
    assert "must have room for 1 × (4 GPU and 1 CPU), but its 1 machines have 0 GPU and 2 CPU" in refused.stderr

    driver = processes.start(*program, *engine, "--workers", "2", cwd=tmp_path, env=here)
    deadline, said = time.monotonic() + 120, ""
    assert driver.stderr is not None
    for line in driver.stderr:
        said += line
        if "trial 5" in line or time.monotonic() > deadline:
            break
    assert password not in command_lines()
    with open_store(postgres_url, read_only=True) as store:
        workers = workers_of(store, "closed-form")
    assert len(workers) == 2, said
    driver.send_signal(signal.SIGINT)
    out, rest = driver.communicate(timeout=60)
    assert driver.returncode == 75, said + rest
    assert out == ""
    assert "exeunt resume" in rest
    with open_store(postgres_url, read_only=True) as store:
        ended = workers_of(store, "closed-form")
    assert all(worker.ended for worker in ended)
    logs = [path for path in folder.rglob("*") if path.is_file()]
    assert logs
    assert not any(password.encode() in path.read_bytes() for path in logs)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_study_survives_the_loss_of_a_node(tmp_path: Path, storage: str):
    program = [sys.executable, ROOT / "benchmarks" / "survive_ray.py", "--storage", storage, "--trials", "16"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert [figures[name] for name in ("lost", "duplicated", "zombies", "incomplete")] == [0, 0, 0, 0]
    assert figures["restarted"]
    assert figures["same_as_undisturbed"]
    assert figures["finished"]
