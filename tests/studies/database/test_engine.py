"""What `open_engine` makes, checks and refuses, and that Optuna's tables live beside ours under the same rules."""

import contextlib
import errno
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from exeunt.backends.errors import InputError, StorageError
from exeunt.backends.schedule import Schedule
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database import engine as filesystems
from exeunt.studies.database import schema
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.errors import NoRoom, corrupt_rows, explained
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.database.transactions import clock, reading, writing
from exeunt.studies.database.urls import parse_url
from exeunt.studies.store.store import Store, open_store
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from stored import put_schedule


def test_an_empty_database_gets_both_sets_of_tables(url: str, database: Path) -> None:
    open_engine(url).dispose()
    with sqlite3.connect(database) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT version FROM exeunt_version").fetchall() == [(schema.CURRENT,)]
    connection.close()
    assert {"exeunt_evaluations", "exeunt_chunks", "trials", "studies", "alembic_version"} <= tables


def test_a_current_database_is_only_read_when_opened(store: Store, url: str, database: Path) -> None:
    store.studies.put_config(StudyConfig())
    store.close()
    before = _digests(database)
    for read_only in (False, True):
        with open_store(url, read_only) as again:
            assert again.studies.names() == ["demo"]
    assert _digests(database)["exeunt.db"] == before["exeunt.db"]


def _digests(database: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in database.parent.iterdir()}


def test_a_creation_that_was_cut_off_is_completed(url: str) -> None:
    engine = open_engine(url)
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("DROP TABLE trial_heartbeats"))
    with pytest.raises(InputError, match="holds no study yet"):
        open_engine(url, read_only=True)
    open_engine(url).dispose()
    optuna_storage(open_engine(url, read_only=True))
    engine.dispose()


def test_many_processes_may_create_at_once(url: str) -> None:
    errors: list[BaseException] = []

    def create() -> None:
        try:
            open_engine(url).dispose()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_writer_is_the_only_one_from_its_first_statement(url: str) -> None:
    one, other = open_engine(url), sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)
    with writing(one) as connection:
        assert connection.execute(text("SELECT count(*) FROM exeunt_studies")).scalar() == 0
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    with reading(one) as connection:
        assert connection.execute(text("SELECT count(*) FROM exeunt_studies")).scalar() == 0
    other.close()
    one.dispose()


def test_durable_commits_wait_for_the_disk_and_others_may_write_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(url)
    storage = optuna_storage(engine)
    waited = list[str]()

    def wait(log: int) -> None:
        waited.append(os.readlink(f"/proc/self/fd/{log}"))
        with writing(other):
            pass

    other = open_engine(url)
    monkeypatch.setattr(os, "fsync", wait)
    with writing(engine):
        pass
    with storage.engine.begin() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
    assert waited == []
    with writing(engine, durable=True) as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
    assert waited == [os.path.realpath(f"{url.removeprefix('sqlite:///')}-wal")]
    engine.dispose()
    other.dispose()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, "storage-full"), (errno.EIO, "storage")])
