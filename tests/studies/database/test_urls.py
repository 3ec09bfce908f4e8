"""Passwords that a mistyped URL doesn't show, and names of files that would mean something else in a URL."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from exeunt.backends.errors import ExeuntError, InputError
from exeunt.searcher.cli.main import cli
from exeunt.studies.artifacts.files import folder_beside
from exeunt.studies.database.urls import file_url, is_default, parse_url, redact, storage_url
from exeunt.studies.store.store import database_exists, open_store

PASSWORDS = ("hunter42", "s3cr@t%x", "a:b/c?d", "q")
MISTYPED = (
    "postgresql+psycopg:/bob:{}@host/x",
    "postgresql+psycopg:bob:{}@host/x",
    "postgresql+psycopg//bob:{}@host/x",
    "postgresql:/bob:{}@host/x",
    "postgresql+psycopg:///bob:{}@host/x",
    "postgresql+psycopg://bob:{}@host:port/x",
    "postgresql+psycopg://bob%3A{}@host/x",
    "postgresql+psycopg://bob:{}@host/x?port=one",
    "postgresql+psycopg://host:port/x?password={}",
    "postgresql+psycopg://bob:{}",
    "postgres ql://bob:{}@host/x",
    "://bob:{}@host/x",
    "//bob:{}@host/x",
    "/bob:{}@host/x",
    "bob:{}@host/x",
    "bob:{}@host",
    "host/x?password={}",
    "host=host password={} dbname=x",
    "sqlite://bob:{}@host/x",
    "sqlite:///postgresql+psycopg://bob:{}@host/x",
    "sqlite:///x.db?password={}",
)


@pytest.mark.parametrize("mistyped", MISTYPED)
@pytest.mark.parametrize("password", PASSWORDS)
def test_no_password_is_shown_however_its_url_is_mistyped(mistyped: str, password: str, tmp_path: Path) -> None:
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        for typed in (password, quote(password, safe=""), "".join(f"%{ord(each):02x}" for each in password)):
            found = CliRunner().invoke(cli, ["status", "--storage", mistyped.format(typed)])
            assert found.exit_code in (2, 75)
            shown = (
                found.output.replace("postgresql", "").replace("SQLite", "").replace("sqlite", "").replace("sql", "")
            )
            assert len(password) == 1 or password not in shown
            assert typed == "q" or typed not in shown
            assert f":{typed}@" not in shown
            assert f"={typed}" not in shown
    finally:
        os.chdir(before)
    assert not list(tmp_path.iterdir())


def test_short_passwords_are_hidden_where_urls_have_them_and_leave_words_alone() -> None:
    program = "from exeunt.studies.database.urls import parse_url, redact; import sys; parse_url(sys.argv[1]);"
    text = "a study at postgresql+psycopg://ada:a@host/data?sslpassword=a&x=1 has a database"
    show = subprocess.run(
        [sys.executable, "-c", f"{program} print(redact({text!r}))", "postgresql+psycopg://ada:a@host/data"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert show.stdout == "a study at postgresql+psycopg://ada:***@host/data?sslpassword=***&x=1 has a database\n"


def test_passwords_are_hidden_as_they_were_typed() -> None:
    parse_url("postgresql+psycopg://ada:tr%75stno1@host/data")
    assert redact("trustno1 tr%75stno1") == "*** ***"


@pytest.mark.parametrize("name", ["./bob:x@host", "runs/2:1.db", "a@b.db", "postgres.db", "sqlite.db", "über 1.db"])
def test_names_of_files_stay_names(name: str) -> None:
    assert parse_url(storage_url(name)).database == name


def test_a_file_that_is_there_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="must be a URL"):
        storage_url("bob:x@host")
    Path("bob:x@host").touch()
    assert parse_url(storage_url("bob:x@host")).database == "bob:x@host"


NAMES = ("run?1.db", "run?2.db", "run%201.db", "run%3F1.db", "r u+n#1.db", "100%.db", "a&b=c.db", "{x}.db")


def test_each_name_is_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        with open_store(storage_url(name)) as store:
            assert folder_beside(store.engine) == tmp_path / f"{name}-files"
            again = store.url
        assert database_exists(storage_url(name))
        with open_store(again, read_only=True) as store:
            assert store.url == again == file_url(tmp_path / name)
        monkeypatch.setenv("EXEUNT_STORAGE", name)
        assert is_default(again)
    assert {each.name for each in tmp_path.iterdir() if not each.name.endswith(("-wal", "-shm"))} == set(NAMES)


def test_a_bare_question_mark_in_a_url_is_refused() -> None:
    with pytest.raises(InputError, match="%3F"):
        parse_url("sqlite:///run?1.db")
    assert parse_url("sqlite:///run%3F1.db").database == "run?1.db"


def test_through_a_link_files_stay_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    Path("exeunt.db").symlink_to("disk/real.db")
    with open_store(storage_url("exeunt.db")) as store:
        assert folder_beside(store.engine) == tmp_path / "disk" / "real.db-files"
        assert is_default(store.url)
    with open_store(storage_url("exeunt.db"), read_only=True) as store:
        assert folder_beside(store.engine) == tmp_path / "disk" / "real.db-files"
    assert Path("exeunt.db").is_symlink()
    assert [each.name for each in tmp_path.glob("exeunt.db*")] == ["exeunt.db"]


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").symlink_to("x.db")
    with pytest.raises(ExeuntError):
        open_store(storage_url(str(tmp_path / "x.db")))
