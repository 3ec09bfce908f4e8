"""Full trajectories: against the exact solution of the closed-form network's ordinary differential equation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.networks.closed_form import ClosedFormNetwork, Mixture
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import noises, uniform
from exeunt.backends.sampling.fitting.teacher import TeacherTrajectories, full_schedule, teacher_states
from exeunt.backends.sampling.loop import sample
from exeunt.backends.schedule import Guidance, Schedule
from exeunt.backends.solvers.noise_schedules import Marginal, marginal_at
from exeunt.backends.solvers.tables import make_schedule
from torch import Tensor

IMAGES = range(5, 11)


def network_of(noise: str, **options: object) -> ClosedFormNetwork:
    return ClosedFormNetwork(Mixture.make(1, 16, seed=0), noise=noise, dtype=torch.float64, **options)


def schedule_of(network: ClosedFormNetwork, **options: object) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, **options)


def teacher_of(network: ClosedFormNetwork, full: Schedule, **options: object) -> TeacherTrajectories:
    given = {"seed": 4, "images": IMAGES, "conditions": uniform(network.num_classes), **options}
    return teacher_states([network], full, **given)


def exact(network: ClosedFormNetwork, first: Tensor, start: Marginal, end: Marginal) -> Tensor:
    """Where the probability flow of a Gaussian leads: each axis keeps its place in units of its own deviation."""
    basis, means, variances = (torch.from_numpy(np.array(v)) for v in vars(network.mixture).values())

    def deviations(point: Marginal) -> Tensor:
        return (point.alpha**2 * variances + point.sigma**2).sqrt()

    along = first.flatten(1).double() @ basis - start.alpha * means
    there = along / deviations(start) * deviations(end) + end.alpha * means
    return (there @ basis.T).reshape(first.shape)


@pytest.mark.parametrize("noise", ["linear", "cosine", "vp", "edm", "flow"])
def test_states_are_the_exact_ones_at_times_that_no_step_stands_at(noise: str) -> None:
    network = network_of(noise)
    full = full_schedule(schedule_of(network, num_steps=4))
    teacher = teacher_of(network, full)
    first = noises(4, IMAGES, network.sample_shape, 1)[0] * full.sampler.initial_scale
    unit, times = full.sampler.time, [step.time for step in full.steps]
    start = marginal_at(network.noise, unit, times[0])
    for s, share in [(0, 0.5), (3, 0.3), (40, 0.7), (77, 0.1), (98, 0.5)]:
        point = marginal_at(network.noise, unit, (1 - share) * times[s] + share * times[s + 1])
        wanted = exact(network, first, start, point)
        assert (teacher.at(point) - wanted).abs().max() <= 1e-3 * wanted.abs().max(), s


def test_states_at_the_steps_are_the_loops_own() -> None:
    network = network_of("flow")
    full = full_schedule(schedule_of(network, num_steps=4), 30)
    seen: dict[int, list[Tensor]] = {}
    options = {"seed": 4, "images": IMAGES, "conditions": uniform(1)}
    for _ in sample(
        [network], full, batch_size=4, observe=lambda s, v: seen.setdefault(s, []).append(v.x_next), **options
    ):
        pass
    teacher = teacher_of(network, full, batch_size=2)
    for s in (0, 11, 28):
        point = marginal_at(network.noise, "flow", full.steps[s + 1].time)
        assert torch.allclose(teacher.at(point).double(), torch.cat(seen[s]), atol=1e-5)
    assert torch.allclose(teacher.at(Marginal(1.0, 0.0, math.inf)).double(), torch.cat(seen[29]), atol=1e-5)


def test_the_full_schedule_keeps_guidance_and_clip_and_runs_every_block() -> None:
    network = network_of("linear")
    made = schedule_of(network, num_steps=3, guidance=Guidance(2.0), clip=1.5)
    full = full_schedule(made, 40)
    assert (full.num_steps, full.guidance, full.sampler.clip) == (40, Guidance(2.0), 1.5)
    assert all(action.kind == "run" for step in full.steps for action in step.blocks)
    edm = load_network("closed-form", noise="edm")
    assert full_schedule(schedule_of(edm, num_steps=3)).sampler.sigma_data == 0.5


def test_what_is_no_teacher_is_refused() -> None:
    network = network_of("linear")
    for solver in ("ddpm", "heun"):
        with pytest.raises(InputError, match=rf"teacher: .* but got `{solver}`\. Use `unipc`\."):
            teacher_of(network, schedule_of(network, solver=solver, num_steps=4))
    two = schedule_of(network, num_steps=3)
    with pytest.raises(InputError, match=r"networks: a full schedule has one network, but this one has 2\. Give"):
        full_schedule(replace(two, networks=two.networks * 2))


def test_it_stops_when_it_is_told_to() -> None:
    network = network_of("linear")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher_of(network, full_schedule(schedule_of(network, num_steps=3)), check=stop)
