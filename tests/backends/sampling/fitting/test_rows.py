"""Fitted rows: the exact quality of what they sample on the closed-form network, and what a fit depends on."""

from dataclasses import replace

import pytest
import torch
from exact_outcome import exact_frechet
from exeunt.backends.errors import InputError
from exeunt.backends.networks.closed_form import ClosedFormNetwork, Mixture
from exeunt.backends.sampling.conditions import uniform
from exeunt.backends.sampling.fitting.rows import fit, with_rows
from exeunt.backends.sampling.fitting.teacher import TeacherTrajectories, full_schedule, teacher_states
from exeunt.backends.sampling.loop import NonFiniteSamples, sample
from exeunt.backends.schedule import REUSE, Guidance, Schedule, dumps, forecast, parse, validate, with_exits
from exeunt.backends.solvers.tables import make_schedule, solver_rows

NOISES = ["linear", "edm", "flow"]


def network_of(noise: str, components: int = 1) -> ClosedFormNetwork:
    return ClosedFormNetwork(Mixture.make(components, 16, seed=0), noise=noise, dtype=torch.float64)


def schedule_of(network: ClosedFormNetwork, num_steps: int = 6, **options: object) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, num_steps=num_steps, **options)


def teacher_of(network: ClosedFormNetwork, schedule: Schedule, **options: object) -> TeacherTrajectories:
    given = {"seed": 3, "images": range(32), "conditions": uniform(network.num_classes), **options}
    return teacher_states([network], full_schedule(schedule), **given)


def latents(network: ClosedFormNetwork, schedule: Schedule, seed: int = 8, count: int = 48) -> torch.Tensor:
    """Of noises that no fit has seen."""
    given = {"seed": seed, "images": range(count), "conditions": uniform(network.num_classes), "batch_size": 48}
    return torch.cat([batch.latents for batch in sample([network], schedule, **given)])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("solver", ["dpmsolver++", "unipc", "heun"])
def test_few_steps_come_closer_to_the_data(noise: str, solver: str) -> None:
    network = network_of(noise)
    for num_steps in (3, 5, 8):
        schedule = schedule_of(network, num_steps, solver=solver)
        fitted = fit([network], schedule, teacher_of(network, schedule)).schedule
        assert exact_frechet(network, fitted) <= 0.1 * exact_frechet(network, schedule)


@pytest.mark.parametrize("noise", NOISES)
def test_what_exits_and_reuse_leave_out_is_made_good(noise: str) -> None:
    network = network_of(noise)
    full = schedule_of(network, 8, solver="unipc")
    teacher = teacher_of(network, full)
    every_other = [8, 4, 8, 4, 8, 4, 8, 4]
    for schedule in (
        with_exits(full, [4, 4, 5, 5, 6, 6, 7, 8]),
        with_exits(full, [6] * 8),
        with_exits(full, every_other, REUSE),
        with_exits(full, every_other, forecast(1)),
    ):
        assert exact_frechet(network, fit([network], schedule, teacher).schedule) <= 0.1 * exact_frechet(
            network, schedule
        )


def test_a_schedule_without_error_stays_as_it_is() -> None:
    network = network_of("linear")
    full = full_schedule(schedule_of(network))
    fitted = fit([network], full, teacher_of(network, full))
    assert max(fitted.errors) < 1e-5
    assert (latents(network, fitted.schedule) - latents(network, full)).abs().max() < 1e-4


def test_much_ridge_leaves_the_rows_as_they_are() -> None:
    network = network_of("linear")
    schedule = schedule_of(network, solver="unipc")
    teacher = teacher_of(network, schedule)
    own = latents(network, schedule)
    far = [
        (latents(network, fit([network], schedule, teacher, ridge=ridge).schedule) - own).square().mean()
        for ridge in (1e-6, 1e-2, 1.0)
    ]
    assert far[0] > far[1] > far[2]


