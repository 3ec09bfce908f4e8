"""The closed-form network: what it says is exact is, and its error and cost are known."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_outcome import exact_frechet, exact_moments, moments, shares
from exeunt.backends.errors import InputError
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks.closed_form import Mixture
from exeunt.backends.networks.registry import load_network
from exeunt.backends.plan import Call, Run, Skip
from exeunt.backends.sampling import conditions, loop
from exeunt.backends.schedule import DROP, REUSE, RUN, Schedule, depths, forecast, validate, with_exits
from exeunt.backends.solvers.noise_schedules import marginal
from exeunt.backends.solvers.tables import make_schedule
from scipy.linalg import sqrtm

pytestmark = pytest.mark.cpu

ACTIONS = [RUN, RUN, DROP, REUSE, forecast(1), forecast(2)]


def baseline(network, **arguments) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, **{"num_steps": 10, **arguments})


def random_actions(schedule: Schedule, seed: int) -> Schedule:
    """Any action anywhere after the first step, guidance that changes, and unconditional passes left out or reused."""
    source = random.Random(seed)
    steps = [schedule.steps[0]]
    for step in schedule.steps[1:]:
        blocks = tuple(source.choice(ACTIONS) for _ in step.blocks)
        passes = source.choice(["run", "run", "skip", "reuse"]) if schedule.guidance else "run"
        steps.append(replace(step, blocks=blocks, unconditional=passes))
    validate(made := replace(schedule, steps=tuple(steps)))
    return made


def sampled_weights(network, schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """The mean and each noise's weight along the principal axes, found by sampling no noise and unit noises."""
    count, dim = loop.num_draws(schedule), network.mixture.variances.size
    unit = torch.from_numpy(network.mixture.basis.sum(axis=1)).reshape(network.sample_shape)
    noises = torch.zeros(count, count + 1, *network.sample_shape, dtype=torch.float64)
    for draw in range(count):
        noises[draw, draw + 1] = unit
    labels = torch.zeros(count + 1, dtype=torch.long)
    found = loop.sample_batch([network], schedule, noises[0], noises[1:], labels).reshape(count + 1, dim).numpy()
    along = found @ network.mixture.basis
    return along[0], (along[1:] - along[0]).T


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"order": 1}, {"guidance": 2.0}, {"solver": "ddim", "guidance": 3.0}, {"solver": "ddim", "eta": 0.5},
        {"solver": "ddpm"}, {"solver": "ddpm", "variance": "fixed-large", "guidance": 1.5},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_exact_moments_are_what_the_sampling_loop_does(arguments: dict, prediction: str) -> None:
    """Two ways that share no code: plans on tensors, and the format's definitions on weights of noises."""
    network = load_network("closed-form", dtype=torch.float64, dim=6, num_blocks=4, prediction=prediction)
    for seed in range(2):
        schedule = random_actions(baseline(network, **arguments), seed)
        mean, weights = sampled_weights(network, schedule)
        along = network.mixture.basis
        wanted_mean, covariance = exact_moments(network, schedule)
        scale = max(1.0, float(np.abs(weights).max()))
        assert along @ mean == pytest.approx(wanted_mean, abs=1e-9 * scale)
        assert (along * (weights**2).sum(axis=1)) @ along.T == pytest.approx(covariance, abs=1e-9 * scale**2)


def test_sampled_moments_converge_to_the_exact_ones() -> None:
    network = load_network("closed-form", num_blocks=4)
    schedule = with_exits(baseline(network, solver="ddim", eta=0.5), [3] * 10)
    batches = loop.sample(
        [network], schedule, seed=1, images=range(8000), conditions=conditions.uniform(1), batch_size=4000
    )
    drawn = torch.cat([batch.latents for batch in batches]).flatten(1).double().numpy()
    mean, covariance = exact_moments(network, schedule)
    errors = np.sqrt(np.diag(covariance) / len(drawn))
    assert np.abs(drawn.mean(axis=0) - mean).max() < 5 * errors.max()
    assert np.abs(np.cov(drawn, rowvar=False) - covariance).max() < 6 * covariance.max() / math.sqrt(len(drawn))


def test_exact_frechet_is_the_frechet_distance() -> None:
    network = load_network("closed-form")
    schedule = with_exits(baseline(network), [5] * 10)
    (mean, covariance), (data_mean, data_covariance) = exact_moments(network, schedule), moments(network.mixture)
    root = sqrtm(covariance @ data_covariance).real
    wanted = ((mean - data_mean) ** 2).sum() + np.trace(covariance + data_covariance - 2 * root)
    assert exact_frechet(network, schedule) == pytest.approx(wanted, rel=1e-5)