def test_a_disk_that_fails_while_it_is_waited_for_is_said(
    url: str, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    engine = open_engine(url)

    def fail(_log: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="exeunt resume") as caught, writing(engine, durable=True):
        pass
    assert caught.value.identifier == kind
    engine.dispose()


def test_a_quota_under_the_database_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says no more than that it can't write."""
    error = sqlite3.OperationalError("disk I/O error")
    assert explained(error, str(tmp_path / "study.db")).identifier == "storage"

    def fail(_file: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fail)
    assert isinstance(explained(error, str(tmp_path / "study.db")), NoRoom)


def test_a_full_disk_is_not_taken_for_rows_of_somebody_else(url: str) -> None:
    engine = open_engine(url)
    with engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count=1"))
        with pytest.raises(NoRoom, match="no room left"), corrupt_rows("here"):
            connection.execute(text("CREATE TABLE large AS SELECT zeroblob(1000000)"))
    engine.dispose()


def test_a_failed_block_leaves_nothing(url: str) -> None:
    engine = open_engine(url)
    with contextlib.suppress(KeyError), writing(engine) as connection:
        connection.execute(text("INSERT INTO exeunt_leases VALUES ('a', NULL, 1, 0)"))
        raise KeyError
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM exeunt_leases")).scalar() == 0
    engine.dispose()


def test_the_clock_is_the_databases_and_in_seconds(url: str) -> None:
    engine = open_engine(url)
    with reading(engine) as connection:
        first = connection.execute(select(clock())).scalar_one()
        plain = connection.execute(text("SELECT strftime('%s', 'now')")).scalar_one()
    assert abs(first - float(plain)) < 2.0
    engine.dispose()


def test_optuna_works_on_a_path_with_odd_characters(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a b{{0}}#é.db"
    engine = open_engine(url)
    study = optuna.create_study(storage=optuna_storage(engine), study_name="s", directions=["minimize", "maximize"])
    trial = study.ask()
    trial.suggest_int("depth", 1, 12)
    study.tell(trial, [1.0, 2.0])
    reader = open_engine(url, read_only=True)
    again = optuna.load_study(storage=optuna_storage(reader), study_name="s")
    assert [each.values for each in again.trials] == [[1.0, 2.0]]
    assert [path.suffix for path in tmp_path.iterdir()].count(".db") == 1
    engine.dispose()
    reader.dispose()


class TestReadOnly:
    def test_works_beside_a_writer(self, store: Store, url: str, make_schedule: Callable[[int], Schedule]) -> None:
        with open_store(url, read_only=True) as reader, writing(store.engine) as connection:
            connection.execute(text("INSERT INTO exeunt_leases VALUES ('a', NULL, 1, 0)"))
            digest = make_schedule(1).digest
            assert reader.evaluations.held([digest])[digest].schedule.digest == digest

    def test_nothing_can_be_changed(self, store: Store, url: str, make_schedule: Callable[[int], Schedule]) -> None:
        with open_store(url, read_only=True) as reader:
            with pytest.raises(InputError, match="read-only"):
                put_schedule(reader, make_schedule(0))
            with reader.engine.connect() as connection, pytest.raises(OperationalError, match="readonly"):
                connection.execute(text("DELETE FROM exeunt_schedules"))
            with pytest.raises(optuna.exceptions.StorageInternalError):
                optuna.create_study(storage=optuna_storage(reader.engine), study_name="new")

    def test_needs_no_right_to_write(self, store: Store, url: str, database: Path) -> None:
        store.close()
        for path in [database, database.parent]:
            path.chmod(path.stat().st_mode & ~0o222)
        try:
            with open_store(url, read_only=True) as reader:
                assert reader.studies.names() == []
        finally:
            database.parent.chmod(0o755)

    def test_a_missing_database_is_not_made(self, url: str, database: Path) -> None:
        with pytest.raises(InputError) as caught:
            open_engine(url, read_only=True)
        assert f"no database at {database}" in str(caught.value)
        assert f"`exeunt optimize --storage sqlite:///{database}`" in str(caught.value)
        assert not database.exists()

    def test_an_empty_file_holds_no_study(self, url: str, database: Path) -> None:
        database.touch()
        with pytest.raises(InputError, match="holds no study yet"):
            open_engine(url, read_only=True)
        assert database.read_bytes() == b""


def _optuna_only(path: Path) -> None:
    optuna.create_study(storage=f"sqlite:///{path}", study_name="theirs")


def _something_else(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def _newer(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    with writing(engine) as connection:
        connection.execute(text("UPDATE exeunt_version SET version = 99"))
    engine.dispose()


FOREIGN = {
    "a text file": (
        lambda path: path.write_text("not a database\n" * 100),
        "must be an SQLite database, but is another",
    ),
    "a folder": (lambda path: path.mkdir(), "is a folder. Write sqlite:///"),
    "Optuna's": (_optuna_only, "Optuna studies without Exeunt's tables"),
    "something else": (_something_else, "belongs to another program (it has the tables bookmarks)"),
    "a newer version": (_newer, f"up to version {schema.CURRENT}, but .* has version 99. Install a newer one"),
}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("case", FOREIGN)
def test_a_database_of_something_else_is_refused_and_left_alone(
    case: str, read_only: bool, url: str, database: Path
) -> None:
    make, words = FOREIGN[case]
    make(database)
    before = database.is_file() and hashlib.sha256(database.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=words if ".*" in words else None) as caught:
        open_engine(url, read_only)
    assert ".*" in words or words in str(caught.value)
    assert before == (database.is_file() and hashlib.sha256(database.read_bytes()).hexdigest())


def test_tables_of_another_optuna_are_refused(store: Store) -> None:
    with writing(store.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9.0.0.a'"))
    with pytest.raises(
        InputError, match=r"needs tables of version v\S+, but .* has v9\.0\.0\.a\. Install a newer Optuna"
    ):
        optuna_storage(store.engine)


URLS = {
    "exeunt.db": "Write sqlite:///exeunt.db.",
    "": "Write sqlite:///FILE or",
    "sqlite://": "must name a file",
    "sqlite:///:memory:": "must name a file",
    "sqlite:///a.db?mode=ro": "nothing else",
    "postgresql://ada:secret@host/db": "Write postgresql+psycopg://ada:***@host/db.",
    "postgres://ada:secret@host/db": "Write postgresql+psycopg://",
    "postgresql+psycopg2://ada:secret@host/db": "must be psycopg 3",
    "mysql://ada:secret@host/db": "must be sqlite:///FILE or postgresql+psycopg://",
    "ada:secret@host": "must be a URL",
    "sqlite+aiosqlite:///a.db": "must be sqlite:///FILE",
    "sqlite:///~nobody-of-this-name/a.db": "Could not determine home directory",
    "sqlite:///" + "a" * 300: "(File name too long)",
    "sqlite:///a\0b": "(embedded null byte)",
    "sqlite:///\udc80": "must be UTF-8",
}


@pytest.mark.parametrize("url", URLS)
def test_urls_that_cannot_be_used_are_refused_without_showing_passwords(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_url(url)
    assert URLS[url] in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none does not exist\. Make it with `mkdir -p"):
        open_engine(f"sqlite:///{tmp_path}/none/exeunt.db")


def test_network_file_systems_are_refused(url: str, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = database.parent / "mounts"
    mounts.write_text(f"server:/x {database.parent.resolve()} nfs4 rw 0 0\n")
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    with pytest.raises(InputError, match="nfs4"):
        open_engine(url)
    assert not database.exists()


def test_a_damaged_database_is_one_clear_error(store: Store, url: str, database: Path) -> None:
    store.close()
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    with pytest.raises(StorageError, match=r"is damaged\. Restore it from a backup"), open_store(url) as damaged:
        damaged.studies.put_config(StudyConfig())


def test_a_lock_that_stays_is_one_clear_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_engine(url).dispose()
    monkeypatch.setattr("exeunt.studies.database.errors.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("exeunt.studies.database.transactions.PATIENCE", 0.0)
    holder = sqlite3.connect(url.removeprefix("sqlite:///"))
    holder.execute("BEGIN IMMEDIATE")
    with open_store(url) as waiting, pytest.raises(StorageError, match=r"locked .* by another process\. Try again"):
        waiting.studies.put_config(StudyConfig())
    holder.close()
