"""Models of the excess: what they say of schedules of which nothing is known."""

import numpy as np
from exeunt.searcher.proposals.descriptions import BINS, LOCAL, Descriptions
from exeunt.searcher.proposals.models import DOUBT, Direct


def points(works: np.ndarray, seed: int) -> Descriptions:
    """So many points far from each other, with that many blocks that run."""
    generator = np.random.default_rng(seed)
    work = np.stack([np.ones_like(works), works / 4, works, np.zeros_like(works)], axis=1)
    return Descriptions(10 * generator.normal(size=(len(works), BINS, LOCAL[-1][1])), np.zeros((len(works), 0)), work)


def direct(works: np.ndarray, values: np.ndarray, rest: float = 0.0) -> Direct:
    return Direct(points(works, 0), values, lambda each: np.log(each.work[:, 2]), rest, 1e-12, None, 30)


def test_of_what_is_not_known_the_cheap_is_worse():
    works = np.geomspace(10, 100, 12)
    model = direct(works, 8 - 2 * np.log(works))
    means, deviations = model.predict(points(np.array([20.0, 40.0, 80.0]), 1))
    slopes = np.diff(means) / np.log(2)
    assert np.all((slopes > -2) & (slopes < -1.8))  # drawn to 0 by a little
    assert np.all(means > 8 - 2 * np.log([20, 40, 80]) + DOUBT / 2)
    assert np.all(deviations > 0)


def test_what_costs_more_is_never_taken_for_worse():
    works = np.geomspace(10, 100, 12)
    means, _ = direct(works, np.log(works)).predict(points(np.array([20.0, 80.0]), 1))
    assert means[0] == means[1]


def test_nothing_is_better_than_what_all_have():
    works = np.geomspace(10, 100, 12)
    means, deviations = direct(works, -4 * np.log(works), rest=0.5).predict(points(np.array([15.0, 1e6]), 1))
    assert np.log(0.5) <= means[1] < means[0]
    assert deviations[1] < deviations[0]
