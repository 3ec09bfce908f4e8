"""What surrogates foretell, on the closed-form network whose outcomes are known exactly."""

import numpy as np
import pytest
from exact_outcome import exact_vector
from exeunt.backends.networks.registry import load_network
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.proposals.descriptions import Descriptions, describe
from exeunt.searcher.proposals.surrogate import Outcomes, Surrogate
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.searcher.spaces.free import require_free
from free_spaces import varied
from scipy.stats import kendalltau


@pytest.fixture(scope="module")
def measured() -> tuple[Descriptions, np.ndarray]:
    """Descriptions and exact vectors of a walk of schedules."""
    network = load_network("closed-form")
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=12)
    space = require_free(make_space("free", FullSchedule(full, "log-snr")), "front")
    points = list(dict.fromkeys(varied(space, 160)))
    np.random.default_rng(0).shuffle(points)
    return describe(space, points), np.stack([exact_vector(network, space.schedule(point)) for point in points])


def split(measured: tuple[Descriptions, np.ndarray]) -> tuple[Descriptions, np.ndarray, Descriptions, np.ndarray]:
    described, vectors = measured
    return described[:90], vectors[:90], described[90:], vectors[90:]


@pytest.mark.parametrize("outcomes", [Outcomes.around_mean, Outcomes.around_zero])
def test_it_ranks_schedules_that_it_has_not_seen(measured, outcomes):
    known, vectors, others, truth = split(measured)
    lengths, _ = (model := Surrogate(known, outcomes(vectors), None, 30)).squared_lengths(*model.coordinates(others))
    assert kendalltau(lengths, (truth**2).sum(axis=1)).statistic > 0.5


def test_it_foretells_what_it_was_told(measured):
    known, vectors, *_ = split(measured)
    model = Surrogate(known, Outcomes.around_mean(vectors), None, 30)
    means, variances = model.squared_lengths(*model.coordinates(known))
    true = (vectors**2).sum(axis=1)
    assert kendalltau(means, true).statistic > 0.9
    assert (variances >= 0).all()


def test_what_is_left_out_is_foretold_as_if_it_had_not_been_seen(measured):
    """The closed form of leaving one out equals fitting without it."""
    known, vectors, *_ = split(measured)
    outcomes = Outcomes(vectors, np.zeros(vectors.shape[1]), np.ones(len(vectors)), 3)
    model = Surrogate(known, outcomes, None, 10)
    means, variances = model.left_out()
    for i in (0, 17, 60):
        kept = np.arange(len(vectors)) != i
        other = Surrogate(known[kept], Outcomes(vectors[kept], outcomes.centre, np.ones(89), 3), model.parameters, 0)
        other._components, other._scales = model._components, model._scales
        other._coordinates = vectors[kept] @ model._components.T / model._scales
        other._solve()
        mean, variance = other.coordinates(known[i : i + 1])
        np.testing.assert_allclose(mean[0], means[i], rtol=1e-4, atol=1e-7)
        noise = np.exp(model.parameters[-1]) * model._scales**2  # which is told too
        np.testing.assert_allclose(variance[0] + noise, variances[i], rtol=1e-3)


def test_single_numbers_keep_their_sign():
    random = np.random.default_rng(0)
    described = Descriptions(random.normal(size=(30, 12, 10)), np.zeros((30, 1)), np.ones((30, 4)))
    values = -3.0 + described.local[:, :, 1].mean(axis=1)
    model = Surrogate(described, Outcomes(values[:, None], np.zeros(1), np.ones(30), 1), None, 20)
    means, _ = model.single(*model.coordinates(described))
    np.testing.assert_allclose(means, values, atol=0.1)
