"""Spacings: held against diffusers' own times and sigmas, and against their definitions."""

import math
from itertools import pairwise

import numpy as np
import pytest
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import Noise
from exeunt.backends.solvers import noise_schedules as ns
from exeunt.backends.solvers import spacings
from hypothesis import given, settings
from hypothesis import strategies as st

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SCALED = Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)
COSINE = Noise("cosine", num_train_timesteps=1000)
LISTED = Noise("betas", betas=tuple(np.linspace(0.01, 0.3, 50).tolist()))
VP, EDM, FLOW = Noise("vp", beta_min=0.1, beta_max=20.0), Noise("edm"), Noise("flow")
NOISES = [LINEAR, SCALED, COSINE, LISTED, VP, EDM, FLOW]
FITTING = [
    pytest.param(name, noise, id=f"{name}, {noise.kind}")
    for name, kind in spacings.SPACINGS.items()
    for noise in NOISES
    if noise.kind in kind.noises
]


# ---- against diffusers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 25, 50, 250])
def test_spacings_equal_diffusers(spacing: str, num_steps: int) -> None:
    theirs = DPMSolverMultistepScheduler(timestep_spacing=spacing)
    theirs.set_timesteps(num_steps)
    assert spacings.times(spacing, num_steps, LINEAR) == theirs.timesteps.tolist()
    if num_steps > 1:  # of one step, diffusers' DDPM makes train index 0, where there is no noise to remove
        theirs = DDPMScheduler(timestep_spacing=spacing)
        theirs.set_timesteps(num_steps)
        assert spacings.times(spacing, num_steps, LINEAR, include_zero=True) == theirs.timesteps.tolist()


def test_leading_takes_the_offset_of_stable_diffusion() -> None:
    theirs = EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1)
    theirs.set_timesteps(30)
    assert spacings.times("leading", 30, LINEAR, include_zero=True, offset=1) == theirs.timesteps.tolist()


@pytest.mark.parametrize("num_steps", [2, 18, 40])
def test_karras_equals_diffusers_edm(num_steps: int) -> None:
    theirs = EDMEulerScheduler()
    theirs.set_timesteps(num_steps)
    ours = spacings.times("karras", num_steps, EDM, include_zero=True)
    assert ours == pytest.approx(theirs.sigmas[:-1].tolist(), rel=1e-6)
    theirs = EDMEulerScheduler(sigma_schedule="exponential")
    theirs.set_timesteps(num_steps)
    ours = spacings.times("log-snr", num_steps, EDM, include_zero=True)
    assert ours == pytest.approx(theirs.sigmas[:-1].tolist(), rel=1e-6)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("num_steps", [2, 10, 28])
def test_flow_equals_diffusers(shift: float, num_steps: int) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(num_steps)
    ours = spacings.times("flow", num_steps, FLOW, include_zero=True, shift=shift)
    assert ours == pytest.approx(theirs.sigmas[:-1].tolist(), rel=1e-6)
    # FLUX gives its own sigmas, and exp(mu) as the shift.
    theirs = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=math.log(shift))
    ours = spacings.times("flow", num_steps, FLOW, shift=shift)
    assert ours == pytest.approx(theirs.sigmas[:-1].tolist(), rel=1e-6)


# ---- definitions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing", "noise"), FITTING)
@pytest.mark.parametrize("include_zero", [False, True])
@pytest.mark.parametrize("num_steps", [1, 2, 12])
def test_times_fall_from_the_first_to_the_end(spacing: str, noise: Noise, include_zero: bool, num_steps: int) -> None:
    found = spacings.times(spacing, num_steps, noise, include_zero=include_zero)
    over = spacings.stretch(noise)
    assert len(found) == num_steps
    assert all(after < before for before, after in pairwise(found))
    assert spacing == "leading" or found[0] == over.first
    assert 0 <= found[-1] <= over.first
    if include_zero and spacing != "trailing" and num_steps > 1:
        assert found[-1] == over.end  # exactly: an evaluation at 1e-15 is none at train index 0


