"""Solver tables: held against diffusers' schedulers and the authors' code, and by their order of convergence."""

import importlib.util
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from diffusers.schedulers import AysSchedules
from exact_outcome import exact_frechet
from exeunt.backends import schedule
from exeunt.backends.networks import registry
from exeunt.backends.schedule import NetworkSignature, Noise
from exeunt.backends.solvers import tables
from exeunt.backends.solvers.noise_schedules import Marginal, marginal, marginal_at, time_at

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SCALED = Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)
VP, EDM, FLOW = Noise("vp", beta_min=0.1, beta_max=20.0), Noise("edm"), Noise("flow")
SIGNATURE = NetworkSignature("DiT", "block", (("residual", 4),))
MEAN, VARIANCE = 0.7, 0.04  # of the Gaussian whose flow is known
SIGMA_DATA = 0.5


def _benchmark():
    folder = Path(__file__).parents[3] / "benchmarks"
    sys.path.insert(0, str(folder))  # it imports its cases from beside it
    try:
        spec = importlib.util.spec_from_file_location("solver_tables", folder / "solver_tables.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))


BENCHMARK = _benchmark()
CASES = list(BENCHMARK.cases())


# ---- what we did not write -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{case.solver}, {case.spacing}" for case in CASES])
def test_trajectories_equal_diffusers(index: int) -> None:
    case = CASES[index]
    choices = list(BENCHMARK.settings(case))
    noise, prediction = choices[index % len(choices)]  # all of them: benchmarks/solver_tables.py
    steps = BENCHMARK.random_times(10, random.Random(index)) if case.spacing == "random list" else 20
    assert BENCHMARK.deviation(case, noise, prediction, steps) <= case.limit


def test_every_solver_is_held_against_diffusers_or_its_authors() -> None:
    held = {case.solver.split()[0].rstrip(",") for case in CASES}
    assert held | {"edm"} == set(tables.SOLVER_TABLE)


@pytest.mark.parametrize("name", ["dpmsolver++ 2 midpoint, zero", "unipc 2 bh2, zero", "euler", "heun"])
def test_float32_alone_sets_cosine_epsilon_apart(name: str) -> None:
    case = next(case for case in CASES if case.solver == name and case.spacing == "linspace")
    ours, theirs = BENCHMARK.measure_cosine_epsilon(case)
    assert ours <= 1.1 * theirs


def _samples(made: schedule.Schedule, model: Callable[[float, float], float], x: float, noises: Sequence[float]):
    """x after each step, for a network F = model(input, network time)."""
    history, found, x, draws = [], [], x * made.sampler.initial_scale, iter(noises)
    for step, row in zip(made.steps, tables.solver_rows(made), strict=True):
        time = step.time if step.network_time is None else step.network_time
        history.insert(0, row.model_x * x + row.model_f * model(row.input_scale * x, time))
        x = row.a * x + sum(b * m for b, m in zip(row.b, history, strict=False)) + (row.c and row.c * next(draws))
        found.append(x)
    return found


@pytest.mark.parametrize(
    ("num_steps", "wanted"),
    [
        (18, [-0.6805593170166542, 0.8398510483705727, 0.9516795357554279]),
        (5, [-1.6728541397222865, 1.4279077557261397, 2.683961296259859]),
    ],
)
def test_edm_equals_its_authors_sampler(num_steps: int, wanted: list[float]) -> None:
    """What `edm_sampler` of NVlabs/edm gives for F(u, c) = sin(2u + c) from -1.2, 0.3 and 2."""
    made = tables.make_schedule(SIGNATURE, EDM, "edm", solver="edm", num_steps=num_steps)
    assert made.num_steps == 2 * num_steps - 1
    assert made.sampler.initial_scale == 80
    found = [_samples(made, lambda u, c: math.sin(2 * u + c), x, [])[-1] for x in (-1.2, 0.3, 2.0)]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_euler_maruyama_equals_the_authors_of_u_vit() -> None:
    """What `euler_maruyama` of baofff/U-ViT gives for F(x, t) = sin(2x + t), from 0.8 with these noises."""
    made = tables.make_schedule(
        SIGNATURE, VP, "epsilon", solver="euler-maruyama", num_steps=6, spacing="power", spacing_parameters={"rho": 1.0}
    )
    found = _samples(made, lambda x, index: math.sin(2 * x + (index + 1) / 1000), 0.8, [0.5, -1.0, 0.25, 1.5, -0.75])
    assert found[-1] == pytest.approx(16.69828929334551, rel=1e-9)


# ---- order of convergence on a Gaussian, in float64 ------------------------------------------------------------------


def _exact_model(prediction: str, x: float, point: Marginal) -> float:
    """The exact prediction for data N(MEAN, VARIANCE), from what the network receives."""
    total = math.hypot(point.sigma / point.alpha, SIGMA_DATA) if prediction == "edm" else 1.0
    x = x * total * point.alpha if prediction == "edm" else x
    scaled = (x - point.alpha * MEAN) / (point.alpha**2 * VARIANCE + point.sigma**2)
    epsilon, data = point.sigma * scaled, MEAN + point.alpha * VARIANCE * scaled
    if prediction == "edm":
        sigma = point.sigma / point.alpha
        return (data - (SIGMA_DATA / total) ** 2 * x / point.alpha) * total / (sigma * SIGMA_DATA)
    values = {"epsilon": epsilon, "sample": data, "v": point.alpha * epsilon - point.sigma * data}
    return (values | {"flow": epsilon - data})[prediction]


def _exact_flow(x: float, start: Marginal, end: Marginal) -> float:
    """The probability-flow ODE keeps the standardised x of a Gaussian."""
    deviations = [math.sqrt(point.alpha**2 * VARIANCE + point.sigma**2) for point in (start, end)]
    return end.alpha * MEAN + (x - start.alpha * MEAN) * deviations[1] / deviations[0]


def _error(made: schedule.Schedule, end: float) -> float:
    """How far a schedule whose last step goes to the time `end` is from the exact flow."""
    sampler, times = made.sampler, [step.time for step in made.steps]
    path = tables.path(sampler, times)
    path = replace(path, points=(*path.points[:-1], marginal_at(sampler.noise, sampler.time, end)))
    x, history = 1.3, []
    for row, point in zip(tables.SOLVER_TABLE[sampler.name].table(path), path.points, strict=False):
        history.insert(0, row.model_x * x + row.model_f * _exact_model(sampler.prediction, row.input_scale * x, point))
        x = row.a * x + sum(b * m for b, m in zip(row.b, history, strict=False))
    return abs(x - _exact_flow(1.3, path.points[0], path.points[-1]))


def _errors(
    solver: str, noise: Noise, prediction: str, counts: Sequence[int], scale: str, **options: object
) -> list[float]:
    """Errors at these numbers of times between ln(α/σ) = −3 and 3, equally spaced in `scale`."""
    to_time = {
        "vp": lambda log_snr: time_at(noise, log_snr),
        "edm": lambda log_snr: math.exp(-log_snr),
        "flow": lambda log_snr: 1 / (1 + math.exp(log_snr)),
    }[noise.kind]
    found: list[float] = []
    for count in counts:
        if scale == "log-snr":
            times = [to_time(-3 + 6 * i / count) for i in range(count + 1)]
        else:
            first, last = to_time(-3), to_time(3)
            times = [first + (last - first) * i / count for i in range(count + 1)]
        made = tables.make_schedule(SIGNATURE, noise, prediction, solver=solver, spacing=times[:-1], **options)
        end = math.exp(-marginal(noise, times[-1]).log_snr) if noise.kind == "vp" else times[-1]
        found.append(_error(made, end))
    return found


@pytest.mark.parametrize(
    ("solver", "options", "noise", "scale", "order"),
    [
        ("ddim", {}, VP, "log-snr", 1),
        *[("dpmsolver++", {"order": order}, noise, "log-snr", order) for order in (1, 2) for noise in (VP, EDM, FLOW)],
        *[("dpmsolver++", {"order": 3}, noise, "log-snr", 2) for noise in (VP, EDM, FLOW)],  # see its table
        ("dpmsolver++", {"order": 2, "variant": "heun"}, VP, "log-snr", 2),
        *[("unipc", {"order": p}, noise, "log-snr", p + 1) for p in (1, 2, 3) for noise in (VP, EDM, FLOW)],
        ("unipc", {"order": 3, "variant": "bh1"}, VP, "log-snr", 4),
        ("pndm", {}, VP, "time", 2),
        ("pndm", {"variant": "prk"}, VP, "time", 2),
        ("euler", {}, VP, "log-snr", 1),
        ("euler", {}, EDM, "log-snr", 1),
        *[("heun", {}, noise, "log-snr", 2) for noise in (VP, EDM, FLOW)],
        ("edm", {}, EDM, "log-snr", 2),
        ("flow-euler", {}, FLOW, "time", 1),
    ],
    ids=lambda value: value.kind if isinstance(value, Noise) else None,
)  # fmt: skip
def test_error_falls_with_the_order(solver: str, options: dict, noise: Noise, scale: str, order: int) -> None:
    predictions = {"vp": ["epsilon", "v", "sample", "edm"], "edm": ["edm", "epsilon", "sample"]}
    for prediction in predictions.get(noise.kind, ["flow", "sample"]):
        errors = _errors(solver, noise, prediction, (80, 320), scale, lower_order_final=False, **options)
        assert math.log2(errors[0] / errors[1]) / 2 >= order - 0.15


@pytest.mark.parametrize("noise", [VP, EDM, FLOW], ids=lambda noise: noise.kind)
def test_the_third_order_errs_less_than_the_second(noise: Noise) -> None:
    prediction = "flow" if noise == FLOW else "sample"
    second, third = (_errors("dpmsolver++", noise, prediction, (80,), "log-snr", order=order)[0] for order in (2, 3))
    assert third < second


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
def test_ddpm_converges_to_the_data(variance: str) -> None:
    model = registry.load_network("closed-form", num_blocks=1)
    distances = [
        exact_frechet(
            model,
            tables.make_schedule(model.signature, LINEAR, "v", solver="ddpm", variance=variance, num_steps=num_steps),
        )
        for num_steps in (25, 100, 400)
    ]
    assert distances[0] > 4 * distances[1] > 16 * distances[2]


def test_lists_of_align_your_steps_equal_diffusers() -> None:
    case = next(case for case in CASES if case.solver == "dpmsolver++ 2 midpoint, zero" and "list" in case.spacing)
    for times in (AysSchedules["StableDiffusionTimesteps"], AysSchedules["StableDiffusionXLTimesteps"]):
        assert BENCHMARK.deviation(case, SCALED, "epsilon", [float(time) for time in times]) <= 1e-5
