"""ASE's ten depths, both ways."""

import json
from dataclasses import replace
from typing import Any

import pytest
from exeunt.backends import schedule as schedules
from exeunt.backends.formats.ase import read_ase, write_ase
from exeunt.backends.schedule import DROP, REUSE, RUN, Guidance, Schedule, ScheduleError, Step


def staircase(times: list[float], num_blocks: int = 12) -> Schedule:
    """Full depth on 1000 linear train timesteps."""
    noise = schedules.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    network = schedules.NetworkSignature("DiT", "block", (("residual", num_blocks),))
    steps = tuple(Step(t, (RUN,) * num_blocks) for t in times)
    return Schedule((network,), schedules.Sampler("ddim", "epsilon", "train-index", noise), steps)


PUBLISHED = [28, 28, 24, 24, 20, 20, 16, 16, 12, 12]


def test_ase_counts_from_the_data() -> None:
    schedule = read_ase(str(PUBLISHED), staircase([999, 850.5, 800, 799, 100, 99.9, 0], num_blocks=28))
    assert schedules.depths(schedule) == [12, 12, 12, 16, 28, 28, 28]
    assert schedule.steps[0].blocks == (RUN,) * 12 + (DROP,) * 16


def test_ase_converts_both_ways() -> None:
    base = staircase([float(t) for t in range(999, -1, -37)], num_blocks=28)
    assert json.loads(write_ase(read_ase(str(PUBLISHED), base))) == PUBLISHED


def test_a_tenth_that_no_step_visits_takes_its_neighbour_towards_the_data() -> None:
    schedule = schedules.with_exits(staircase([950, 450], num_blocks=28), [12, 20])
    assert json.loads(write_ase(schedule)) == [20, 20, 20, 20, 20, 20, 20, 20, 20, 12]


def ase_schedule(**changes: Any) -> Schedule:
    base = staircase([950, 940, 10])
    step = {key: changes.pop(key) for key in ("unconditional", "guidance_at_step", "blocks") if key in changes}
    if "guidance_at_step" in step:
        step["guidance"] = step.pop("guidance_at_step")
    first = replace(base.steps[0], **step)
    return replace(base, steps=(first, *base.steps[1:]), **changes)


TIMES_OF_SIGMA = schedules.Sampler("edm", "epsilon", "sigma", schedules.Noise("edm"))


@pytest.mark.parametrize(
    ("schedule", "identifier"),
    [
        (ase_schedule(blocks=(RUN,) * 6 + (REUSE,) * 6), "ase-action"),
        (ase_schedule(blocks=(DROP,) * 6 + (RUN,) * 6), "ase-action"),
        (ase_schedule(blocks=(RUN,) * 6 + (DROP,) * 6), "ase-depth-varies"),
        (ase_schedule(guidance=Guidance(1.5), unconditional="skip"), "ase-guidance"),
        (ase_schedule(guidance=Guidance(1.5), guidance_at_step=2.0), "ase-guidance"),
        (ase_schedule(networks=staircase([9]).networks * 2), "ase-networks"),
        (ase_schedule(networks=(schedules.NetworkSignature("DiT", "branch", (("branch", 12),)),)), "ase-granularity"),
        (ase_schedule(sampler=TIMES_OF_SIGMA), "ase-time"),
    ],
)
def test_what_ten_depths_cannot_say_is_refused(schedule: Schedule, identifier: str) -> None:
    with pytest.raises(ScheduleError) as refusal:
        write_ase(schedule)
    assert refusal.value.identifier == identifier


@pytest.mark.parametrize(("ten", "identifier"), [([28] * 9, "ase-count"), ([29] * 10, "exit-range")])
def test_ten_depths_must_fit(ten: list[int], identifier: str) -> None:
    with pytest.raises(ScheduleError) as refusal:
        read_ase(str(ten), staircase([999, 0], num_blocks=28))
    assert refusal.value.identifier == identifier
