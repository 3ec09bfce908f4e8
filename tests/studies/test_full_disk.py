"""A disk that fills up while a study runs: one clear error, nothing lost, and it goes on when there is room again."""

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import numpy as np
import processes
import pytest
from exeunt.backends.timing import device_lock

COMMAND = (
    "import sys; from pathlib import Path; from exeunt.backends.timing import device_lock; "
    "from exeunt.studies.database import transactions; transactions.PATIENCE = float(sys.argv.pop(1)); "
    "device_lock.FOLDER = Path(sys.argv.pop(1)); from exeunt.searcher.cli.main import main; main()"
)
STUDY = """
name = "full-disk"
checkpoint = { path = "closed-form", baseline_weights = [] }
baseline = { num_steps = 4 }
quality = { metric = "fd-pixels", reference = "REFERENCE", num_images = 512, final_images = 1024 }
search = { baselines = ["full", "uniform-depth"] }
throughput = { device = "cpu" }
run = { budget = "3-trials", report = "none" }
"""
SMALL, LARGE = 1_000_000, 256_000_000


@dataclass
class Disk:
    """A folder with little room: a file system of its own, or where none can be mounted, short files alone."""

    folder: Path
    mounted: bool
    large: bool = False
    room: int = SMALL  # of a file, where no file system is mounted

    def start(self, *words: str, patience: float) -> Popen[str]:
        limit = (
            None
            if self.mounted or self.large
            else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, LARGE))
        )
        storage = ["--storage", str(self.folder / "study.db")]
        variables = {**os.environ, "PYTHONUNBUFFERED": "1"}
        program = [sys.executable, "-c", COMMAND, str(patience), device_lock.FOLDER, *words, *storage]
        return processes.start(*program, preexec_fn=limit, env=variables)

    def enlarge(self) -> None:
        self.large = True
        if self.mounted:
            subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(self.folder)], check=True)


@pytest.fixture(params=["file system", pytest.param("short files", marks=pytest.mark.slow)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "short files":
        yield Disk(folder, mounted=False)
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    yield Disk(folder, mounted)
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 255, (64, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "real.npz", images=images)
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("REFERENCE", str(tmp_path / "real.npz")))
    return path


def committed(disk: Disk) -> set[tuple[object, ...]]:
    """The chunks in the database, each with the digest of its features, after a look at the whole file."""
    with sqlite3.connect(f"file:{disk.folder / 'study.db'}?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT evaluation_id, first_image, num_images, sha256 FROM exeunt_chunks"
        rows = connection.execute(query).fetchall()
    connection.close()
    assert len(rows) == len(set(rows))
    return set(rows)


@pytest.mark.slow
def test_a_full_disk_ends_the_command_with_one_error_and_loses_nothing(disk: Disk, study: Path) -> None:
    first = disk.start("optimize", "--config", str(study), patience=1.0)
    _, said = first.communicate(timeout=100)
    assert first.returncode == 75, said
    assert said.count("Error:") == 1
    assert "Traceback" not in said
    wanted = "has no room left on its disk. Make room" if disk.mounted else "a disk error"
    assert wanted in said
    before = committed(disk)
    assert before
    disk.enlarge()
    again = disk.start("resume", patience=1.0)
    _, said = again.communicate(timeout=100)
    assert again.returncode == 0, said
    assert before < committed(disk)
    check = disk.start("db", "check", patience=1.0)
    assert "Nothing" in check.communicate(timeout=60)[0]
    assert check.returncode == 0


def test_a_study_that_waits_goes_on_when_there_is_room_again(disk: Disk, study: Path) -> None:
    """Where no file system can be mounted there is nothing to wait for, and the next command goes on."""
    worker = disk.start("optimize", "--config", str(study), patience=90.0)
    if disk.mounted:
        said = processes.read_until(worker, "has no room left on its disk. Make room", 90)
        assert "Trying again" in said
    else:
        _, said = worker.communicate(timeout=100)
        assert worker.returncode == 75, said
    before = committed(disk)
    disk.enlarge()
    if not disk.mounted:
        worker = disk.start("resume", patience=1.0)
    _, said = worker.communicate(timeout=100)
    assert worker.returncode == 0, said
    assert before < committed(disk)


@pytest.mark.slow
def test_other_commands_say_that_there_is_no_room(disk: Disk, study: Path) -> None:
    first = disk.start("optimize", "--config", str(study), patience=0.5)
    first.communicate(timeout=100)
    disk.room = SMALL // 10  # the copies are files of their own
    for words in (("study", "copy", "full-disk", "--to", str(disk.folder / "copy.db")), ("study", "backup")):
        more = () if words[1] == "copy" else ("-o", str(disk.folder / "backup.db"))
        command = disk.start(*words, *more, patience=0.5)
        _, said = command.communicate(timeout=60)
        assert command.returncode in (2, 75), said
        assert said.count("Error:") == 1
        assert "Traceback" not in said
    assert committed(disk)
