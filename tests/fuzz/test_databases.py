"""Hostile and broken databases: cut off, overwritten, of other programs, with any value in any column of ours."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exeunt.reports.plots.samples import GridInfo, draw_samples, kept_grid
from exeunt.reports.plots.style import png_of_pixels
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.selection import Highlight
from exeunt.reports.view.view import StudyView
from exeunt.searcher import runner
from exeunt.searcher.cli.main import cli
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.errors import corrupt_rows
from exeunt.studies.database.tables import FILES
from exeunt.studies.store.store import Store, open_store
from hostile import bounded, damaged, mutated, quick, survives, thorough
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
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished study of the closed-form network, without a log beside it, but with its features."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.db"
    reference = folder / "real.npz"
    np.savez(reference, images=np.random.default_rng(0).integers(0, 255, (64, 4, 4, 3), np.uint8))
    runner.optimize(override(StudyConfig(), SMALL | {"quality.reference": str(reference)}), f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    return path


@pytest.fixture(scope="module")
def database(made: Path) -> bytes:
    return made.read_bytes()


def look(path: Path, commands: tuple[list[str], ...] = COMMANDS) -> list[str]:
    """What every command that reads says of a database, none of it a traceback, and none of it steering a terminal."""
    said: list[str] = []
    for command in commands:
        with bounded():
            result = CliRunner().invoke(cli, [*command, "--storage", str(path)])
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exc_info)
        assert result.exit_code in (0, 1, 2, 75), result.output
        assert not any(sign in result.output for sign in "\x1b\x07\x9b\u202e\u2066\r\0"), command
        said.append(result.output)
    return said


def put(folder: Path, data: bytes) -> Path:
    """A new file each time: SQLite knows files by their inodes, and connections of the one before may be open yet."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "study.db"
    path.write_bytes(data)
    return path


def test_the_undamaged_database_is_read(database: bytes, tmp_path: Path) -> None:
    assert "small: finished" in look(put(tmp_path, database))[0]


@quick(10, long=500)
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


@pytest.mark.slow
@pytest.mark.parametrize("value", [b"\xc1\x04", -5, 2.5, "x", None, float("inf"), 2**62, ""])
def test_a_value_in_each_column_is_read_or_refused(value: Any, database: bytes, tmp_path: Path) -> None:
    found = []
    for table, column in columns(database, tmp_path):
        path = put(tmp_path, database)
        with suppress(sqlite3.IntegrityError):
            overwrite(path, table, column, value)
        try:
            look(path)
        except AssertionError as error:
            found.append(f"{table}.{column}: {error}")
    assert found == []


PLACES = st.integers(0, 10_000)  # one of all columns


def damage(database: bytes, folder: Path, place: int, value: Any) -> Path:
    """The database with a value in every row of one column, where SQLite takes it."""
    found = columns(database, folder)
    path = put(folder, database)
    with suppress(sqlite3.IntegrityError):
        overwrite(path, *found[place % len(found)], value)
    return path


@quick(12, long=300)
@given(place=PLACES, value=VALUES)
def test_any_value_in_any_column_is_read_or_refused(place: int, value: Any, database: bytes, tmp_path: Path) -> None:
    look(damage(database, tmp_path, place, value))


def documents(database: bytes, folder: Path) -> list[tuple[str, str, int, Any]]:
    """Every row's JSON document: its table, column, row and value."""
    found: list[tuple[str, str, int, Any]] = []
    with sqlite3.connect(put(folder, database)) as connection:
        for table, column in columns(database, folder):
            rows = f'SELECT rowid, "{column}" FROM "{table}" WHERE "{column}" GLOB \'[[{{]*\''
            found += [(table, column, row, json.loads(text)) for row, text in connection.execute(rows)]
    connection.close()
    return found


def alter(database: bytes, folder: Path, place: int, data: st.DataObject) -> Path:
    """The database with one of its JSON documents changed somewhere inside."""
    found = documents(database, folder)
    table, column, row, document = found[place % len(found)]
    path = put(folder, database)
    text = json.dumps(data.draw(mutated(document))).encode(errors="replace").decode()
    with sqlite3.connect(path) as connection:
        connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (text, row))
    connection.close()
    return path


def damage_or_alter(database: bytes, folder: Path, data: st.DataObject) -> Path:
    place = data.draw(PLACES)
    if data.draw(st.booleans()):
        return alter(database, folder, place, data)
    return damage(database, folder, place, data.draw(VALUES))


@quick(12, long=1000)
@given(place=PLACES, data=st.data())
def test_an_altered_document_is_read_or_refused(
    place: int, data: st.DataObject, database: bytes, tmp_path: Path
) -> None:
    look(alter(database, tmp_path, place, data))


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


PIXELS = np.random.default_rng(0).integers(0, 255, (12, 3, 3), np.uint8)
PNG = png_of_pixels(PIXELS)
ABOUT = {"seed": 7, "first_image": 0, "num_images": 3, "height": 4, "width": 3}


@pytest.fixture(scope="module")
def keeping(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, StudyView]]:
    """A copy of the study, to which pictures are put, and its view."""
    path = tmp_path_factory.mktemp("keeping") / "study.db"
    shutil.copy(made, path)
    shutil.copytree(f"{made}-files", f"{path}-files")
    with open_store(f"sqlite:///{path}") as store:
        yield store, load_view(store, "small")


