"""Optuna's own tests of a storage, on ours."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.optuna.storage import StudyStorage, optuna_storage
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in them, since copying it takes less time than making it."""
    path = tmp_path_factory.mktemp("empty") / "exeunt.db"
    open_engine(f"sqlite:///{path}").dispose()
    return path


class TestStudyStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, empty: Path, database: Path) -> Iterator[StudyStorage]:
        shutil.copy(empty, database)
        engine = open_engine(f"sqlite:///{database}")
        yield optuna_storage(engine)
        engine.dispose()

    def test_pickle_storage(self, storage: BaseStorage) -> None:
        """Nothing of ours is pickled: each process opens the database by its URL."""
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            pickle.dumps(storage)


@pytest.mark.slow  # half a second a test for Optuna's own migrations; the default run has `test_trials.py` on a server
@pytest.mark.postgres
class TestOnAServer(TestStudyStorage):
    @pytest.fixture
    def storage(self, postgres_url: str) -> Iterator[StudyStorage]:
        engine = open_engine(postgres_url)
        yield optuna_storage(engine)
        engine.dispose()
