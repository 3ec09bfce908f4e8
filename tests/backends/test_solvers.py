"""Solver tables: held against diffusers' schedulers and the authors' code, and by their order of convergence."""

import importlib.util
import itertools
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from exeunt.backends import network, schedule, solvers
from exeunt.backends.errors import InputError
from exeunt.backends.noise_schedules import CLEAN, Marginal, marginal, marginal_at, time_at
from exeunt.backends.schedule import NetworkSignature, Noise, ScheduleError

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
VP, EDM, FLOW = Noise("vp", beta_min=0.1, beta_max=20.0), Noise("edm"), Noise("flow")
SIGNATURE = NetworkSignature("DiT", "block", (("residual", 4),))
MEAN, VARIANCE = 0.7, 0.04  # of the Gaussian whose flow is known
SIGMA_DATA = 0.5


def _benchmark():
    folder = Path(__file__).parents[2] / "benchmarks"
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
    assert held | {"edm"} == set(solvers.SOLVERS)


@pytest.mark.parametrize("name", ["dpmsolver++ 2 midpoint, zero", "unipc 2 bh2, zero", "euler", "heun"])
def test_float32_alone_sets_cosine_epsilon_apart(name: str) -> None:
    case = next(case for case in CASES if case.solver == name and case.spacing == "linspace")
    ours, theirs = BENCHMARK.measure_cosine_epsilon(case)
    assert ours <= 1.1 * theirs


def _samples(made: schedule.Schedule, model: Callable[[float, float], float], x: float, noises: Sequence[float]):
    """x after each step, for a network F = model(input, network time)."""
    history, found, x, draws = [], [], x * made.sampler.initial_scale, iter(noises)
    for step, row in zip(made.steps, solvers.rows(made), strict=True):
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
    made = solvers.make_schedule(SIGNATURE, EDM, "edm", solver="edm", num_steps=num_steps)
    assert made.num_steps == 2 * num_steps - 1
    assert made.sampler.initial_scale == 80
    found = [_samples(made, lambda u, c: math.sin(2 * u + c), x, [])[-1] for x in (-1.2, 0.3, 2.0)]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_euler_maruyama_equals_the_authors_of_u_vit() -> None:
    """What `euler_maruyama` of baofff/U-ViT gives for F(x, t) = sin(2x + t), from 0.8 with these noises."""
    made = solvers.make_schedule(
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
    path = solvers.path(sampler, times)
    path = replace(path, points=(*path.points[:-1], marginal_at(sampler.noise, sampler.time, end)))
    x, history = 1.3, []
    for row, point in zip(solvers.SOLVERS[sampler.name].table(path), path.points, strict=False):
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
        made = solvers.make_schedule(SIGNATURE, noise, prediction, solver=solver, spacing=times[:-1], **options)
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


@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_the_last_step_to_zero_is_the_predicted_data(solver: str) -> None:
    for noise in (noise for noise in (LINEAR, VP, EDM, FLOW) if noise.kind in solvers.SOLVERS[solver].noises):
        prediction = {"edm": "edm", "flow": "flow"}.get(noise.kind, "v")
        made = solvers.make_schedule(SIGNATURE, noise, prediction, solver=solver)
        row = solvers.rows(made)[-1]
        # x = α · x₀ + σ · ε with F the exact prediction and an exact history.
        point = solvers.path(made.sampler, [step.time for step in made.steps]).points[-2]
        x0, epsilon = 0.3, -1.7
        x = point.alpha * x0 + point.sigma * epsilon
        m = {"x0": x0, "flow": epsilon - x0}.get(schedule.SOLVERS[solver], epsilon)
        m = epsilon - x0 if noise == FLOW and solver == "heun" else m
        assert row.c == 0
        if solver != "euler-maruyama":
            assert row.a * x + sum(row.b) * m == pytest.approx(x0, abs=1e-9)


@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_every_solver_survives_its_file(solver: str) -> None:
    kind = solvers.SOLVERS[solver]
    for noise in (noise for noise in (LINEAR, VP, EDM, FLOW) if noise.kind in kind.noises):
        for variant, order in itertools.product(kind.variants or (None,), kind.orders):
            prediction = {"edm": "edm", "flow": "flow"}.get(noise.kind, "epsilon")
            made = solvers.make_schedule(
                SIGNATURE, noise, prediction, solver=solver, variant=variant, order=order, num_steps=7
            )
            read = schedule.parse(schedule.dumps(made))
            assert solvers.rows(read) == solvers.rows(made)
            carried = schedule.parse(schedule.dumps(solvers.with_coefficients(made)))
            assert solvers.rows(carried) == solvers.rows(made)
            assert len(solvers.rows(made)) == solvers.num_evaluations(made.sampler, 7) == made.num_steps


def test_unipc_looks_back_one_more_than_its_order() -> None:
    for order in (1, 2, 3):
        made = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="unipc", order=order)
        assert max(len(row.b) for row in solvers.rows(made)) == order + 1


