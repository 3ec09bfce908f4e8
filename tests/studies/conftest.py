"""A schedule, the question that an evaluation answers about it, and an empty database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from exeunt.backends.schedule import DROP, RUN, NetworkSignature, Noise, Sampler, Schedule, Step
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import Store, open_store
from stored import put_schedule

NOISE = Noise(kind="linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SAMPLER = Sampler(
    name="ddim", prediction="epsilon", time="train-index", noise=NOISE, variant=None, order=1, lower_order_final=True,
    final="zero", initial_scale=1.0, clip=None, variance="none", sigma_data=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet_optuna() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(level)


@pytest.fixture
def make_schedule() -> Callable[[int], Schedule]:
    """Two steps of four blocks, the second of which exits at the given depth."""
    signature = NetworkSignature("DiT", "block", (("residual", 4),), None)

    def make(depth: int) -> Schedule:
        steps = (Step(time=999.0, blocks=(RUN,) * 4), Step(time=1.0, blocks=(RUN,) * depth + (DROP,) * (4 - depth)))
        return Schedule(networks=(signature,), sampler=SAMPLER, steps=steps)

    return make


@pytest.fixture
def make_key(make_schedule: Callable[[int], Schedule]) -> Callable[..., EvaluationKey]:
    """The question about the schedule of a depth, on a seed."""

    def make(depth: int = 4, seed: int = 0) -> EvaluationKey:
        digest = make_schedule(depth).digest
        return EvaluationKey(digest, "w" * 64, "uniform", seed, "extractor", "float32", "eager")

    return make


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "exeunt.db"


@pytest.fixture
def url(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either_url(request: pytest.FixtureRequest, database: Path) -> str:
    """Databases on both engines, one after the other."""
    return f"sqlite:///{database}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(url: str, make_schedule: Callable[[int], Schedule]) -> Iterator[Store]:
    """An open database with the schedules of depths 1 to 4."""
    with open_store(url) as opened:
        for depth in range(1, 5):
            put_schedule(opened, make_schedule(depth))
        yield opened
