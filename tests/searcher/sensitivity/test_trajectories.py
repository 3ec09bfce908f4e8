"""Trajectories that leave the full one at a step, against whole ones from noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_outcome import shares
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.quality.distances import paired_distance
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.loop import Samples, sample
from exeunt.backends.schedule import Guidance, Schedule
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.sensitivity.grid import Choices, Grid, make_grids
from exeunt.searcher.sensitivity.paths import ErrorTable, best_paths, predicted
from exeunt.searcher.sensitivity.trajectories import FullTrajectories
from exeunt.searcher.spaces.frame import FullSchedule

IMAGES, SEED = range(8), 5


@pytest.fixture(scope="module")
def network() -> ClosedFormNetwork:
    found = load_network("closed-form", "cpu", torch.float64, num_blocks=6)
    assert isinstance(found, ClosedFormNetwork)
    return found


def latents(batches: list[Samples]) -> np.ndarray:
    return np.concatenate([batch.images.flatten(1).numpy() for batch in batches]).astype(np.float64)


def trajectories(network: ClosedFormNetwork, grid: Grid) -> FullTrajectories:
    return FullTrajectories(
        network,
        grid,
        seed=SEED,
        images=IMAGES,
        conditions=uniform(network.num_classes),
        batch_size=5,
        extract=latents,
        check=lambda: None,
    )


def sampled(network: ClosedFormNetwork, schedule: Schedule) -> np.ndarray:
    conditions = uniform(network.num_classes)
    return latents(list(sample([network], schedule, seed=SEED, images=IMAGES, conditions=conditions, batch_size=8)))


def grid_of(network: ClosedFormNetwork, **options: object) -> Grid:
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=6, **options)  # type: ignore[arg-type]
    choices = Choices((6,), (1, 4), ("drop", "reuse", "forecast-1"))
    return make_grids(FullSchedule(full, "log-snr"), choices)[0]


@pytest.mark.parametrize("options", [{}, {"solver": "ddpm"}, {"guidance": Guidance(2.0)}], ids=str)
def test_leaving_late_is_sampling_from_noise(network: ClosedFormNetwork, options: dict[str, object]) -> None:
    grid = grid_of(network, **options)
    found = trajectories(network, grid)
    assert np.array_equal(found.features(), sampled(network, grid.full))
    chains = [(s, chain) for s in range(6) for chain in grid.chains(s)]
    assert {len(chain) for _, chain in chains} == {1, 2}
    for s, chain in chains[:: 1 if not options else 5]:
        assert np.array_equal(found.leave(s, chain).features, sampled(network, grid.schedule(s, chain)))


def test_local_errors_are_those_of_the_closed_form(network: ClosedFormNetwork) -> None:
    """Depth d makes the sum of the first shares of the prediction."""
    grid = grid_of(network)
    found = trajectories(network, grid)
    for s, step in enumerate(grid.full.steps):
        for chain in grid.chains(s):
            error = found.leave(s, chain).output_error
            if len(chain) > 1:
                assert np.isnan(error)
            elif chain[0].stand_in == "drop":
                left = shares(6, step.time / 999)[chain[0].depth :].sum()
                assert error == pytest.approx(left, rel=1e-6)


def test_samples_that_are_not_finite_are_told(network: ClosedFormNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(network)
    found = trajectories(network, grid)
    evaluate = network.evaluate
    monkeypatch.setattr(network, "evaluate", lambda *given: evaluate(*given) * torch.nan)
    assert np.isnan(found.leave(0, grid.options[:1]).features).all()


def test_interactions_make_neighbouring_changes_exact(network: ClosedFormNetwork) -> None:
    """Where all that a path changes was measured together, its loss is predicted to rounding; and without it isn't."""
    grid = replace(grid_of(network), pairs=True)
    found = trajectories(network, grid)
    base = found.features()

    def vector(features: np.ndarray) -> np.ndarray:
        return (features - base).ravel() / np.sqrt(len(base))

    errors = {(s, chain): vector(found.leave(s, chain).features) for s in range(6) for chain in grid.chains(s)}
    table = ErrorTable(grid, vector(base), errors)
    deep, reuse = grid.options[1], next(each for each in grid.options if each.stand_in == "reuse")
    for path in ((None, None, deep, deep, None, None), (None, reuse, reuse, None, None, None)):
        measured = paired_distance(sampled(network, grid.path_schedule(path)), base).value
        assert predicted(table, path, "path") == pytest.approx(measured)
        assert predicted(table, path, "additive") != pytest.approx(measured, rel=0.05)
    front = best_paths(table, "path")
    assert front[-1].loss == 0  # the full schedule itself
