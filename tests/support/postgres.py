"""PostgreSQL for the tests: databases on the server that `EXEUNT_TEST_POSTGRES` names, or a whole server."""

import os
import secrets
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import make_url

SCRIPT = Path(__file__).parents[2] / ".ci" / "postgres"
VARIABLE = "EXEUNT_TEST_POSTGRES"


@dataclass(frozen=True)
class Server:
    """A server, by the URL of its administrator. `folder` is where it lives, None for one that others started."""

    url: str
    folder: Path | None = None

    def execute(self, *statements: str) -> list[tuple]:
        """Executes statements outside any transaction, and returns the last one's rows."""
        with psycopg.connect(_conninfo(self.url), autocommit=True) as connection:
            for statement in statements[:-1]:
                connection.execute(statement)
            last = connection.execute(statements[-1])
            return last.fetchall() if last.description else []

    @contextmanager
    def database(self, template: str = "template1") -> Generator[str]:
        """The URL of a new database, which goes with the block."""
        name = f"exeunt_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield at(self.url, database=name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def cut(self, url: str) -> int:
        """Ends every connection to the database of a URL, in the middle of whatever it does; returns how many."""
        name = make_url(url).database
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        return len(self.execute(query))

    def stop(self) -> None:
        subprocess.run([SCRIPT, "stop", str(self.folder)], check=True, timeout=60)

    def start(self) -> None:
        subprocess.run([SCRIPT, "start", str(self.folder)], check=True, timeout=60, stdout=subprocess.DEVNULL)


def at(url: str, **parts: str | None) -> str:
    """The URL with other parts."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def _conninfo(url: str) -> str:
    return at(url).replace("+psycopg", "")


def running() -> Server:
    """The server that the environment names. Raises AssertionError without one, since nothing is skipped in silence."""
    url = os.environ.get(VARIABLE)
    assert url, f"tests that are marked `postgres` need a server: export {VARIABLE}=$(.ci/postgres start /tmp/postgres)"
    return Server(url)


def own() -> Iterator[Server]:
    """A server of one's own, to be stopped and started."""
    with tempfile.TemporaryDirectory() as folder:
        started = subprocess.run([SCRIPT, "start", folder], check=True, timeout=120, capture_output=True, text=True)
        try:
            yield Server(started.stdout.strip(), Path(folder))
        finally:
            subprocess.run([SCRIPT, "remove", folder], check=True, timeout=60)
            Path(folder).mkdir()