def test_pndm_looks_back_over_the_stages_of_its_warm_up() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "epsilon", solver="pndm", variant="prk", num_steps=10)
    rows = solvers.rows(made)
    assert [len(row.b) for row in rows[:4]] == [1, 2, 2, 4]
    assert [index for index, weight in enumerate(rows[12].b) if weight] == [0, 4, 8, 12]
    assert [index for index, weight in enumerate(rows[15].b) if weight] == [0, 1, 2, 3]


@pytest.mark.parametrize(("solver", "noise", "prediction", "extra"), [
    ("heun", LINEAR, "v", {}), ("edm", EDM, "edm", {}), ("pndm", LINEAR, "v", {}),
    ("pndm", LINEAR, "v", {"variant": "prk"}), ("heun", LINEAR, "v", {"final": "train-0"}),
])  # fmt: skip
def test_other_times_than_the_solver_evaluates_at_are_refused(
    solver: str, noise: Noise, prediction: str, extra: dict
) -> None:
    made = solvers.make_schedule(SIGNATURE, noise, prediction, solver=solver, num_steps=6, **extra)
    for gone in range(1, made.num_steps - 1):
        if solver == "pndm" and gone > (12 if extra else 2):
            break  # from there on any time will do
        with pytest.raises(InputError, match=f"times: `{solver}`.* or give coefficients"):
            solvers.rows(replace(made, steps=made.steps[:gone] + made.steps[gone + 1 :]))


@pytest.mark.parametrize(("solver", "noise", "prediction", "spacing", "scale"), [
    ("euler", LINEAR, "v", None, marginal(LINEAR, 999).sigma), ("euler", LINEAR, "v", "leading", 1.0),
    ("heun", LINEAR, "v", "karras", marginal(LINEAR, 999).sigma), ("ddim", LINEAR, "v", None, 1.0),
    ("edm", EDM, "edm", None, 80.0),
    ("dpmsolver++", EDM, "edm", None, 80.0), ("flow-euler", FLOW, "flow", None, 1.0), ("heun", FLOW, "flow", None, 1.0),
])  # fmt: skip
def test_the_first_noise_is_scaled_by_custom(
    solver: str, noise: Noise, prediction: str, spacing: str | None, scale: float
) -> None:
    made = solvers.make_schedule(SIGNATURE, noise, prediction, solver=solver, spacing=spacing)
    assert made.sampler.initial_scale == pytest.approx(scale, rel=1e-12)
    own = solvers.make_schedule(SIGNATURE, noise, prediction, solver=solver, spacing=spacing, initial_scale=0.5)
    assert own.sampler.initial_scale == 0.5


def test_networks_receive_their_own_times() -> None:
    made = solvers.make_schedule(SIGNATURE, FLOW, "flow", spacing_parameters={"shift": 3.0})
    assert made.sampler.name == "flow-euler"
    assert [step.network_time for step in made.steps] == [1000 * step.time for step in made.steps]
    made = solvers.make_schedule(SIGNATURE, EDM, "edm", sigma_data=1.0)
    assert made.sampler.name == "edm"
    assert made.sampler.sigma_data == 1.0
    assert [step.network_time for step in made.steps] == [math.log(step.time) / 4 for step in made.steps]
    assert made.steps[0].time == 80


