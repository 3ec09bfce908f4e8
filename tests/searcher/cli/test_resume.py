"""A study that is killed again and again ends up with what an undisturbed one has, and repeats nothing."""

import signal
import sqlite3
import time
from contextlib import chdir
from pathlib import Path
from subprocess import Popen

import processes
import pytest
from click.testing import CliRunner
from exeunt.backends.networks.registry import load_network
from exeunt.backends.schedule import DROP, save, with_exits
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.cli.main import cli
from exeunt.studies.workers.status import read_status

NUM_PROPOSALS = 8
# Slow enough that a signal finds the study at work: 32 images take a tenth of a second.
SLOW = ["--network-arg", "seconds_per_block=0.00005"]


@pytest.fixture(scope="module")
def proposals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of schedule files: exits at growing depths."""
    network, folder = load_network("closed-form"), tmp_path_factory.mktemp("proposals")
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=8)
    for number in range(NUM_PROPOSALS):
        depths = [min(network.num_blocks, number + step) or 1 for step in range(full.num_steps)]
        save(with_exits(full, depths, DROP), folder / f"{number}.schedule.json")
    return folder


def finish(folder: Path, *words: str) -> None:
    """A command that nobody kills, in this process."""
    with chdir(folder):
        done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output


def chunks(folder: Path) -> list[tuple]:
    """Every committed chunk: evaluation, seed, first image, when it was committed, and its contents' digest."""
    query = (
        "select e.digest, e.seed, c.first_image, c.committed, c.sha256 from exeunt_chunks c "
        "join exeunt_evaluations e on e.id = c.evaluation_id order by c.id"
    )
    try:
        with sqlite3.connect(f"file:{folder / 'exeunt.db'}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []  # The process has not made the tables yet.


def wait_for(folder: Path, count: int, process: Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while len(chunks(folder)) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def searched(folder: Path) -> set[tuple]:
    """What was measured on search seeds: which images of which evaluation, with which contents."""
    return {(evaluation, first, digest) for evaluation, seed, first, _, digest in chunks(folder) if seed == 0}


@pytest.mark.slow  # `tests/studies/test_survival.py` kills workers in the default run
def test_killed_studies_lose_nothing_and_repeat_nothing(tmp_path: Path, closed_form: list[str], proposals: Path):
    budget = ["--proposals", str(proposals), "--budget", "100-trials"]
    words = ["optimize", *closed_form, *SLOW, *budget, "--report", "none", "--quiet"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    finish(whole, *words)

    kept: list[tuple] = []
    for number, code in [(signal.SIGINT, 75), (signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)]:
        process = processes.exeunt(*(words if not kept else ["resume", "--quiet"]), cwd=broken)
        wait_for(broken, len(kept) + 4, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert "Traceback" not in err
        if number != signal.SIGKILL:
            assert "exeunt resume" in err
        assert chunks(broken)[: len(kept)] == kept
        kept = chunks(broken)

    finish(broken, "resume", "--quiet")
    after = chunks(broken)
    assert after[: len(kept)] == kept
    assert len({(evaluation, first) for evaluation, _, first, _, _ in after}) == len(after)
    assert searched(broken) == searched(whole)
    assert read_status(f"sqlite:///{broken / 'exeunt.db'}", "closed-form").finished
