"""Schedules on live pipelines: images equal those of `exeunt.sample`, requests never meet, nothing stays behind."""

import exeunt
import pytest
from pipeline_runs import USUAL, Bench, difference, with_actions

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def benches() -> dict[str, Bench]:
    return {kind: Bench.of(kind) for kind in USUAL}


@pytest.mark.parametrize("kind", USUAL)
def test_images_equal_those_of_sample(kind: str, benches: dict[str, Bench]) -> None:
    bench = benches[kind]
    schedule = with_actions(bench.schedule())
    exeunt.apply(bench.pipe, schedule)
    found = bench.piped(**bench.arguments(schedule))
    exeunt.remove(bench.pipe)
    assert difference(found, bench.sampled(schedule)) < 1e-4