def test_other_times_keep_the_solvers_pattern() -> None:
    full = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="heun", num_steps=9)
    fewer = solvers.respaced(full, [900.0, 500.0, 100.0])
    assert [step.time for step in fewer.steps] == [900, 500, 500, 100, 100]
    solvers.rows(fewer)
    assert solvers.num_evaluations(full.sampler, 3) == 5
    prk = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="pndm", variant="prk", num_steps=5).sampler
    assert [solvers.num_evaluations(prk, count) for count in (3, 4, 5)] == [None, 13, 14]


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
    assert solvers.path(made.sampler, [made.steps[0].time]).points[-1] == CLEAN


def test_times_by_hand() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", spacing=[900, 500.5, 20])
    assert [step.time for step in made.steps] == [900, 500.5, 20]
    assert [len(row.b) for row in solvers.rows(made)] == [1, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "dpmsolver"}, "Did you mean `dpmsolver\\+\\+`"),
        ({"solver": "zz"}, "Known: ddpm"),
        ({"order": 4}, "order: `dpmsolver\\+\\+` has 1, 2, 3, but got 4. Use 2"),
        ({"variant": "midpont"}, "variant: `dpmsolver\\+\\+` has midpoint, heun"),
        ({"solver": "unipcm"}, "Did you mean `unipc`"),
        ({"solver": "pndm", "order": 2}, "order: `pndm` has 4"),
        ({"solver": "pndm", "variant": "prk", "num_steps": 3}, "at least 4, but got 3. Use `plms`"),
        ({"solver": "flow-euler"}, "no table on noise `linear`. Use ddpm, ddim"),
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


@pytest.mark.parametrize(
    ("noise", "arguments", "message"),
    [
        (FLOW, {"prediction": "epsilon"}, "prediction: must be one of flow, sample on noise `flow`"),
        (FLOW, {"solver": "ddim"}, "no table on noise `flow`. Use dpmsolver\\+\\+, unipc, heun, flow-euler"),
        (FLOW, {"spacing": [1.0, 0.0]}, "must be above 0 and at most 1, but got 0"),
        (FLOW, {"spacing": [1.5, 0.5]}, "at most 1, but got 1.5"),
        (FLOW, {"spacing": "karras"}, "spacing: `karras` is not for noise `flow`"),
        (EDM, {"prediction": "v"}, "prediction: must be one of edm, epsilon, sample on noise `edm`"),
        (EDM, {"spacing": [1.0, -0.5]}, "must be above 0, but got -0.5"),
    ],
)
def test_bad_arguments_on_other_noises_are_told(noise: Noise, arguments: dict, message: str) -> None:
    given = {"prediction": noise.kind} | arguments
    with pytest.raises(InputError, match=message):
        solvers.make_schedule(SIGNATURE, noise, given.pop("prediction"), **given)


def test_tables_refuse_what_they_do_not_know() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", num_steps=4)
    for sampler, message in (
        (replace(made.sampler, prediction="flow"), "epsilon, v, sample"),
        (replace(made.sampler, name="unipcc"), "Did you mean `unipc`"),
        (replace(made.sampler, name="ddim", order=2), "order"),
        (replace(made.sampler, name="edm", order=2), "no table on noise `linear`"),
        (replace(made.sampler, variant="bh1"), "variant"),
    ):
        with pytest.raises(InputError, match=message):
            solvers.rows(replace(made, sampler=sampler))
    equal = replace(made, steps=(made.steps[0], *made.steps))
    with pytest.raises(InputError, match="strictly falling"):
        solvers.rows(equal)


def test_a_list_that_repeats_a_time_is_refused_by_the_format() -> None:
    with pytest.raises(ScheduleError, match="at most twice"):
        solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="heun", spacing=[900.0, 500.0, 500.0])
