"""A first look at proposals on few images."""

from dataclasses import replace

import numpy as np
import pytest
from exeunt.backends.quality.intervals import rank_correlation
from exeunt.backends.schedule import NetworkSignature, Noise
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.proposals.improvement import Bounds
from exeunt.searcher.search.promotion import Measured
from exeunt.searcher.search.rungs import Rung, chosen, counts, falls_short
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.studies.store.records import summarized
from scipy.stats import kendalltau

NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SIGNATURE = NetworkSignature("DiT", "block", (("residual", 6),), None)
FULL = summarized(make_schedule(SIGNATURE, NOISE, "epsilon", num_steps=4))
BOUNDS = Bounds(worst=400.0, slowest=1.0, floor=90.0, least=10.0)


def measured(number: int, quality: float, speed: float = 1.0) -> Measured:
    family = "full" if number == 0 else ""
    candidate = Candidate(f"trial {number}", "trial", family, "own", replace(FULL, digest=str(number)), number)
    return Measured(candidate, quality, quality, speed, quality)


def known(count: int = 30) -> list[Measured]:
    generator = np.random.default_rng(0)
    return [measured(0, 100.0), *(measured(i, 100 + 300 * generator.random()) for i in range(1, count))]


def noisy(deviation: float, bias: float = 50.0):
    """Values on few images: all too large by as much, and each with an error of its own."""

    def few(each: Measured, count: int) -> float:
        own = np.random.default_rng((count, int(each.candidate.stored.digest)))
        return each.quality + bias + deviation * own.standard_normal()

    return few


@pytest.mark.parametrize(
    ("num_images", "batch_size", "found"),
    [(256, 64, [64, 128]), (1024, 64, [128, 256, 512]), (256, 100, [100]), (128, 8, [64]), (96, 8, []), (10, 8, [])],
)
def test_counts_are_whole_batches_between_the_least_and_half(num_images, batch_size, found):
    assert counts(num_images, batch_size) == found


def test_the_fewest_images_that_rank_well_are_taken():
    rung = chosen(known(), [64, 128], noisy(1.0), 10.0)
    assert rung is not None
    assert rung.count == 64
    assert rung.agreement > 0.9
    assert rung.num_compared == 29
    assert rung.error < 0.1


def test_images_that_rank_badly_are_not_taken():
    assert chosen(known(), [64, 128], noisy(300.0), 10.0) is None


def test_nothing_is_taken_before_enough_is_measured():
    assert chosen(known(8), [64], noisy(1.0), 10.0) is None


def test_an_error_that_all_share_does_not_matter():
    exact = chosen(known(), [64], noisy(0.0, bias=1000.0), 10.0)
    assert exact is not None
    assert exact.error == pytest.approx(0.0, abs=1e-12)
    assert exact.agreement == pytest.approx(1.0)


RUNG = Rung(64, 0.9, 0.2, 20)


def test_what_another_schedule_dominates_beyond_errors_falls_short():
    front = [measured(0, 100.0), measured(1, 120.0, 3.0)]
    assert falls_short(100.0, 2.0, front, RUNG, BOUNDS)
    assert not falls_short(25.0, 2.0, front, RUNG, BOUNDS)  # within two errors of the better one
    assert not falls_short(100.0, 4.0, front, RUNG, BOUNDS)  # faster than all


def test_what_nobody_wants_falls_short_at_any_speed():
    assert falls_short(900.0, 50.0, [measured(0, 100.0)], RUNG, BOUNDS)


def test_rank_correlation_is_scipys():
    generator = np.random.default_rng(1)
    first = generator.integers(0, 8, 40).astype(float)
    second = first + generator.integers(0, 8, 40)
    assert rank_correlation(first.tolist(), second.tolist()) == pytest.approx(kendalltau(first, second)[0])
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) == 0.0