def test_log_snr_and_karras_are_uniform_in_their_own_scale() -> None:
    gaps = np.diff([ns.marginal(LINEAR, time).log_snr for time in spacings.times("log-snr", 10, LINEAR)])
    assert gaps == pytest.approx(gaps[0], rel=1e-9)
    roots = np.diff([math.exp(-ns.marginal(LINEAR, time).log_snr / 7) for time in spacings.times("karras", 10, LINEAR)])
    assert roots == pytest.approx(roots[0], rel=1e-9)
    gaps = np.diff([ns.marginal_at_flow(time).log_snr for time in spacings.times("log-snr", 10, FLOW)[1:]])
    assert gaps == pytest.approx(gaps[0], rel=1e-9)


@pytest.mark.parametrize("noise", [LINEAR, EDM, FLOW], ids=lambda noise: noise.kind)
def test_families_interpolate(noise: Noise) -> None:
    over = spacings.stretch(noise)
    even = [over.end + (over.first - over.end) * (1 - i / 8) for i in range(8)]
    log_snr = spacings.times("log-snr", 8, noise)
    assert spacings.times("power", 8, noise, rho=1.0) == pytest.approx(even)
    assert spacings.times("power", 8, noise, rho=2.0) == spacings.times("quadratic", 8, noise)
    assert spacings.times("blend", 8, noise, weight=0.0) == pytest.approx(even)
    assert spacings.times("blend", 8, noise, weight=1.0) == pytest.approx(log_snr)
    assert spacings.times("blend", 8, noise, weight=0.5) == pytest.approx((np.array(even) + log_snr) / 2)


@settings(deadline=None, max_examples=50)
@given(rho=st.floats(0.3, 5), weight=st.floats(0, 1), shift=st.floats(0.1, 12), num_steps=st.integers(1, 50))
def test_every_value_of_a_family_gives_falling_times(rho: float, weight: float, shift: float, num_steps: int) -> None:
    for found, first in (
        (spacings.times("power", num_steps, LINEAR, rho=rho), 999),
        (spacings.times("blend", num_steps, LINEAR, weight=weight), 999),
        (spacings.times("flow", num_steps, FLOW, shift=shift), 1),
    ):
        assert all(after < before for before, after in pairwise(found))
        assert 0 < found[-1] <= found[0] == first


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spacings.times("linspce", 10, LINEAR), "Did you mean `linspace`"),
        (lambda: spacings.times("zigzag", 10, LINEAR), "Known: linspace"),
        (lambda: spacings.times("linspace", 0, LINEAR), "between 1 and 999"),
        (lambda: spacings.times("linspace", 1001, LINEAR, include_zero=True), "between 1 and 1000"),
        (lambda: spacings.times("linspace", 5, LINEAR, rho=2.0), "takes no parameters, but got `rho`"),
        (lambda: spacings.times("power", 5, LINEAR, rho=0.0), "above 0"),
        (lambda: spacings.times("karras", 5, LINEAR, rho=-1.0), "above 0"),
        (lambda: spacings.times("blend", 5, LINEAR, weight=1.5), "between 0"),
        (lambda: spacings.times("trailing", 5, EDM), "not for noise `edm`. Use one of linspace, .*karras"),
        (lambda: spacings.times("karras", 5, FLOW), "not for noise `flow`. Use one of .*flow"),
        (lambda: spacings.times("flow", 5, LINEAR), "not for noise `linear`"),
        (lambda: spacings.times("flow", 5, FLOW, shift=0.0), "shift: must be above 0"),
        (lambda: spacings.times("flow", 5, FLOW, end=0.0, include_zero=True), "end: must be above 0"),
        (lambda: spacings.times("flow", 5, FLOW, start=0.2, end=0.5), "end: must be at least 0 and below start"),
        (lambda: spacings.times("leading", 5, LINEAR, offset=300), "offset: times must stay between 0 and 999"),
    ],
)
def test_bad_input_is_told(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
