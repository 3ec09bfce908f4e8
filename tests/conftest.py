"""What all tests share: databases on a PostgreSQL server, gradients as they were, processes that end."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import lines  # first: it looks at what is imported after it
import postgres
import processes
import pytest
from exeunt.backends.timing import device_lock
from exeunt.studies.artifacts.files import VARIABLE
from hypothesis import settings
from sqlalchemy import make_url

# Each process takes one file after the other: those that take longest come first, so that the end is shared.
LONGEST = (
    "test_suite", "test_databases", "test_artifacts", "test_survey", "test_dit_checkpoint", "test_network",
    "test_sliced", "test_recorded", "test_sampler", "test_unet", "test_calibrated_start",
)  # fmt: skip
# No deadline for single examples: the first ones of a process, and any on a busy machine, take longer.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    if lines.PLUGIN:
        config.pluginmanager.register(lines.PLUGIN, "lines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The same order in all processes."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What all modules hold by now stays to the end: to look for garbage in it took 0.4 s, each time that one asks."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def nobody_pulls_the_plug() -> Iterator[None]:
    """What a process wrote outlives it without waiting for the disk; no test ends the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def gradients_stay_on() -> Iterator[None]:
    """Whoever turns gradients off turns them on again: a later test that trains would fail for it."""
    import torch  # here, since the process that hands out tests needs neither it nor a database

    yield
    enabled = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    torch.set_grad_enabled(True)
    assert enabled, "gradients are off after this test"


@pytest.fixture(autouse=True, scope="session")
def locks_and_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the tests beside it nor a study on this machine has this process wait until they have timed something,
    or takes features of references from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_lock, "FOLDER", tmp_path_factory.mktemp("locks"))
        patch.setenv("EXEUNT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def processes_end() -> Iterator[None]:
    """A process that a test leaves behind would be reported in a later test."""
    yield
    processes.end_all()


@pytest.fixture(scope="session")
def postgres_server() -> postgres.Server:
    """The server that the environment names."""
    return postgres.running()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.Server) -> Iterator[str]:
    """The name of a database with our tables and nothing in them, since copying it takes less time than making it."""
    from exeunt.studies.database.engine import open_engine

    with postgres_server.database() as url:
        open_engine(url).dispose()
        yield str(make_url(url).database)


@pytest.fixture
def postgres_url(
    postgres_server: postgres.Server, postgres_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A database with our tables and nothing in them, and a folder for its files."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "postgres-files"))
    with postgres_server.database(postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """A database without any tables."""
    with postgres_server.database() as url:
        yield url
