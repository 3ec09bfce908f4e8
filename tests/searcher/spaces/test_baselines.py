"""The families of baselines by name: which blocks run when, and the networks that can't have one."""

import pytest
from exeunt.backends.schedule import (
    REUSE,
    RUN,
    NetworkSignature,
    Noise,
    Schedule,
    block_evaluations,
    depths,
    forecast,
    guidance_at,
    validate,
)
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.spaces.candidates import list_baselines
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.studies.config.families import FAMILIES, GIVEN_FAMILIES

NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
DIT = NetworkSignature("DiT", "block", (("residual", 8),))
BY_NAME = [name for name in FAMILIES if name not in GIVEN_FAMILIES]


def frame(
    signature: NetworkSignature = DIT,
    noise: Noise = NOISE,
    guidance: float | None = None,
    num_steps: int = 10,
    small: NetworkSignature | None = None,
) -> FullSchedule:
    prediction, spacing = {"flow": ("flow", "flow"), "edm": ("edm", "karras")}.get(noise.kind, ("epsilon", "log-snr"))
    full = make_schedule(signature, noise, prediction, num_steps=num_steps, spacing=spacing, guidance=guidance)
    return FullSchedule(full, spacing, small=small)


def rows(family: str, made: FullSchedule) -> dict[str, Schedule]:
    found = {each.label: each.schedule for each in list_baselines({"net": made}, [family]) if each.family == family}
    for schedule in found.values():
        validate(schedule)
    return found


def test_fora_computes_everything_at_every_nth_step():
    found = rows("fora", frame())
    assert depths(found["FORA N=3"]) == [8, 0, 0, 8, 0, 0, 8, 0, 0, 8]
    assert found["FORA N=3"].steps[1].blocks == (REUSE,) * 8


def test_a_small_network_takes_the_first_steps():
    small = NetworkSignature("DiT", "block", (("residual", 3),), "a" * 64)
    assert not rows("stitch", frame())
    found = rows("stitch", frame(small=small))
    assert [depths(each) for each in found.values()] == [[3] * n + [8] * (10 - n) for n in (2, 5, 8, 10)]
    assert all(each.networks == (DIT, small) for each in found.values())


def test_taylorseer_forecasts_after_two_whole_steps():
    found = rows("taylorseer", frame())
    assert depths(found["TaylorSeer N=3, O=2"]) == [8, 8, 0, 0, 8, 0, 0, 8, 0, 0]
    assert found["TaylorSeer N=3, O=2"].steps[2].blocks == (forecast(2),) * 8
    assert found["TaylorSeer N=3, O=1"].steps[2].blocks == (forecast(1),) * 8


def test_delta_dit_caches_rear_blocks_early_and_front_blocks_later():
    schedule = rows("delta-dit", frame())["Δ-DiT N=2, N_c=6"]
    assert schedule.steps[0].blocks == (RUN,) * 8
    assert schedule.steps[1].blocks == (RUN,) * 2 + (REUSE,) * 6
    assert schedule.steps[7].blocks == (REUSE,) * 6 + (RUN,) * 2


def test_guidance_stays_within_its_interval_and_saves_passes():
    made = frame(guidance=4.0)
    found = rows("guidance-interval", made)
    schedule = found["guidance at σ in (0.28, 2.9]"]
    guided = [guidance_at(schedule, s) is not None for s in range(schedule.num_steps)]
    assert not guided[0]
    assert not guided[-1]
    assert any(guided)
    assert block_evaluations(schedule) < block_evaluations(made.full)


def test_other_solvers_are_there_at_every_count():
    few, every = rows("solver", frame()), rows("all-solvers", frame())
    assert few.keys() <= every.keys()
    assert {each.num_steps for each in few.values()} == set(range(2, 10))
    assert every["5 steps, heun 2, karras"].sampler.name == "heun"
    assert every["4 steps, unipc 3, quadratic"].sampler.order == 3


@pytest.mark.parametrize(
    ("made", "absent"),
    [
        (frame(), {"guidance-interval"}),
        (
            frame(NetworkSignature("UNet2DModel", "block", (("replace", 7),))),
            {"delta-dit", "staircase", "uniform-depth"},
        ),
        (frame(NetworkSignature("DiT", "branch", (("branch", 16),))), {"delta-dit", "staircase"}),
        (frame(noise=Noise("flow"), guidance=3.5), {"staircase"}),
        (frame(noise=Noise("edm")), {"staircase", "guidance-interval"}),
    ],
    ids=["unguided", "unet", "branches", "flow", "edm"],
)
def test_a_network_gets_what_it_can_have(made: FullSchedule, absent: set[str]):
    found = {name for name in BY_NAME if rows(name, made)}
    assert found >= set(BY_NAME) - absent - {"guidance-interval", "stitch"}
    assert not found & absent


def test_a_pipeline_with_times_of_its_own_gets_no_other_solvers():
    made = FullSchedule(frame().full, "log-snr", warps=False)
    assert not rows("solver", made)
    assert not rows("all-solvers", made)
