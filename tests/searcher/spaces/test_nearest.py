"""Schedules from elsewhere, as points of the space `free`."""

from dataclasses import replace

import pytest
from exeunt.backends.schedule import NetworkSignature, Noise, Schedule, depths, with_exits
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.searcher.spaces.free import Free
from exeunt.searcher.spaces.nearest import nearest

NOISE = Noise("linear", 1e-4, 0.02, 1000)


def full(num_blocks: int, num_steps: int, kind: str = "residual") -> Schedule:
    signature = NetworkSignature("DiT", "block", ((kind, num_blocks),))
    return make_schedule(signature, NOISE, "epsilon", num_steps=num_steps)


def space(num_blocks: int = 12, num_steps: int = 20) -> Free:
    made = make_space("free", FullSchedule(full(num_blocks, num_steps), "log-snr"))
    assert isinstance(made, Free)
    return made


def test_what_the_space_holds_stays_as_it_is():
    own = space()
    for point in own.warm_starts():
        schedule = own.build(point)
        found = nearest(own, schedule)
        assert found is not None
        assert found.changes == ()
        assert [step.blocks for step in found.schedule.steps] == [step.blocks for step in schedule.steps]
        assert [step.time for step in found.schedule.steps] == pytest.approx(
            [step.time for step in schedule.steps], abs=2
        )


def test_depths_are_rescaled_to_another_number_of_blocks():
    found = nearest(space(), with_exits(full(28, 10), [14, *[28] * 9]))
    assert found is not None
    assert found.changes == ("depths rescaled from 28 to 12 blocks",)
    assert depths(found.schedule) == [6, *[12] * 9]
    assert found.schedule == space().build(found.parameters)


def test_more_steps_than_there_are_become_fewer():
    found = nearest(space(), full(12, 50))
    assert found is not None
    assert found.changes == ("50 steps resampled to 20",)
    assert found.schedule.digest == space().frame.full.digest


def test_times_of_another_noise_keep_their_log_snr():
    other = replace(NOISE, beta_end=0.01)
    signature = NetworkSignature("DiT", "block", (("residual", 12),))
    found = nearest(space(), make_schedule(signature, other, "epsilon", num_steps=8))
    assert found is not None
    assert found.schedule.num_steps == 8
    times = [step.time for step in found.schedule.steps]
    assert times == sorted(times, reverse=True)


def test_stages_are_no_chain_of_blocks():
    assert nearest(space(), full(5, 10, kind="replace")) is None
