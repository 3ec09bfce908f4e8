"""Every format there and back: what is read makes the images of what was written, in our sampler, on a live pipeline
and in the NumPy sampler over ONNX graphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import exeunt
import numpy as np
import pytest
import torch
from exeunt.backends.formats.onnx.export import SCHEDULE, export_onnx
from exeunt.backends.formats.registry import FORMATS
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.schedule import DROP, REUSE, RUN, Schedule
from onnx_folders import assert_same_images
from pipeline_runs import PROMPTS, Bench, difference, with_actions
from tiny_pipelines import tiny
from torch import nn

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

NUM_STEPS, NUM_BLOCKS = 6, 4


@pytest.fixture(scope="module")
def made() -> dict[str, Bench]:
    return {}


@pytest.fixture
def bench(request: pytest.FixtureRequest, made: dict[str, Bench]) -> Bench:
    kind = request.param
    if kind not in made:
        network = DiffusersNetwork.from_pipeline(pipeline(kind), name=kind)
        if network.condition_kind == "prompts":
            network.embed(PROMPTS)
        made[kind] = Bench(kind, pipeline(kind), network)
    return made[kind]


def pipeline(kind: str) -> Any:
    """Its weights are large enough for every block to show in the images."""
    pipe = tiny(kind, num_layers=NUM_BLOCKS)
    torch.manual_seed(1)
    for parameter in pipe.transformer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return pipe


def any_actions(bench: Bench) -> Schedule:
    return with_actions(bench.schedule(NUM_STEPS))


def fewer_blocks(bench: Bench) -> Schedule:
    """An exit at each step."""
    full, depths = bench.schedule(NUM_STEPS), (2, 2, 3, 4, 1, 3)
    rows = ((RUN,) * depth + (DROP,) * (NUM_BLOCKS - depth) for depth in depths)
    return with_rows(full, rows)


def cached_middle(bench: Bench) -> Schedule:
    """The first and the last block always run, those between at steps 0, 2 and 3."""
    cached = (RUN, REUSE, REUSE, RUN)
    return with_rows(bench.schedule(NUM_STEPS), ((RUN,) * 4 if s in (0, 2, 3) else cached for s in range(NUM_STEPS)))


def cached_branches(bench: Bench) -> Schedule:
    """Each attention and each MLP is computed at steps of its own."""
    full = replace(bench, network=bench.network.at("branch")).schedule(NUM_STEPS)
    random = np.random.default_rng(0).integers(2, size=(NUM_STEPS, full.networks[0].num_blocks))
    return with_rows(full, (tuple(RUN if s == 0 or bit else REUSE for bit in row) for s, row in enumerate(random)))


def every_block(bench: Bench) -> Schedule:
    return bench.schedule(NUM_STEPS - 1)


def with_rows(schedule: Schedule, rows: Any) -> Schedule:
    steps = tuple(replace(step, blocks=row) for step, row in zip(schedule.steps, rows, strict=True))
    return replace(schedule, steps=steps)


# What each format can express, on the networks that it knows.
CASES: list[tuple[str, str, Callable[[Bench], Schedule]]] = [
    ("dit", "exeunt", any_actions),
    ("dit", "schedule", any_actions),
    ("dit", "ase", fewer_blocks),
    ("dit", "smoothcache", cached_branches),
    ("dit", "cache-dit", cached_middle),
    ("dit", "timesteps", every_block),
    ("pixart-alpha", "exeunt", any_actions),
    ("pixart-alpha", "schedule", any_actions),
    ("pixart-alpha", "ase", fewer_blocks),
    ("pixart-alpha", "smoothcache", cached_branches),
    ("pixart-alpha", "ecad", cached_branches),
    ("pixart-alpha", "cache-dit", cached_middle),
    ("pixart-alpha", "timesteps", every_block),
]
over_cases = pytest.mark.parametrize(
    ("bench", "name", "make"), CASES, indirect=["bench"], ids=[f"{kind}-{name}" for kind, name, _ in CASES]
)


def there_and_back(bench: Bench, name: str, schedule: Schedule) -> Schedule:
    """Written in a format and read again, on another schedule's solver and guidance where the file has none."""
    whole = name in ("exeunt", "schedule")
    base = None if whole else bench.schedule(NUM_STEPS - 1 if name == "timesteps" else NUM_STEPS)
    form = FORMATS[name]
    assert form.read is not None
    return form.read(form.write(schedule), base)


def test_every_format_is_here() -> None:
    assert {name for _, name, _ in CASES} == set(FORMATS)


@over_cases
def test_same_images_here_and_on_a_live_pipeline(bench: Bench, name: str, make: Callable[[Bench], Schedule]) -> None:
    schedule = make(bench)
    read, wanted = there_and_back(bench, name, schedule), bench.sampled(schedule)
    assert torch.equal(bench.sampled(read), wanted)
    exeunt.apply(bench.pipe, read)
    try:
        assert difference(bench.piped(**bench.arguments(read)), wanted) < 1e-4
    finally:
        exeunt.remove(bench.pipe)
    if make is not every_block:
        full = bench.piped(**exeunt.call_arguments(bench.schedule(NUM_STEPS), bench.pipe))
        assert difference(full, wanted) > 1e-3


@pytest.mark.slow
@over_cases
def test_same_images_in_the_numpy_sampler(
    bench: Bench, name: str, make: Callable[[Bench], Schedule], tmp_path: Path
) -> None:
    schedule = make(bench)
    read = there_and_back(bench, name, schedule)
    network = bench.network.at(read.networks[0].granularity)
    export_onnx([network], read, tmp_path / "out")
    assert_same_images([network], schedule, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("bench", ["dit", "pixart-alpha"], indirect=True)
def test_the_schedule_of_an_onnx_folder_makes_its_images(bench: Bench, tmp_path: Path) -> None:
    schedule, full = cached_middle(bench), bench.schedule(NUM_STEPS)
    export_onnx([bench.network], schedule, tmp_path / "out")
    assert_same_images([bench.network], schedule, tmp_path / "out")
    read = exeunt.load_schedule(tmp_path / "out" / SCHEDULE)
    assert torch.equal(bench.sampled(read), bench.sampled(schedule))
    exeunt.apply(bench.pipe, read)
    assert difference(bench.piped(**bench.arguments(read)), bench.sampled(schedule)) < 1e-4
    exeunt.remove(bench.pipe)
    assert difference(bench.sampled(full), bench.sampled(schedule)) > 1e-3
