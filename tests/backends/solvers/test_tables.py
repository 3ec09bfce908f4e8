"""Solvers: what they may be asked for, the rows that they make, and what is refused."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from diffusers.schedulers import AysSchedules
from exeunt.backends import schedule
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import NetworkSignature, Noise, ScheduleError
from exeunt.backends.solvers import spacings
from exeunt.backends.solvers import tables as solvers
from exeunt.backends.solvers.noise_schedules import CLEAN, marginal, time_at
from exeunt.backends.solvers.path import VARIANCE_PRESERVING
from exeunt.backends.solvers.tables import ANY_NOISE

LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
VP, EDM, FLOW = Noise("vp", beta_min=0.1, beta_max=20.0), Noise("edm"), Noise("flow")
SIGNATURE = NetworkSignature("DiT", "block", (("residual", 4),))


# ---- rows -----------------------------------------------------------------------------------------------------------


def test_ddim_equals_dpm_solver_of_order_one() -> None:
    ours = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="ddim", spacing="log-snr", include_zero=False)
    other = solvers.make_schedule(SIGNATURE, LINEAR, "v", order=1)
    for a, b in zip(solvers.solver_rows(ours), solvers.solver_rows(other), strict=True):
        assert (a.a, *a.b) == pytest.approx((b.a, *b.b), rel=1e-9, abs=1e-15)


def test_ddim_with_eta_one_equals_ddpm_with_the_small_variance() -> None:
    pair = [
        solvers.solver_rows(solvers.make_schedule(SIGNATURE, LINEAR, "v", solver=solver, eta=eta))
        for solver, eta in (("ddim", 1.0), ("ddpm", None))
    ]
    for a, b in zip(*pair, strict=True):
        assert (a.a, *a.b, a.c) == pytest.approx((b.a, *b.b, b.c), rel=1e-9, abs=1e-12)


def test_learned_range_brackets_the_fixed_variances() -> None:
    tables = {
        variance: solvers.solver_rows(solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="ddpm", variance=variance))
        for variance in ("fixed-small", "fixed-large", "learned-range")
    }
    for small, large, learned in list(zip(*tables.values(), strict=True))[:-1]:
        assert learned.log_variance == pytest.approx((2 * math.log(small.c), 2 * math.log(large.c)))
        assert learned.c == 0
    assert tables["learned-range"][-1].log_variance is None
    assert all(table[-1].c == 0 for table in tables.values())


@pytest.mark.parametrize("solver", solvers.SOLVER_TABLE)
def test_the_last_step_to_zero_is_the_predicted_data(solver: str) -> None:
    for noise in (noise for noise in (LINEAR, VP, EDM, FLOW) if noise.kind in solvers.SOLVER_TABLE[solver].noises):
        prediction = {"edm": "edm", "flow": "flow"}.get(noise.kind, "v")
        made = solvers.make_schedule(SIGNATURE, noise, prediction, solver=solver)
        row = solvers.solver_rows(made)[-1]
        # x = α · x₀ + σ · ε with F the exact prediction and an exact history.
        point = solvers.path(made.sampler, [step.time for step in made.steps]).points[-2]
        x0, epsilon = 0.3, -1.7
        x = point.alpha * x0 + point.sigma * epsilon
        m = {"x0": x0, "flow": epsilon - x0}.get(schedule.SOLVERS[solver], epsilon)
        m = epsilon - x0 if noise == FLOW and solver == "heun" else m
        assert row.c == 0
        if solver != "euler-maruyama":
            assert row.a * x + sum(row.b) * m == pytest.approx(x0, abs=1e-9)


@pytest.mark.parametrize("solver", solvers.SOLVER_TABLE)
def test_every_solver_survives_its_file(solver: str) -> None:
    kind = solvers.SOLVER_TABLE[solver]
    for noise in (noise for noise in (LINEAR, VP, EDM, FLOW) if noise.kind in kind.noises):
        for variant, order in itertools.product(kind.variants or (None,), kind.orders):
            prediction = {"edm": "edm", "flow": "flow"}.get(noise.kind, "epsilon")
            made = solvers.make_schedule(
                SIGNATURE, noise, prediction, solver=solver, variant=variant, order=order, num_steps=7
            )
            read = schedule.parse(schedule.dumps(made))
            assert solvers.solver_rows(read) == solvers.solver_rows(made)
            carried = schedule.parse(schedule.dumps(solvers.with_coefficients(made)))
            assert solvers.solver_rows(carried) == solvers.solver_rows(made)
            assert len(solvers.solver_rows(made)) == solvers.num_evaluations(made.sampler, 7) == made.num_steps


def test_unipc_looks_back_one_more_than_its_order() -> None:
    for order in (1, 2, 3):
        made = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="unipc", order=order)
        assert max(len(row.b) for row in solvers.solver_rows(made)) == order + 1


def test_pndm_looks_back_over_the_stages_of_its_warm_up() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "epsilon", solver="pndm", variant="prk", num_steps=10)
    rows = solvers.solver_rows(made)
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
            solvers.solver_rows(replace(made, steps=made.steps[:gone] + made.steps[gone + 1 :]))


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
    solvers.solver_rows(fewer)
    assert solvers.num_evaluations(full.sampler, 3) == 5
    prk = solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="pndm", variant="prk", num_steps=5).sampler
    assert [solvers.num_evaluations(prk, count) for count in (3, 4, 5)] == [None, 13, 14]


@pytest.mark.parametrize(("num_steps", "final", "lower", "entries"), [
    (14, "train-0", True, 1), (15, "train-0", True, 2), (14, "train-0", False, 2), (20, "zero", False, 1),
])  # fmt: skip
def test_the_last_order_is_lowered_as_in_diffusers(num_steps: int, final: str, lower: bool, entries: int) -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", num_steps=num_steps, final=final, lower_order_final=lower)
    assert len(solvers.solver_rows(made)[-1].b) == entries


def test_coefficients_that_are_carried_decide() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "epsilon", num_steps=7)
    written = schedule.parse(schedule.dumps(solvers.with_coefficients(made)))
    assert solvers.solver_rows(written) == solvers.solver_rows(made)
    renamed = replace(written, sampler=replace(written.sampler, name="my-own"))
    assert solvers.solver_rows(renamed) == solvers.solver_rows(made)


def test_a_vp_schedule_names_steps_by_sigma() -> None:
    made = solvers.make_schedule(SIGNATURE, VP, "v", num_steps=5)
    assert made.sampler.time == "sigma"
    assert next(step.network_time for step in made.steps) == pytest.approx(999)
    assert solvers.solver_rows(schedule.parse(schedule.dumps(made))) == solvers.solver_rows(made)
    assert solvers.path(made.sampler, [made.steps[0].time]).points[-1] == CLEAN


def test_times_by_hand() -> None:
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", spacing=[900, 500.5, 20])
    assert [step.time for step in made.steps] == [900, 500.5, 20]
    assert [len(row.b) for row in solvers.solver_rows(made)] == [1, 2, 1]


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
            solvers.solver_rows(replace(made, sampler=sampler))
    equal = replace(made, steps=(made.steps[0], *made.steps))
    with pytest.raises(InputError, match="strictly falling"):
        solvers.solver_rows(equal)


def test_a_list_that_repeats_a_time_is_refused_by_the_format() -> None:
    with pytest.raises(ScheduleError, match="at most twice"):
        solvers.make_schedule(SIGNATURE, LINEAR, "v", solver="heun", spacing=[900.0, 500.0, 500.0])


# ---- lists by hand, and the page -------------------------------------------------------------------------------------


def test_lists_of_sigmas_are_taken_as_they_are() -> None:
    sigmas = AysSchedules["StableDiffusionVideoSigmas"]
    made = solvers.make_schedule(SIGNATURE, EDM, "edm", solver="dpmsolver++", spacing=sigmas[:-1])
    assert [step.time for step in made.steps] == sigmas[:-1]
    assert made.sampler.initial_scale == sigmas[0] == 700
    # The same noise levels on a network with train indices, as far as those reach.
    times = [time_at(LINEAR, -math.log(sigma)) for sigma in sigmas[1:-1]]
    made = solvers.make_schedule(SIGNATURE, LINEAR, "v", spacing=times)
    assert [math.exp(-marginal(LINEAR, time).log_snr) for time in times] == pytest.approx(sigmas[1:-1], rel=1e-9)


def test_the_page_states_what_each_solver_has() -> None:
    page = (Path(__file__).parents[3] / "docs" / "solvers.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): cells for line in page.splitlines() if len(cells := line.split("|")) > 5}
    for name, kind in solvers.SOLVER_TABLE.items():
        custom = kind.default_order if len(kind.orders) > 1 else None
        orders = ", ".join(f"**{order}**" if order == custom else str(order) for order in kind.orders)
        assert rows[name][2].strip() == orders
        assert rows[name][3].strip() == ", ".join(f"`{variant}`" for variant in kind.variants)
        kinds = {"all": set(ANY_NOISE), "VP": {*VARIANCE_PRESERVING}, "EDM": {"edm"}, "flow": {"flow"}}
        assert set().union(*(kinds[word] for word in rows[name][4].strip().split(", "))) == set(kind.noises)
    for name, kind in spacings.SPACINGS.items():
        line = next(line for line in page.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1])
        assert [word.strip(" `") for word in line.split("|")[2].split(",") if word.strip()] == list(
            kind.parameters
        ) or (name == "quadratic")


def test_rows_of_its_own_are_told_from_the_solvers() -> None:
    network = schedule.NetworkSignature("DiT", "block", (("residual", 2),))
    noise = schedule.Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    made = solvers.make_schedule(network, noise, "epsilon", num_steps=3)
    carried = solvers.with_coefficients(made)
    steps = [replace(step, coefficients=replace(step.coefficients, a=0.5)) for step in carried.steps]
    by_hand = replace(carried, sampler=replace(carried.sampler, name="by hand"))
    own = [solvers.has_own_rows(each) for each in (made, carried, replace(carried, steps=tuple(steps)), by_hand)]
    assert own == [False, False, True, True]
