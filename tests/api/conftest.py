"""Pipelines that tests put schedules on, made once."""

from collections.abc import Iterator

import exeunt
import pytest
from pipeline_runs import Bench


@pytest.fixture(scope="session")
def made() -> dict[str, Bench]:
    return {}


@pytest.fixture
def bench(request: pytest.FixtureRequest, made: dict[str, Bench]) -> Iterator[Bench]:
    """A pipeline of the kind that the test asks for by `each`, without a schedule before and after."""
    kind = request.param
    if kind not in made:
        made[kind] = Bench.of(kind)
    yield made[kind]
    exeunt.remove(made[kind].pipe)