def test_distance_falls_with_steps_and_depth() -> None:
    network = load_network("closed-form")
    by_steps = [exact_frechet(network, baseline(network, num_steps=num_steps)) for num_steps in (3, 5, 10, 20)]
    assert by_steps == sorted(by_steps, reverse=True)
    by_depth = [exact_frechet(network, with_exits(baseline(network, num_steps=40), [depth] * 40)) for depth in range(9)]
    assert by_depth == sorted(by_depth, reverse=True)
    deep_at_data, deep_at_noise = [4] * 20 + [8] * 20, [8] * 20 + [4] * 20
    early, late = (
        exact_frechet(network, with_exits(baseline(network, num_steps=40), exits))
        for exits in (deep_at_data, deep_at_noise)
    )
    assert sum(deep_at_data) == sum(deep_at_noise)
    assert early < 0.2 * late


@pytest.mark.parametrize("time", [0.0, 250.5, 999.0])
def test_exit_depth_has_the_known_error(time: float) -> None:
    network = load_network("closed-form", components=3, dtype=torch.float64)
    x = torch.randn(5, *network.sample_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times, labels = torch.full((5,), time, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 3])
    exact = network.evaluate(NetworkInput(x, times, labels), None, [])
    errors = []
    for depth in range(9):
        spans = [op for op in (Run(0, depth), Skip(depth, 8)) if op.start < op.stop]
        found = network.evaluate(NetworkInput(x, times, labels), Call(("conditional",), tuple(spans), ()), [])
        left = 1 - shares(8, time / 999)[:depth].sum()
        assert torch.allclose(found, (1 - left) * exact, atol=1e-12)
        errors.append(float((found - exact).abs().max()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
@pytest.mark.parametrize("time", [0.0, 100.0, 700.0, 999.0])
def test_prediction_is_the_score_by_finite_differences(prediction: str, time: float) -> None:
    """epsilon = -sigma * gradient of log density (Tweedie), the density by summing the mixture's Gaussians."""
    network = load_network("closed-form", components=3, dim=4, dtype=torch.float64, prediction=prediction)
    point, mixture = marginal(network.noise, time), network.mixture

    def log_density(x: np.ndarray, component: int | None) -> float:
        centred = x @ mixture.basis - point.alpha * mixture.means
        logs = -0.5 * (centred**2 / (point.alpha**2 * mixture.variances + point.sigma**2)).sum(axis=1)
        return float(np.logaddexp.reduce(logs)) if component is None else float(logs[component])

    x = np.random.default_rng(0).standard_normal(4) * 0.4
    for label, component in ((1, 1), (3, None)):
        step = 1e-5
        score = [(log_density(x + e, component) - log_density(x - e, component)) / (2 * step) for e in np.eye(4) * step]
        epsilon = -point.sigma * np.array(score)
        data = (x - point.sigma * epsilon) / point.alpha
        wanted = {"epsilon": epsilon, "sample": data, "v": point.alpha * epsilon - point.sigma * data}[prediction]
        given = torch.from_numpy(x).reshape(1, *network.sample_shape)
        found = network.evaluate(
            NetworkInput(given, torch.tensor([time], dtype=torch.float64), torch.tensor([label])), None, []
        )
        assert found.flatten().numpy() == pytest.approx(wanted, abs=1e-6 / point.alpha)


def test_full_sampling_gives_the_mixture() -> None:
    network = load_network("closed-form", components=4)
    batches = loop.sample(
        [network],
        baseline(network, num_steps=25),
        seed=0,
        images=range(4000),
        conditions=conditions.uniform(4),
        batch_size=4000,
    )
    drawn = next(iter(batches)).latents.flatten(1).double().numpy()
    mean, covariance = moments(network.mixture)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.02)
    assert np.cov(drawn, rowvar=False) == pytest.approx(covariance, abs=0.02)


def test_drawn_data_has_the_stated_moments() -> None:
    mixture = Mixture.make(3, 5, seed=2)
    drawn, (mean, covariance) = mixture.draw(30_000, seed=0), moments(mixture)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.01)
    assert np.cov(drawn, rowvar=False) == pytest.approx(covariance, abs=0.01)


def test_decode_is_grey() -> None:
    network = load_network("closed-form", dim=6)
    x = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0]).reshape(1, *network.sample_shape)
    images = network.decode(x)
    assert tuple(images.shape[1:]) == network.image_shape == (3, 2, 3)
    assert [images[0, c].flatten().tolist() for c in range(3)] == [[0, 0, 128, 191, 255, 255]] * 3


def test_cost_is_proportional_to_depth() -> None:
    network = load_network("closed-form", num_blocks=8)
    base = network.flops(())
    one = network.flops((0,)) - base
    assert [network.flops(range(d)) - base for d in range(9)] == [d * one for d in range(9)]
    assert depths(with_exits(baseline(network), [3] * 10)) == [3] * 10


def test_bad_arguments_are_told() -> None:
    for name in ("components", "dim", "num_blocks"):
        with pytest.raises(InputError, match=f"{name}: must be at least 1"):
            load_network("closed-form", **{name: 0})
    network = load_network("closed-form", components=2)
    with pytest.raises(InputError, match="linear for 1 alone"):
        exact_moments(network, baseline(network))
    single = load_network("closed-form")
    with pytest.raises(InputError, match="without clip"):
        exact_moments(single, baseline(single, clip=1.0))
