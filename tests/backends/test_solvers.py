"""Solver tables: held against diffusers' schedulers, and by their order of convergence where the solution is known."""

import importlib.util
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exeunt.backends import network, schedule, solvers
from exeunt.backends.errors import InputError
from exeunt.backends.noise_schedules import CLEAN, Marginal, marginal_at_sigma
from exeunt.backends.schedule import NetworkSignature, Noise

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
VP = Noise("vp", beta_min=0.1, beta_max=20.0)
SIGNATURE = NetworkSignature("DiT", "block", (("residual", 4),))
MEAN, VARIANCE = 0.7, 0.04  # of the Gaussian whose flow is known


def _benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "solver_tables.py"
    spec = importlib.util.spec_from_file_location("solver_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()
CASES = list(BENCHMARK.cases())


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{case.solver}, {case.spacing}" for case in CASES])
def test_trajectories_equal_diffusers(index: int) -> None:
    case = CASES[index]
    choices = list(BENCHMARK.settings(case))
    noise, prediction = choices[index % len(choices)]  # all of them: benchmarks/solver_tables.py
    steps = BENCHMARK.random_times(10, random.Random(index)) if case.spacing == "random list" else 20
    assert BENCHMARK.deviation(case, noise, prediction, steps) <= case.limit


def test_float32_alone_sets_cosine_epsilon_apart() -> None:
    case = next(case for case in CASES if case.solver == "dpmsolver++ 2, zero" and case.spacing == "linspace")
    ours, theirs = BENCHMARK.measure_cosine_epsilon(case)
    assert ours <= 1.1 * theirs


# ---- order of convergence on a Gaussian, in float64 -----------------------------------------------------------------


def _exact_model(prediction: str, x: float, point: Marginal) -> float:
    """The exact prediction at x for data N(MEAN, VARIANCE)."""
    scaled = (x - point.alpha * MEAN) / (point.alpha**2 * VARIANCE + point.sigma**2)
    epsilon, data = point.sigma * scaled, MEAN + point.alpha * VARIANCE * scaled
    return {"epsilon": epsilon, "sample": data, "v": point.alpha * epsilon - point.sigma * data}[prediction]


def _exact_flow(x: float, start: Marginal, end: Marginal) -> float:
    """The probability-flow ODE keeps the standardised x of a Gaussian."""
    deviations = [math.sqrt(point.alpha**2 * VARIANCE + point.sigma**2) for point in (start, end)]
    return end.alpha * MEAN + (x - start.alpha * MEAN) * deviations[1] / deviations[0]


def _sample(rows: Sequence[schedule.Coefficients], points: Sequence[Marginal], prediction: str, x: float) -> float:
    history: list[float] = []
    for row, point in zip(rows, points, strict=False):
        history.insert(0, row.model_x * x + row.model_f * _exact_model(prediction, row.input_scale * x, point))
        x = row.a * x + sum(b * m for b, m in zip(row.b, history, strict=False))
    return x


def _error(solver: str, order: int, prediction: str, num_steps: int) -> float:
    log_snrs = np.linspace(-3, 3, num_steps + 1)
    points = [marginal_at_sigma(math.exp(-value)) for value in log_snrs]
    sampler = solvers.make_schedule(SIGNATURE, LINEAR, prediction, solver=solver, order=order, num_steps=20).sampler
    rows = solvers.SOLVERS[solver].table(points, sampler)
    return abs(_sample(rows, points, prediction, 1.3) - _exact_flow(1.3, points[0], points[-1]))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpmsolver++", 1), ("dpmsolver++", 2)])
def test_error_falls_with_the_order(solver: str, order: int, prediction: str) -> None:
    errors = [_error(solver, order, prediction, num_steps) for num_steps in (80, 160, 320)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
def test_ddpm_converges_to_the_data(variance: str) -> None:
    model = network.load("closed-form", num_blocks=1)
    distances = [
        model.exact_frechet(
            solvers.make_schedule(model.signature, LINEAR, "v", solver="ddpm", variance=variance, num_steps=num_steps)
        )
        for num_steps in (25, 100, 400)
    ]
    assert distances[0] > 4 * distances[1] > 16 * distances[2]


# ---- rows -----------------------------------------------------------------------------------------------------------


def test_ddim_equals_dpm_solver_of_order_one() -> None:
    ours = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="ddim", spacing="log-snr", include_zero=False)
    other = solvers.make_schedule(SIGNATURE, LINEAR, "v", order=1)
    for a, b in zip(solvers.rows(ours), solvers.rows(other), strict=True):
        assert (a.a, *a.b) == pytest.approx((b.a, *b.b), rel=1e-9, abs=1e-15)


def test_ddim_with_eta_one_equals_ddpm_with_the_small_variance() -> None:
    pair = [
        solvers.rows(solvers.make_schedule(SIGNATURE, LINEAR, "v", solver=solver, eta=eta))
        for solver, eta in (("ddim", 1.0), ("ddpm", None))
    ]
    for a, b in zip(*pair, strict=True):
        assert (a.a, *a.b, a.c) == pytest.approx((b.a, *b.b, b.c), rel=1e-9, abs=1e-12)


def test_learned_range_brackets_the_fixed_variances() -> None:
    tables = {
        variance: solvers.rows(solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="ddpm", variance=variance))
        for variance in ("fixed-small", "fixed-large", "learned-range")
    }
    for small, large, learned in list(zip(*tables.values(), strict=True))[:-1]:
        assert learned.log_variance == pytest.approx((2 * math.log(small.c), 2 * math.log(large.c)))
        assert learned.c == 0
    assert tables["learned-range"][-1].log_variance is None
    assert all(table[-1].c == 0 for table in tables.values())


