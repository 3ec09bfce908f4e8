"""Noise schedules: held against diffusers' betas, their own inverses, and the definitions of the processes."""

import math

import numpy as np
import pytest
from diffusers import DDPMScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Noise
from exeunt.backends.solvers import noise_schedules as ns
from hypothesis import given, settings
from hypothesis import strategies as st

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SCALED = Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)
COSINE = Noise("cosine", num_train_timesteps=1000)
LISTED = Noise("betas", betas=tuple(np.linspace(0.01, 0.3, 50).tolist()))
VP = Noise("vp", beta_min=0.1, beta_max=20.0)
NOISES = [LINEAR, SCALED, COSINE, LISTED, VP]


@pytest.mark.parametrize(
    ("noise", "name"), [(LINEAR, "linear"), (SCALED, "scaled_linear"), (COSINE, "squaredcos_cap_v2")]
)
def test_alpha_bars_equal_diffusers(noise: Noise, name: str) -> None:
    options = {} if noise is COSINE else {"beta_start": noise.beta_start, "beta_end": noise.beta_end}
    theirs = DDPMScheduler(beta_schedule=name, **options).alphas_cumprod.numpy()
    assert np.exp(ns.log_alpha_bars(noise)) == pytest.approx(theirs, rel=2e-4, abs=1e-6)


def test_listed_betas_accumulate() -> None:
    assert np.exp(ns.log_alpha_bars(LISTED)) == pytest.approx(np.cumprod(1 - np.array(LISTED.betas)), rel=1e-12)


def test_vp_is_the_integral_of_beta() -> None:
    u = np.linspace(0, 0.4, 100_001)
    integral = np.trapezoid(0.1 + u * 19.9, u)
    assert ns.log_alpha_bar(VP, 399.0) == pytest.approx(-integral, rel=1e-9)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.kind)
@settings(deadline=None, max_examples=30)
@given(position=st.floats(0, 1))
def test_time_at_inverts_marginal(noise: Noise, position: float) -> None:
    time = position * (ns.num_train_timesteps(noise) - 1)
    point = ns.marginal(noise, time)
    assert ns.time_at(noise, point.log_snr) == pytest.approx(time, abs=1e-6)
    assert point.alpha**2 + point.sigma**2 == pytest.approx(1, rel=1e-12)
    assert point.log_snr == pytest.approx(math.log(point.alpha / point.sigma), abs=1e-9)


def test_log_alpha_bar_is_linear_between_indices() -> None:
    table = ns.log_alpha_bars(LINEAR)
    assert ns.log_alpha_bar(LINEAR, 500.25) == pytest.approx(0.75 * table[500] + 0.25 * table[501], rel=1e-12)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.kind)
def test_the_decay_rate_integrates_to_log_alpha_bar(noise: Noise) -> None:
    last = ns.num_train_timesteps(noise) - 1
    times = np.linspace(0, last, 4 * last + 1)[1:] - 0.1
    rates = [ns.decay_rate(noise, time) for time in times]
    lost = ns.log_alpha_bar(noise, 0.0) - ns.log_alpha_bar(noise, float(last))
    assert np.sum(rates) / 4 == pytest.approx(lost, rel=1e-3)
    assert -ns.log_alpha_bar(noise, 0.0) == pytest.approx(ns.decay_rate(noise, 0.0), rel=0.5 if noise is VP else 1e-12)


@pytest.mark.parametrize(
    ("noise", "unit", "time", "alpha", "sigma"),
    [
        (Noise("flow"), "flow", 0.25, 0.75, 0.25),
        (Noise("flow"), "flow", 1.0, 0.0, 1.0),
        (Noise("edm"), "sigma", 3.0, 1.0, 3.0),
        (VP, "sigma", 0.75, 0.8, 0.6),
        (LINEAR, "sigma", 0.75, 0.8, 0.6),
    ],
)
def test_a_step_has_the_marginal_that_its_unit_says(
    noise: Noise, unit: str, time: float, alpha: float, sigma: float
) -> None:
    point = ns.marginal_at(noise, unit, time)
    assert (point.alpha, point.sigma) == pytest.approx((alpha, sigma), rel=1e-12)
    assert math.exp(point.log_snr) == pytest.approx(alpha / sigma, rel=1e-12)
    assert ns.marginal_at(LINEAR, "train-index", 7.5) == ns.marginal(LINEAR, 7.5)


def test_edm_goes_from_the_papers_sigmas_or_its_own() -> None:
    assert ns.edm_range(Noise("edm")) == (0.002, 80.0)
    assert ns.edm_range(Noise("edm", sigma_min=0.01)) == (0.01, 80.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ns.marginal(LINEAR, 1000.0), "between 0 and 999"),
        (lambda: ns.marginal(LINEAR, math.nan), "between 0 and 999"),
        (lambda: ns.marginal(Noise("linear", num_train_timesteps=10), 3.0), "beta_start"),
        (lambda: ns.marginal(Noise("vp"), 3.0), "beta_min"),
    ],
)
def test_bad_input_is_told(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
