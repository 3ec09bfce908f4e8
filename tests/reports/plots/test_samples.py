"""Sample grids from the closed-form network, which really runs."""

from dataclasses import replace

import numpy as np
import pytest
from exeunt.backends.network import Network
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import with_exits
from exeunt.backends.solvers.tables import make_schedule
from exeunt.reports.plots.samples import GridInfo, draw_samples, sample_grid, strip
from exeunt.reports.plots.style import png
from exeunt.reports.view.selection import Highlight, highlights
from exeunt.reports.view.view import StudyView
from exeunt.studies.store.records import summarized

pytestmark = pytest.mark.cpu


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network("closed-form", dim=64, num_blocks=4, components=3)


@pytest.fixture(scope="module")
def toy(view: StudyView, network: Network) -> StudyView:
    """The full schedule of the toy network and one that leaves early, in place of the view's first two points."""
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=4)
    early = replace(
        view.points[0], label="exit 2", family="", role="trial", stored=summarized(with_exits(full, [2] * 4))
    )
    return replace(view, points=(replace(view.points[0], label="full", stored=summarized(full)), early))


@pytest.fixture(scope="module")
def grid(toy: StudyView, network: Network) -> GridInfo:
    chosen = [Highlight("first", toy.points[0]), Highlight("second", toy.points[1])]
    return sample_grid(
        toy,
        chosen,
        {each.point.weights: [network] for each in chosen},
        uniform(3),
        seed=1,
        images=range(5),
    )


def test_a_grid_holds_what_the_sampler_gives(toy: StudyView, network: Network, grid: GridInfo) -> None:
    assert [row.title for row in grid.rows] == ["full", "exit 2"]
    for row, point in zip(grid.rows, toy.points, strict=True):
        batches = sample([network], point.schedule, seed=1, images=range(5), conditions=uniform(3), batch_size=2)
        expected = np.concatenate([batch.images.permute(0, 2, 3, 1).numpy() for batch in batches])
        assert row.images.shape == (5, 8, 8, 3)
        assert np.abs(row.images.astype(int) - expected).max() <= 1


def test_columns_share_their_noise(grid: GridInfo) -> None:
    full, early = (row.images.astype(float) for row in grid.rows)
    same = np.abs(full - early).mean()
    other = np.abs(full - np.roll(early, 1, axis=0)).mean()
    assert same < other


def test_rows_say_why_they_are_there_and_what_they_gain(toy: StudyView, grid: GridInfo) -> None:
    speedup = toy.speedup(toy.points[1])
    assert speedup is not None
    assert grid.rows[1].notes == ("second", f"{speedup.value:.2f} × as fast, no loss")
    assert highlights(toy)[0].point.label == "full"


def test_a_strip_sets_images_apart(grid: GridInfo) -> None:
    row = strip(grid.rows[0].images)
    assert row.shape == (8, 5 * 9 - 1, 3)
    assert (row[:, 8] == 255).all()
    assert (row[:, :8] == grid.rows[0].images[0]).all()


def test_a_grid_can_be_drawn(grid: GridInfo) -> None:
    assert png(draw_samples(grid), dpi=60).startswith(b"\x89PNG")
