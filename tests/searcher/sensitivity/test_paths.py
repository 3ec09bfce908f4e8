"""Dynamic programming against all paths, each of whose losses is worked out by the definition."""

import math
from itertools import product

import numpy as np
import pytest
from exeunt.backends.schedule import NetworkSignature, Noise, block_evaluations
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.sensitivity.grid import Choices, Grid, Option, make_grids
from exeunt.searcher.sensitivity.paths import MODES, ErrorTable, Mode, Path, Vector, best_paths, predicted
from exeunt.searcher.spaces.frame import FullSchedule

NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


@pytest.fixture(scope="module")
def table() -> ErrorTable:
    """Five steps of six blocks with random errors; exits, and values that are read at most twice in a row."""
    network = NetworkSignature("DiT", "block", (("residual", 6),))
    frame = FullSchedule(make_schedule(network, NOISE, "epsilon", num_steps=5), "log-snr")
    choices = Choices(step_counts=(5,), depths=(1, 4), stand_ins=("drop", "reuse"), cached_depths=1)
    (grid,) = make_grids(frame, choices)
    random = np.random.default_rng(0)
    errors = {(s, chain): random.standard_normal(3) for s in range(5) for chain in grid.chains(s)}
    return ErrorTable(grid, random.standard_normal(3), errors)


def loss(table: ErrorTable, path: Path, mode: Mode) -> float | None:
    """The loss of a path from what its steps and the steps before them do; None where a value is read too late."""
    errors: list[Vector] = []
    for s, option in enumerate(path):
        if option is None:
            continue
        age = 0
        while age < s and option.stand_in == "reuse" and path[s - 1 - age] == option:
            age += 1
        if option.stand_in == "reuse" and (age >= 2 or age == s or path[s - 1 - age] is not None):
            return None
        before = path[s - 1] if s else None
        chain = (option,) * (age + 1)
        if option.stand_in == "drop" and before is not None and before.stand_in == "drop":
            chain = (before, option)
        own = table.errors[s, (option,)]
        if mode == "path" and len(chain) > 1:
            own = table.errors[s, chain] - table.errors[s - 1, chain[:-1]]
        errors.append(own)
    if mode == "additive":
        return float(table.own @ table.own + sum(error @ error for error in errors))
    total = table.own + sum(errors)
    return float(total @ total)


@pytest.mark.parametrize("mode", MODES)
def test_the_front_is_that_of_all_paths(table: ErrorTable, mode: Mode) -> None:
    best: dict[int, float] = {}
    for path in product((None, *table.grid.options), repeat=5):
        value = loss(table, path, mode)
        if value is None:
            with pytest.raises(KeyError):
                predicted(table, path, mode)
            continue
        assert predicted(table, path, mode) == pytest.approx(value)
        cost = sum(table.grid.cost(s, option) for s, option in enumerate(path))
        best[cost] = min(best.get(cost, math.inf), value)
    front = {
        cost: low for cost, low in best.items() if low < min((best[c] for c in best if c < cost), default=math.inf)
    }
    found = best_paths(table, mode, width=10_000)
    assert {each.cost: each.loss for each in found} == pytest.approx(front)
    assert [block_evaluations(table.grid.path_schedule(each.path)) for each in found] == sorted(front)


def test_what_was_not_measured_is_no_option(table: ErrorTable) -> None:
    (first, *_) = table.grid.options
    left = {key: error for key, error in table.errors.items() if key != (2, (first,))}
    fewer = ErrorTable(table.grid, table.own, left)
    assert any(each.path[2] == first for each in best_paths(table, "path"))
    assert not any(each.path[2] == first for each in best_paths(fewer, "path"))


def test_a_narrow_front_is_near_the_exact_one(table: ErrorTable) -> None:
    wide = {each.cost: each.loss for each in best_paths(table, "path", width=10_000)}
    narrow = {each.cost: each.loss for each in best_paths(table, "path", width=4)}
    assert max(narrow[cost] / wide[cost] for cost in narrow.keys() & wide.keys()) < 1.5


def test_stages_of_a_unet_are_reused_and_not_dropped() -> None:
    network = NetworkSignature("UNet", "block", (("replace", 7),))
    frame = FullSchedule(make_schedule(network, NOISE, "epsilon", num_steps=10), "log-snr")
    grids = make_grids(frame, Choices(depths=(2,)))
    assert {option for grid in grids for option in grid.options} == {Option(2, "reuse")}
    assert [grid.num_steps for grid in grids] == [10, 5, 3]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (Choices(depths=(6,)), "depths: must be from 1 to 5"),
        (Choices(step_counts=(50,)), "step-counts: must be from 2 to the full schedule's 5, but got 50"),
    ],
)
def test_what_the_network_does_not_have_is_refused(table: ErrorTable, choices: Choices, message: str) -> None:
    grid: Grid = table.grid
    with pytest.raises(Exception, match=message):
        make_grids(FullSchedule(grid.full, "log-snr"), choices)
