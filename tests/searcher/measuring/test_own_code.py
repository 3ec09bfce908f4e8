"""Code that only a database names is imported where its file is the pinned one, and not looked at otherwise."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exeunt.backends.errors import InputError
from exeunt.backends.user_code import own_function, source_sha256
from exeunt.searcher.cli.main import cli

CODE = """
from pathlib import Path
from exeunt.backends.networks.closed_form import ClosedFormNetwork

with Path({log!r}).open("a") as log:
    log.write("run ")

class Mine(ClosedFormNetwork):
    pass

def score(images):
    return images.float().mean((1, 2, 3))

score.higher_is_better, score.version = True, "1"
"""


class Named:
    """A study in a database, that names a file which says each time that it is run."""

    def __init__(self, folder: Path, flags: list[str]) -> None:
        self.file, self.log, self.database = folder / "mine.py", folder / "log", folder / "named.db"
        self.file.write_text(CODE.format(log=str(self.log)))
        self.given = [*flags, "--storage", str(self.database)]
        made = self.run("optimize", *self.given, "--workers", "0", "--budget", "1-trials")
        assert made.exit_code == 0, made.output
        assert self.times() == 1

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, list(words))

    def times(self) -> int:
        return self.log.read_text().count("run") if self.log.exists() else 0

    def unpin(self) -> None:
        """As in a database that somebody made by hand."""
        with sqlite3.connect(self.database) as connection:
            (pins,) = connection.execute("SELECT pins FROM exeunt_studies").fetchone()
            pins = {
                key: "" if key.startswith("checkpoint.network") else value for key, value in json.loads(pins).items()
            }
            pins = {key: value for key, value in pins.items() if key != "quality.metric.code"}
            connection.execute("UPDATE exeunt_studies SET pins = ?", [json.dumps(pins)])
        connection.close()


@pytest.fixture(params=["network", "metric"])
def named(request: pytest.FixtureRequest, tmp_path: Path, closed_form: list[str]) -> Named:
    of_metric = ["--metric", f"{tmp_path / 'mine.py'}:score", "--reference", "none"]
    own = ["--network", f"{tmp_path / 'mine.py'}:Mine"] if request.param == "network" else of_metric
    return Named(tmp_path, [*closed_form, *own])


@pytest.mark.parametrize("command", ["resume", "worker"])
@pytest.mark.parametrize("how", ["changed", "unpinned"])
def test_what_no_pin_vouches_for_is_not_run(named: Named, command: str, how: str) -> None:
    if how == "changed":
        named.file.write_text(f"{named.file.read_text()}# another one\n")
    else:
        named.unpin()
    done = named.run(command, "--storage", str(named.database))
    assert done.exit_code == 2, done.output
    assert "imported only if its file is the one that the study was measured with" in done.output
    assert named.times() == 1


def test_what_is_pinned_or_named_is_run(named: Named) -> None:
    done = named.run("resume", "--storage", str(named.database), "--workers", "0", "--budget", "2-trials")
    assert done.exit_code == 0, done.output
    assert named.times() == 2
    named.unpin()
    again = named.run("optimize", *named.given, "--budget", "3-trials", "--workers", "0")
    assert again.exit_code in (0, 2), again.output
    assert named.times() == 3


@pytest.mark.slow
def test_a_report_runs_no_code_that_nobody_named(tmp_path: Path, closed_form: list[str]) -> None:
    named = Named(tmp_path, [*closed_form, "--network", f"{tmp_path / 'mine.py'}:Mine"])
    assert named.run("worker", "--storage", str(named.database), "--quiet").exit_code == 0
    named.unpin()
    with sqlite3.connect(named.database) as connection:
        connection.execute("DELETE FROM exeunt_files")
    connection.close()
    storage = ["--storage", str(named.database)]
    report = named.run("report", *storage, "-o", str(tmp_path / "report"))
    assert report.exit_code == 0, report.output
    assert "imported only if" in report.output
    export = named.run("export", *storage, "--label", "full", "--format", "onnx", "-o", str(tmp_path / "onnx"))
    assert export.exit_code == 2, export.output
    assert "imported only if" in export.output
    assert named.times() == 2


def test_a_modules_file_is_found_without_running_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "surprise").mkdir()
    (tmp_path / "surprise" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "surprise" / "inner.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source_sha256("surprise.inner:x") == source_sha256(f"{tmp_path / 'surprise' / 'inner.py'}:x")
    assert source_sha256("surprise.none:x") is source_sha256("sys:exit") is source_sha256("none.py:x") is None


def test_what_was_compiled_before_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "made.py"
    file.write_text("def made(): return 1\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path], check=True)
    times = file.stat()
    file.write_text("def made(): return 2\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert own_function(f"{file}:made", "pipeline")() == 2
    with pytest.raises(InputError, match="no function called"):
        own_function(f"{file}:other", "pipeline")


@pytest.mark.parametrize("program", [["-m", "exeunt"], ["-m", "exeunt.searcher.workers.child"]])
def test_no_process_runs_what_lies_in_the_current_folder(tmp_path: Path, program: list[str]) -> None:
    for name in ("queue", "click", "difflib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run')")
    safe = ["-P"] if program[1] != "exeunt" else []
    done = subprocess.run(
        [sys.executable, *safe, *program, "--help"], cwd=tmp_path, input="null", capture_output=True, text=True
    )
    assert "run" not in done.stderr.split()


def test_a_file_that_ends_the_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match="fails at line 2: SystemExit: 0"):
        own_function(f"{tmp_path / 'leaving.py'}:made", "pipeline")
