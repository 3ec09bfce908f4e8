"""Databases on a PostgreSQL server, for tests that are marked `postgres`."""

from collections.abc import Iterator

import postgres
import pytest
from exeunt.studies.storage import open_engine
from sqlalchemy import make_url


@pytest.fixture(scope="session")
def postgres_server() -> postgres.Server:
    """The server that the environment names."""
    return postgres.running()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.Server) -> Iterator[str]:
    """The name of a database with our tables and nothing in them, since copying it takes less time than making it."""
    with postgres_server.database() as url:
        open_engine(url).dispose()
        yield str(make_url(url).database)


@pytest.fixture
def postgres_url(postgres_server: postgres.Server, postgres_template: str) -> Iterator[str]:
    """A database with our tables and nothing in them."""
    with postgres_server.database(postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """A database without any tables."""
    with postgres_server.database() as url:
        yield url