def test_the_same_noises_give_the_same_rows_and_batches_matter_by_rounding_alone() -> None:
    network = network_of("flow")
    schedule = with_exits(schedule_of(network), [5, 5, 6, 6, 7, 8])
    first, again = (fit([network], schedule, teacher_of(network, schedule)).schedule for _ in range(2))
    assert first.digest == again.digest != schedule.digest
    parts = fit([network], schedule, teacher_of(network, schedule, batch_size=5), batch_size=7).schedule
    for one, other in zip(solver_rows(first), solver_rows(parts), strict=True):
        assert one.a == pytest.approx(other.a, abs=1e-6)
        assert one.b == pytest.approx(other.b, abs=1e-6)
    other = fit([network], schedule, teacher_of(network, schedule, seed=4)).schedule
    assert other.digest != first.digest
    assert exact_frechet(network, other) == pytest.approx(exact_frechet(network, first), rel=0.5)


def test_guided_steps_are_fitted_to_guided_trajectories() -> None:
    network = network_of("linear", components=3)
    schedule = schedule_of(network, 5, guidance=2.0)
    passes = ["run", "run", "run", "skip", "skip"]
    steps = (replace(step, unconditional=each) for step, each in zip(schedule.steps, passes, strict=True))
    spared = replace(schedule, steps=tuple(steps))
    teacher, wanted = teacher_of(network, schedule, images=range(48)), latents(network, full_schedule(schedule))
    for each in (schedule, spared):
        fitted = fit([network], each, teacher).schedule
        before, after = ((latents(network, one) - wanted).square().mean() for one in (each, fitted))
        assert after < 0.5 * before
        assert fitted.guidance == Guidance(2.0)
        assert [step.unconditional for step in fitted.steps] == [step.unconditional for step in each.steps]


def test_a_fitted_schedule_is_a_schedule() -> None:
    network = network_of("linear")
    schedule = replace(with_exits(schedule_of(network, 5), [4, 5, 6, 7, 8]), name="found")
    fitted = fit([network], schedule, teacher_of(network, schedule)).schedule
    validate(fitted)
    assert parse(dumps(fitted)) == fitted
    assert fitted.name is None
    assert [(step.time, step.blocks) for step in fitted.steps] == [(step.time, step.blocks) for step in schedule.steps]
    assert [len(row.b) for row in solver_rows(fitted)] == [1, 2, 3, 3, 3]
    again = fit([network], fitted, teacher_of(network, schedule)).schedule  # carried rows are what the ridge draws to
    assert exact_frechet(network, again) <= 0.1 * exact_frechet(network, schedule)


def test_what_can_not_be_fitted_is_refused() -> None:
    network = network_of("linear")
    schedule = schedule_of(network)
    teacher = teacher_of(network, schedule)
    for options, message in (
        ({"ridge": 0.0}, r"ridge: must be above 0 and finite, but got 0\.0\. Use 1e-06\."),
        ({"history": 0}, r"history: must be from 1 to 64, but got 0\. Use 3\."),
        ({"batch_size": 0}, r"batch_size: must be at least 1, but got 0\."),
    ):
        with pytest.raises(InputError, match=message):
            fit([network], schedule, teacher, **options)
    with pytest.raises(InputError, match=r"step 0: .* add no noise, but `ddpm` has c = .* Use a deterministic solver"):
        fit([network], schedule_of(network, solver="ddpm"), teacher)
    other = network_of("flow")
    with pytest.raises(InputError, match=r"noise: schedule and full trajectories must have the same"):
        fit([other], schedule_of(other), teacher)


def test_samples_that_are_not_finite_are_refused() -> None:
    network = network_of("linear")
    schedule = schedule_of(network)
    teacher = teacher_of(network, schedule)
    broken = with_rows(schedule, [replace(row, model_f=1e300) for row in solver_rows(schedule)])
    with pytest.raises(
        NonFiniteSamples, match=r"step 0: x became NaN or infinite\. Use float32, or check the weights\."
    ):
        fit([network], broken, teacher)


def test_rows_are_put_on_a_schedule_without_what_was_said_of_it() -> None:
    schedule = replace(schedule_of(network_of("linear")), name="measured")
    rows = [replace(row, a=0.5) for row in solver_rows(schedule)]
    made = with_rows(schedule, rows)
    assert made.name is None
    assert solver_rows(made) == rows
