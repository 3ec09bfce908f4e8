"""Noise schedules and spacings: held against diffusers' betas, their own inverses, and the spacings' definitions."""

import math
from itertools import pairwise

import numpy as np
import pytest
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from exeunt.backends import noise_schedules as ns
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Noise
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


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 25, 50, 250])
def test_spacings_equal_diffusers(spacing: str, num_steps: int) -> None:
    theirs = DPMSolverMultistepScheduler(timestep_spacing=spacing)
    theirs.set_timesteps(num_steps)
    assert ns.times(spacing, num_steps, LINEAR) == theirs.timesteps.tolist()
    if num_steps > 1:  # of one step, diffusers' DDPM makes train index 0, where there is no noise to remove
        theirs = DDPMScheduler(timestep_spacing=spacing)
        theirs.set_timesteps(num_steps)
        assert ns.times(spacing, num_steps, LINEAR, include_zero=True) == theirs.timesteps.tolist()


@pytest.mark.parametrize("spacing", ns.SPACINGS)
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.kind)
@pytest.mark.parametrize("include_zero", [False, True])
@pytest.mark.parametrize("num_steps", [1, 2, 12])
def test_times_fall_from_the_last_index(spacing: str, noise: Noise, include_zero: bool, num_steps: int) -> None:
    found, last = ns.times(spacing, num_steps, noise, include_zero=include_zero), ns.num_train_timesteps(noise) - 1
    assert len(found) == num_steps
    assert all(after < before for before, after in pairwise(found))
    assert spacing == "leading" or found[0] == last
    assert 0 <= found[-1] <= last
    if include_zero and spacing != "trailing" and num_steps > 1:
        assert found[-1] == pytest.approx(0, abs=1e-9)


def test_log_snr_and_karras_are_uniform_in_their_own_scale() -> None:
    gaps = np.diff([ns.marginal(LINEAR, time).log_snr for time in ns.times("log-snr", 10, LINEAR)])
    assert gaps == pytest.approx(gaps[0], rel=1e-9)
    roots = np.diff([math.exp(-ns.marginal(LINEAR, time).log_snr / 7) for time in ns.times("karras", 10, LINEAR)])
    assert roots == pytest.approx(roots[0], rel=1e-9)


def test_families_interpolate() -> None:
    even, log_snr = [999 * (1 - i / 8) for i in range(8)], ns.times("log-snr", 8, LINEAR)
    assert ns.times("power", 8, LINEAR, rho=1.0) == pytest.approx(even)
    assert ns.times("power", 8, LINEAR, rho=2.0) == ns.times("quadratic", 8, LINEAR)
    assert ns.times("blend", 8, LINEAR, weight=0.0) == pytest.approx(even)
    assert ns.times("blend", 8, LINEAR, weight=1.0) == pytest.approx(log_snr)
    assert ns.times("blend", 8, LINEAR, weight=0.5) == pytest.approx((np.array(even) + log_snr) / 2)


@settings(deadline=None, max_examples=50)
@given(rho=st.floats(0.3, 5), weight=st.floats(0, 1), num_steps=st.integers(1, 50))
def test_every_value_of_a_family_gives_falling_times(rho: float, weight: float, num_steps: int) -> None:
    for found in (ns.times("power", num_steps, LINEAR, rho=rho), ns.times("blend", num_steps, LINEAR, weight=weight)):
        assert all(after < before for before, after in pairwise(found))
        assert 0 <= found[-1] < found[0] + 1 <= 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ns.times("linspce", 10, LINEAR), "Did you mean `linspace`"),
        (lambda: ns.times("zigzag", 10, LINEAR), "Known: linspace"),
        (lambda: ns.times("linspace", 0, LINEAR), "between 1 and 999"),
        (lambda: ns.times("linspace", 1001, LINEAR, include_zero=True), "between 1 and 1000"),
        (lambda: ns.times("linspace", 5, LINEAR, rho=2.0), "takes no parameters, but got `rho`"),
        (lambda: ns.times("power", 5, LINEAR, rho=0.0), "above 0"),
        (lambda: ns.times("karras", 5, LINEAR, rho=-1.0), "above 0"),
        (lambda: ns.times("blend", 5, LINEAR, weight=1.5), "between 0"),
        (lambda: ns.marginal(LINEAR, 1000.0), "between 0 and 999"),
        (lambda: ns.marginal(LINEAR, math.nan), "between 0 and 999"),
        (lambda: ns.times("log-snr", 5, Noise("edm")), "no train indices"),
        (lambda: ns.marginal(Noise("linear", num_train_timesteps=10), 3.0), "beta_start"),
        (lambda: ns.marginal(Noise("vp"), 3.0), "beta_min"),
    ],
)
def test_bad_input_is_told(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
