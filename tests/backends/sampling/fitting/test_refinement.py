"""What a fit leaves open: share, gain and times, on the closed-form network."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from exact_outcome import exact_frechet
from exeunt.backends.errors import InputError
from exeunt.backends.networks.closed_form import ClosedFormNetwork, Mixture
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.fitting.refinement import end_error, refine
from exeunt.backends.sampling.fitting.rows import Fit, fit
from exeunt.backends.sampling.fitting.teacher import TeacherTrajectories, full_schedule, teacher_states
from exeunt.backends.schedule import Schedule, validate, with_exits
from exeunt.backends.solvers.tables import make_schedule, solver_rows, with_coefficients


def network_of(noise: str) -> ClosedFormNetwork:
    return ClosedFormNetwork(Mixture.make(1, 16, seed=0), noise=noise, dtype=torch.float64)


def schedule_of(network: ClosedFormNetwork, solver: str = "unipc", num_steps: int = 4) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, solver=solver, num_steps=num_steps)


def teacher_of(network: ClosedFormNetwork, schedule: Schedule) -> TeacherTrajectories:
    return teacher_states(
        [network], full_schedule(schedule), seed=3, images=range(32), conditions=uniform(network.num_classes)
    )


@pytest.mark.parametrize("solver", ["unipc", "heun"])
@pytest.mark.parametrize("noise", ["linear", "vp", "edm", "flow"])
def test_other_times_come_closer_still(noise: str, solver: str) -> None:
    network = network_of(noise)
    schedule = schedule_of(network, solver)
    teacher = teacher_of(network, schedule)
    rows, times = fit([network], schedule, teacher), refine([network], schedule, teacher, times=True)
    assert end_error(times) < 0.5 * end_error(rows)
    assert exact_frechet(network, times.schedule) < 0.5 * exact_frechet(network, rows.schedule)
    validate(times.schedule)
    assert times.schedule.steps[0].time == schedule.steps[0].time
    assert all(after <= before for before, after in pairwise(step.time for step in times.schedule.steps))
    assert [step.blocks for step in times.schedule.steps] == [step.blocks for step in schedule.steps]


def test_a_loss_chooses_how_far_rows_go_and_their_gain() -> None:
    network = network_of("linear")
    schedule = schedule_of(network)
    teacher = teacher_of(network, schedule)
    small = teacher.states[-1].square().mean() * 0.9025

    def smaller(found: Fit) -> float:
        return abs(float(found.latents.square().mean() - small))

    own = fit([network], schedule, teacher, share=0.0)
    assert solver_rows(own.schedule)[0] == solver_rows(schedule)[0]
    assert [row.a for row in solver_rows(own.schedule)] == [row.a for row in solver_rows(schedule)]
    found = refine([network], schedule, teacher, loss=smaller)
    assert smaller(found) < 0.1 * min(smaller(own), smaller(fit([network], schedule, teacher)))
    near = refine([network], schedule, teacher, loss=end_error)
    assert end_error(near) <= end_error(fit([network], schedule, teacher))


def test_without_a_loss_and_times_it_is_the_fit() -> None:
    network = network_of("flow")
    schedule = schedule_of(network)
    teacher = teacher_of(network, schedule)
    told: list[tuple[int, float]] = []
    found = refine([network], schedule, teacher, observe=lambda tried, lowest: told.append((tried, lowest)))
    assert found.schedule == fit([network], schedule, teacher).schedule
    assert told == [(1, found.errors[-1])]


def test_a_single_step_has_no_time_to_move() -> None:
    network = network_of("edm")
    schedule = schedule_of(network, num_steps=1)
    found = refine([network], schedule, teacher_of(network, schedule), times=True, loss=end_error, tries=6)
    assert found.schedule.steps[0].time == schedule.steps[0].time


def test_no_more_tries_than_are_allowed() -> None:
    network = network_of("linear")
    schedule = schedule_of(network)
    told: list[float] = []
    refine(
        [network], schedule, teacher_of(network, schedule), times=True, tries=5,
        observe=lambda tried, lowest: told.append(lowest),
    )  # fmt: skip
    assert len(told) == 5
    assert told == sorted(told, reverse=True)


def test_times_that_can_not_move_are_refused() -> None:
    network = network_of("linear")
    schedule = with_exits(schedule_of(network), [5, 6, 7, 8])
    teacher = teacher_of(network, schedule)
    with pytest.raises(InputError, match=r"times: moved steps take their solver's rows along, but .* Leave the times"):
        refine([network], with_coefficients(schedule), teacher, times=True)
    steps = (schedule.steps[0], *(replace(step, network_time=7.0) for step in schedule.steps[1:]))
    with pytest.raises(
        InputError, match=r"step 1: to be moved, it must have the network's usual time, but has 7\.0 at"
    ):
        refine([network], replace(schedule, steps=steps), teacher, times=True)
    with pytest.raises(InputError, match=r"tries: must be at least 1, but got 0\. Use 60\."):
        refine([network], schedule, teacher, tries=0)
    with pytest.raises(
        InputError, match=r"share: must be from 0 \(the rows as they are\) to 1, but got 2\.0\. Use 1\."
    ):
        fit([network], schedule, teacher, share=2.0)
