"""The closed-form network on every noise: sampled to the end by every solver, and exact where that is known."""

import numpy as np
import pytest
import torch
from exact_outcome import exact_frechet, exact_moments
from exeunt.backends.errors import InputError
from exeunt.backends.networks.closed_form import NAMED_NOISES
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling import loop
from exeunt.backends.schedule import REUSE, Schedule, forecast, validate, with_exits
from exeunt.backends.solvers.path import PREDICTION_CONVERSIONS
from exeunt.backends.solvers.tables import SOLVER_TABLE, make_schedule

EVERY = [
    pytest.param(noise, prediction, name, id=f"{name}, {noise}, {prediction}")
    for noise, kind in NAMED_NOISES.items()
    for name, solver in SOLVER_TABLE.items()
    for prediction in PREDICTION_CONVERSIONS[kind.kind]
    if kind.kind in solver.noises and (prediction != "edm" or kind.kind == "edm")
]

PAIRS = [
    (noise, name)
    for noise in ("linear", "vp", "edm", "flow")
    for name, solver in SOLVER_TABLE.items()
    if NAMED_NOISES[noise].kind in solver.noises
]


def baseline(network, **arguments) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, **{"num_steps": 10, **arguments})


@pytest.mark.parametrize(("noise", "prediction", "solver"), EVERY)
def test_every_solver_samples_as_the_formats_definitions_say(noise: str, prediction: str, solver: str) -> None:
    """The sampling loop on unit noises, against weights of noises that share no code with it; some blocks stand in."""
    network = load_network("closed-form", dtype=torch.float64, dim=4, num_blocks=4, prediction=prediction, noise=noise)
    full = baseline(network, solver=solver)
    validate(schedule := with_exits(full, [4, 4, 4] + [2] * (full.num_steps - 3), forecast(1)))
    count = loop.num_draws(schedule)
    noises = torch.zeros(count, count + 1, *network.sample_shape, dtype=torch.float64)
    for draw in range(count):
        noises[draw, draw + 1] = torch.from_numpy(network.mixture.basis.sum(axis=1)).reshape(network.sample_shape)
    labels = torch.zeros(count + 1, dtype=torch.long)
    found = loop.sample_batch([network], schedule, noises[0], noises[1:], labels).reshape(count + 1, -1).numpy()
    weights = (found[1:] - found[0]) @ network.mixture.basis
    mean, covariance = exact_moments(network, schedule)
    assert found[0] == pytest.approx(mean, abs=1e-8 * np.abs(found).max())
    along = (network.mixture.basis * (weights**2).sum(axis=0)) @ network.mixture.basis.T
    assert along == pytest.approx(covariance, abs=1e-8 * np.abs(covariance).max())


@pytest.mark.parametrize(("noise", "solver"), PAIRS)
def test_the_distance_to_the_data_falls_with_steps(noise: str, solver: str) -> None:
    network = load_network("closed-form", num_blocks=1, noise=noise)
    steps = (40, 160, 640) if solver in ("ddpm", "euler-maruyama") else (10, 20, 40)
    distances = [exact_frechet(network, baseline(network, solver=solver, num_steps=count)) for count in steps]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.02


@pytest.mark.parametrize("noise", ["linear", "cosine", "vp", "edm", "flow"])
def test_depth_and_reuse_cost_quality_on_every_noise(noise: str) -> None:
    network = load_network("closed-form", noise=noise)
    full = baseline(network, solver="dpmsolver++", num_steps=40)
    by_depth = [exact_frechet(network, with_exits(full, [depth] * full.num_steps)) for depth in (8, 6, 4, 2)]
    assert by_depth == sorted(by_depth)
    reused = with_exits(full, [8 if s % 2 == 0 else 2 for s in range(full.num_steps)], REUSE)
    assert exact_frechet(network, reused) > by_depth[0]


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="Use one of linear, cosine, vp, edm, flow"):
        load_network("closed-form", noise="flw")
    with pytest.raises(InputError, match="prediction: must be one of flow, sample"):
        load_network("closed-form", noise="flow", prediction="v")
