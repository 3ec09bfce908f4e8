"""Hostile and broken databases: cut off, overwritten, of other programs, with any value in any column of ours."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from exeunt.searcher import runner
from exeunt.searcher.cli import cli
from exeunt.studies.config import StudyConfig, override
from hostile import bounded, damaged, quick, thorough
from hypothesis import given
from hypothesis import strategies as st

SMALL = {
    "name": "small", "checkpoint.path": "closed-form", "quality.metric": "fd-pixels", "throughput.device": "cpu",
    "checkpoint.baseline_weights": (), "quality.num_images": 16, "quality.final_images": 16, "baseline.num_steps": 4,
    "run.budget": "2-trials", "run.report": None, "search.baselines": ("full", "uniform-depth"),
}  # fmt: skip
COMMANDS = (["status"], ["status", "--json"], ["study", "list"], ["report", "--json"], ["db", "check"])
STEERING = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202e\u2066[/bold]<script>alert(1)</script>\r\n\0"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A finished study of the closed-form network, as a file without a log beside it."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.db"
    reference = folder / "real.npz"
    import numpy as np

    np.savez(reference, images=np.random.default_rng(0).integers(0, 255, (64, 4, 4, 3), np.uint8))
    runner.optimize(override(StudyConfig(), SMALL | {"quality.reference": str(reference)}), f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    return path.read_bytes()


def look(path: Path, commands: tuple[list[str], ...] = COMMANDS) -> list[str]:
    """What every command that reads says of a database, none of it a traceback, and none of it steering a terminal."""
    said: list[str] = []
    for command in commands:
        with bounded():
            result = CliRunner().invoke(cli, [*command, "--storage", str(path)])
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exc_info)
        assert result.exit_code in (0, 1, 2, 75), result.output
        if "--json" not in command:
            assert not any(sign in result.output for sign in "\x1b\x07\x9b\u202e\u2066\r\0"), command
        said.append(result.output)
    return said


def put(folder: Path, data: bytes) -> Path:
    path = folder / "study.db"
    for old in folder.glob("study.db*"):
        old.unlink()
    path.write_bytes(data)
    return path


def test_the_undamaged_database_is_read(database: bytes, tmp_path: Path) -> None:
    assert "small: finished" in look(put(tmp_path, database))[0]


@quick(10)
@given(data=st.data())
def test_a_damaged_database_is_read_or_refused(data: st.DataObject, database: bytes, tmp_path: Path) -> None:
    look(put(tmp_path, data.draw(damaged(database))))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 99, 100, 511, 4096, 5000, 40_000])
def test_a_truncated_database_is_read_or_refused(size: int, database: bytes, tmp_path: Path) -> None:
    look(put(tmp_path, database[:size]), COMMANDS[:1])


@pytest.mark.parametrize(
    "table",
    ["exeunt_version (version)", "studies (a)", "alembic_version (version_num)", "cookies (host)", "'\x1b[2J' (a)"],
)
@pytest.mark.parametrize("value", [2, "nonsense", None, b"\xff", 2**62])
def test_a_database_of_another_program_is_refused(table: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute(f"INSERT INTO {table.partition(' (')[0]} VALUES (?)", (value,))
    connection.close()
    before = path.read_bytes()
    look(path)
    assert path.read_bytes() == before


def columns(database: bytes, folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(put(folder, database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
    connection.close()
    return sorted(found)


VALUES = st.one_of(
    st.sampled_from(
        [STEERING, "", "null", "[]", "{}", "[" * 5000, b"\xff\xfe", b"", -1, 2**62, 1e308, float("inf"), None]
    ),
    st.text(max_size=10).map(lambda text: text.encode(errors="replace").decode()),
    st.integers(-5, 5),
    st.binary(max_size=10),
)


def overwrite(path: Path, table: str, column: str, value: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        try:
            connection.execute(f'UPDATE "{table}" SET "{column}" = ?', (value,))
        except sqlite3.IntegrityError:
            connection.execute(f'UPDATE OR IGNORE "{table}" SET "{column}" = ?', ("x" if value is None else value,))
    connection.close()


def try_value(data: st.DataObject, database: bytes, folder: Path) -> None:
    table, column = data.draw(st.sampled_from(columns(database, folder)))
    path = put(folder, database)
    try:
        overwrite(path, table, column, data.draw(VALUES))
    except sqlite3.IntegrityError:
        return
    look(path)


@quick(25)
@given(data=st.data())
def test_any_value_in_any_column_is_read_or_refused(data: st.DataObject, database: bytes, tmp_path: Path) -> None:
    try_value(data, database, tmp_path)


def test_names_from_a_database_steer_no_terminal(database: bytes, tmp_path: Path) -> None:
    path = put(tmp_path, database)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE exeunt_members SET label = label || ?, weights_name = ?", (STEERING, STEERING))
        into = "INSERT INTO exeunt_failures (evaluation_id, owner, reason, at) "
        failures = into + "SELECT id, 'x', ?, 0 FROM exeunt_evaluations"
        connection.execute(failures, (STEERING,))
        connection.execute("UPDATE exeunt_workers SET host = ?, reason = ?", (STEERING, STEERING))
    connection.close()
    report = tmp_path / "report"
    said = look(path, (*COMMANDS, ["report", "--no-samples", "-o", str(report)]))
    assert "small: finished" in said[0]
    assert (report / "index.html").is_file()


@pytest.mark.slow
@thorough(400)
@given(data=st.data())
def test_databases_at_length(data: st.DataObject, database: bytes, tmp_path: Path) -> None:
    try_value(data, database, tmp_path)
    look(put(tmp_path, data.draw(damaged(database))))
