"""Networks that take turns: which steps are whose, and that none reads what the other one stored."""

from dataclasses import replace

import pytest
from exeunt.backends.plan import compile_plan
from exeunt.backends.schedule import DROP, REUSE, RUN, Guidance, NetworkSignature, Noise
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.sensitivity.grid import Grid, Option
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import FullSchedule, Turn, with_rows

HIGH, LOW = (NetworkSignature("WanTransformer3DModel", "block", (("residual", 3),), each * 64) for each in "ab")


@pytest.fixture
def frame() -> FullSchedule:
    options = {"solver": "flow-euler", "spacing": "flow", "guidance": Guidance(2.0)}
    turn = Turn(LOW, 700.0)
    full = turn.taken(make_schedule(HIGH, Noise("flow"), "flow", num_steps=8, **options))
    return FullSchedule(full, "flow", turn=turn)


def test_steps_below_the_time_are_the_second_networks(frame: FullSchedule) -> None:
    assert frame.full.networks == (HIGH, LOW)
    for count in (8, 5, 2):
        made = frame.steps(count, warp=1.5)
        assert [step.network for step in made.steps] == [int(step.time < 0.7) for step in made.steps]
        assert {step.network for step in made.steps} == {0, 1}


def test_the_second_network_runs_what_it_has_not_stored(frame: FullSchedule) -> None:
    first = next(s for s, step in enumerate(frame.full.steps) if step.network)
    rows = [(RUN, RUN, RUN), *[(RUN, REUSE, DROP)] * (frame.num_steps - 1)]
    made = with_rows(frame.full, rows)
    assert [step.blocks for step in made.steps] == [*rows[:first], (RUN, RUN, DROP), *rows[first + 1 :]]
    compile_plan(made)
    # A value must be there in both branches of guidance.
    skipping = replace(frame.full.steps[first], unconditional="skip")
    steps = (*frame.full.steps[:first], skipping, *frame.full.steps[first + 1 :])
    made = with_rows(replace(frame.full, steps=steps), rows)
    assert made.steps[first + 1].blocks == (RUN, RUN, DROP)
    assert made.steps[first + 2].blocks == rows[-1]


@pytest.mark.parametrize("name", ["free", "cache", "curve", "segments"])
def test_spaces_propose_schedules_of_both(frame: FullSchedule, name: str) -> None:
    space = make_space(name, frame)
    found = [space.build(each) for each in (*space.known_points(), *space.warm_starts())]
    assert found
    for schedule in found:
        assert [step.network for step in schedule.steps] == [int(step.time < 0.7) for step in schedule.steps]
        compile_plan(schedule)


def test_a_calibration_measures_no_chain_that_reads_across_the_turn(frame: FullSchedule) -> None:
    grid = Grid(frame.full, (0, 1, 2), (Option(1, "reuse"), Option(2, "drop")), oldest=3, pairs=False)
    first = next(s for s, step in enumerate(frame.full.steps) if step.network)
    assert list(grid.chains(first)) == [(Option(2, "drop"),)]
    assert (Option(1, "reuse"),) in grid.chains(first + 1)
    assert (Option(1, "reuse"),) * 2 not in grid.chains(first + 1)