def test_the_last_step_to_zero_is_the_prediction_itself() -> None:
    for solver in solvers.SOLVERS:
        row = solvers.rows(solvers.make_schedule(SIGNATURE, LINEAR, "v", solver=solver))[-1]
        assert (row.a, sum(row.b), row.c) == pytest.approx((0, 1, 0), abs=1e-12)


@pytest.mark.parametrize(("num_steps", "final", "lower", "entries"), [
    (14, "train-0", True, 1), (15, "train-0", True, 2), (14, "train-0", False, 2), (20, "zero", False, 1),
])  # fmt: skip
def test_the_last_order_is_lowered_as_in_diffusers(num_steps: int, final: str, lower: bool, entries: int) -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", num_steps=num_steps, final=final, lower_order_final=lower)
    assert len(solvers.rows(made)[-1].b) == entries


def test_coefficients_that_are_carried_decide() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "epsilon", num_steps=7)
    written = schedule.parse(schedule.dumps(solvers.with_coefficients(made)))
    assert solvers.rows(written) == solvers.rows(made)
    renamed = replace(written, sampler=replace(written.sampler, name="my-own"))
    assert solvers.rows(renamed) == solvers.rows(made)


def test_a_vp_schedule_names_steps_by_sigma() -> None:
    made = solvers.make_schedule(SIGNATURE, VP, "v", num_steps=5)
    assert made.sampler.time == "sigma"
    assert next(step.network_time for step in made.steps) == pytest.approx(999)
    assert solvers.rows(schedule.parse(schedule.dumps(made))) == solvers.rows(made)
    assert solvers.marginals(made.sampler, [made.steps[0].time])[-1] == CLEAN


def test_times_by_hand() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", spacing=[900, 500.5, 20])
    assert [step.time for step in made.steps] == [900, 500.5, 20]
    assert [len(row.b) for row in solvers.rows(made)] == [1, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "dpmsolver"}, "Did you mean `dpmsolver\\+\\+`"),
        ({"solver": "zz"}, "Known: ddpm"),
        ({"order": 3}, "order: `dpmsolver\\+\\+` has 1, 2"),
        ({"solver": "ddpm", "order": 2}, "order"),
        ({"variance": "fixed-small"}, "variance"),
        ({"eta": 0.5}, "eta"),
        ({"solver": "ddim", "eta": 1.5}, "eta"),
        ({"spacing": "liinspace"}, "linspace"),
        ({"spacing_parameters": {"rho": 3.0}}, "takes no parameters"),
    ],
)
def test_bad_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        solvers.make_schedule(SIGNATURE, LINEAR, "v", **arguments)


def test_tables_refuse_what_they_do_not_know() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", num_steps=4)
    for sampler, message in (
        (replace(made.sampler, prediction="flow"), "epsilon, v or sample"),
        (replace(made.sampler, name="unipc"), "not known"),
        (replace(made.sampler, noise=Noise("flow"), time="flow"), "no solver table"),
        (replace(made.sampler, variant="heun"), "variant"),
    ):
        with pytest.raises(InputError, match=message):
            solvers.rows(replace(made, sampler=sampler))
    equal = replace(made, steps=(made.steps[0], *made.steps))
    with pytest.raises(InputError, match="strictly falling"):
        solvers.rows(equal)
