"""`benchmarks/survive.py`: it notices what is lost, doubled or left behind, and finds nothing of it after kills."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.tables import CHUNKS
from exeunt.studies.database.transactions import writing
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import Store
from exeunt.studies.workers.workers import Worker

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FEATURES = np.ones((4, 3), dtype=np.float32)


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("survive_observer")


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


@pytest.fixture
def worked(artifacts: None, store: Store, make_key: Callable[..., EvaluationKey]) -> Store:
    """A database with two chunks, whose worker has ended."""
    store.studies.put_config(StudyConfig())
    with Worker(store, "demo") as worker:
        claim = store.evaluations.claim(make_key(), worker.owner, 60.0, "demo")
        assert claim is not None
        for first in (0, 4):
            store.evaluations.commit_chunk(claim, first, FEATURES, 0.1)
        store.evaluations.release(claim)
    return store


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXEUNT_ARTIFACTS", str(tmp_path / "artifacts"))


def test_rows_that_go_or_change_are_lost(worked: Store, url: str, observer: ModuleType) -> None:
    with observer.Observer(url) as watching:
        end = time.monotonic() + 30
        while watching.looks == 0:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert watching.lost() == []
        with writing(worked.engine) as connection:
            connection.execute(CHUNKS.delete().where(CHUNKS.c.first_image == 0))
            connection.execute(CHUNKS.update().where(CHUNKS.c.first_image == 4).values(sha256="0" * 64))
        assert [key[2] for key in watching.lost()] == [0, 4]


def test_images_that_are_there_twice_are_doubled(worked: Store, observer: ModuleType) -> None:
    assert observer.duplicated(worked.engine) == 0
    with writing(worked.engine) as connection:
        connection.execute(CHUNKS.update().where(CHUNKS.c.first_image == 4).values(first_image=3))
    assert observer.duplicated(worked.engine) == 1


def test_claims_and_workers_without_an_end_are_zombies(
    worked: Store, make_key: Callable[..., EvaluationKey], observer: ModuleType
) -> None:
    assert observer.zombies(worked.engine) == []
    with Worker(worked, "demo") as worker:
        claim = worked.evaluations.claim(make_key(seed=1), worker.owner, 60.0, "demo")
        assert claim is not None
        assert observer.zombies(worked.engine) == [f"lease evaluation {claim.evaluation}", worker.owner]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_workers_are_killed_and_nothing_is_lost(storage: str) -> None:
    words = ["--storage", storage, "--workers", "2", "--kills", "3", "--trials", "6"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "survive.py"), *words], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [found["figures"][name] for name in ("lost", "duplicated", "zombies")] == [0, 0, 0]
    kills = found["scenarios"]["kills"]
    assert kills["kills"] == 3
    assert kills["same_as_undisturbed"]
    assert kills["findings"] == []
    assert kills["images_lost_per_kill"] <= kills["chunk_images"]