def show_kept(store: Store, view: StudyView, about: Any, picture: bytes) -> GridInfo | None:
    """The grid of a study that kept a picture of its full schedule, as the report without a network shows it."""
    (key,) = [each.key for each in [view.full] if each is not None]
    weights = next(each.weights_sha256 for each in store.studies.members("small") if each.schedule_digest == key[0])
    store.kept.keep("small", "samples", (key[0], weights), {}, picture)
    with store.engine.begin() as connection:
        connection.execute(FILES.update().values(about=about))
    with corrupt_rows(store.url):
        grid = kept_grid(view, [Highlight("the full schedule", view.full)] if view.full else [], store, seed=7)
        if grid is not None:
            draw_samples(grid)
        return grid


def test_a_whole_picture_is_shown(keeping: tuple[Store, StudyView]) -> None:
    found = show_kept(*keeping, ABOUT, PNG)
    assert found is not None
    assert found.rows[0].images.shape == (3, 4, 3, 3)


@quick(10, long=1000)
@given(about=st.one_of(st.just(ABOUT), mutated(ABOUT)), picture=st.one_of(st.just(PNG), damaged(PNG)))
def test_kept_pictures_are_shown_or_refused(about: Any, picture: bytes, keeping: tuple[Store, StudyView]) -> None:
    survives(lambda: show_kept(*keeping, about, picture))


WORKING = (
    ["resume", "--budget", "1-trials", "--report", "none", "--quiet"],
    ["worker", "--quiet"],
    ["optimize", "--study", "small", "--checkpoint", "closed-form", "--device", "cpu", "--report", "none", "--quiet"],
)


@pytest.mark.slow
@quick(12, long=200)
@given(data=st.data(), command=st.sampled_from(WORKING))
def test_who_works_on_any_value_in_any_column_goes_on_or_stops(
    data: st.DataObject, command: list[str], made: Path, tmp_path: Path
) -> None:
    """One column changed, and a command that works on the study: it goes on, or ends with one of our errors."""
    path = damage_or_alter(made.read_bytes(), tmp_path, data)
    shutil.copytree(f"{made}-files", f"{path}-files")
    with bounded():
        result = CliRunner().invoke(cli, [*command, "--storage", str(path)])
    assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exc_info)
    assert result.exit_code in (0, 1, 2, 70, 75), result.output
    assert not any(sign in result.output for sign in "\x1b\x07\x9b\u202e\u2066\r\0"), command


@pytest.mark.parametrize(
    "place", ["exeunt_studies.config", "study_user_attributes.value_json", "trial_system_attributes.value_json"]
)
@pytest.mark.parametrize("command", WORKING[:2], ids=lambda words: words[0])
def test_documents_that_are_null_stop_who_works_on_them(
    place: str, command: list[str], made: Path, tmp_path: Path
) -> None:
    path = put(tmp_path, made.read_bytes())
    overwrite(path, *place.split("."), "null")
    shutil.copytree(f"{made}-files", f"{path}-files")
    (said,) = look(path, (command,))
    assert said == "" or "holds something that Exeunt did not write" in said


@pytest.mark.parametrize("value", ["", 3, "[" * 5000])
def test_timings_that_are_no_numbers_stop_who_works_on_them(value: Any, made: Path, tmp_path: Path) -> None:
    path = put(tmp_path, made.read_bytes())
    overwrite(path, "exeunt_throughputs", "baseline_seconds", value)
    shutil.copytree(f"{made}-files", f"{path}-files")
    (said,) = look(path, (WORKING[0],))
    assert "holds something that Exeunt did not write" in said


@pytest.mark.parametrize("value", [-5, 0, 2.5, "many"])
def test_a_batch_without_images_is_refused(value: Any, made: Path, tmp_path: Path) -> None:
    path = put(tmp_path, made.read_bytes())
    overwrite(path, "exeunt_timing_keys", "batch_size", value)
    look(path)


MOVING = (
    ["study", "copy", "small", "--to", "OUT"],
    ["study", "backup", "-o", "OUT"],
    ["study", "files", "small", "-o", "OUT"],
    ["study", "gc", "--yes"],
    ["study", "delete", "small", "--yes"],
    ["study", "pause", "small"],
    ["study", "stop", "small", "--json"],
    ["study", "unpause", "small", "--json"],
    ["study", "list", "--json"],
    ["export", "--knee", "-o", "OUT"],
    ["db", "upgrade"],
)


@pytest.mark.slow
@quick(30, long=300)
@given(data=st.data(), command=st.sampled_from(MOVING))
def test_who_moves_any_value_in_any_column_goes_on_or_stops(
    data: st.DataObject, command: list[str], made: Path, tmp_path: Path
) -> None:
    path = damage_or_alter(made.read_bytes(), tmp_path, data)
    shutil.copytree(f"{made}-files", f"{path}-files")
    look(path, ([word.replace("OUT", f"{path}.out") for word in command],))


def test_a_value_of_a_gigabyte_takes_no_memory(database: bytes, tmp_path: Path) -> None:
    """Zeros that SQLite keeps as such: what a text or a blob may have is bounded before it is read."""
    path = put(tmp_path, database)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE exeunt_schedules SET schedule = zeroblob(300000000) WHERE rowid = 1")
    connection.close()
    said = look(path, COMMANDS[:1])
    assert "too big" in said[0]


@pytest.mark.slow
@thorough(400)
@given(place=PLACES, value=VALUES, data=st.data())
def test_databases_at_length(place: int, value: Any, data: st.DataObject, database: bytes, tmp_path: Path) -> None:
    look(damage(database, tmp_path, place, value))
    look(put(tmp_path, data.draw(damaged(database))))
