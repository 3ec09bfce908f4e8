"""One conformance suite for all spaces, and what is particular to each."""

import random

import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import DROP, RUN, NetworkSignature, Noise, Schedule, depths, dumps, parse, validate
from exeunt.backends.solvers.spacings import default_spacing
from exeunt.backends.solvers.tables import make_schedule, solver_rows
from exeunt.searcher.spaces.base import SPACES, TAILS, Space, make_space
from exeunt.searcher.spaces.frame import FullSchedule, orders, refreshed_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


def frame(
    num_blocks: int = 6,
    num_steps: int = 10,
    kind: str = "residual",
    noise: Noise = NOISE,
    warps: bool = True,
    small: NetworkSignature | None = None,
    **options,
) -> FullSchedule:
    signature = NetworkSignature("DiT", "block", ((kind, num_blocks),), None)
    prediction = {"edm": "edm", "flow": "flow"}.get(noise.kind, "epsilon")
    full = make_schedule(signature, noise, prediction, num_steps=num_steps, **options)
    parameters = tuple(options.get("spacing_parameters", {}).items())
    return FullSchedule(
        full, options.get("spacing", default_spacing(noise)), parameters, options.get("include_zero"), warps, small
    )


FRAMES = [
    frame(),
    frame(num_blocks=1, num_steps=2),
    frame(28, 25, guidance=1.5),
    frame(6, 12, solver="ddim", spacing="leading", warps=False),
    frame(9, 20, kind="replace"),
    frame(5, 10, kind="replace", guidance=1.5),
    frame(noise=Noise("flow"), spacing_parameters={"shift": 3.0}, include_zero=False),
    frame(noise=Noise("edm")),
    frame(noise=Noise("vp", beta_min=0.1, beta_max=20.0), solver="heun", num_steps=20),
    frame(solver="pndm", variant="prk", spacing="leading"),
    frame(9, 20, guidance=1.5, small=NetworkSignature("DiT", "block", (("residual", 3),))),
]


@pytest.fixture(params=[(name, number) for name in SPACES for number in (0, 3, 4, 6, 7, 9, 10)], ids=str)
def space(request) -> Space:
    name, number = request.param
    return make_space(name, FRAMES[number])


def values(distribution) -> list:
    """The ends of a numeric distribution, or all choices of a categorical one."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def drawn(distribution, generator: random.Random):
    if isinstance(distribution, CategoricalDistribution):
        return generator.choice(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return generator.randint(distribution.low, distribution.high)
    assert isinstance(distribution, FloatDistribution)
    return distribution.low + (distribution.high - distribution.low) * generator.random()


def draw(space: Space, seed: int) -> dict:
    generator = random.Random(seed)
    return {name: drawn(distribution, generator) for name, distribution in space.distributions().items()}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("number", range(len(FRAMES)))
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_every_proposal_is_valid_and_survives_a_file(name: str, number: int, seed: int):
    space = make_space(name, FRAMES[number])
    schedule = space.build(draw(space, seed))
    assert parse(dumps(schedule)) == schedule
    assert space.frame.fewest_steps <= schedule.num_steps <= space.frame.num_steps


def test_corners_are_valid_schedules(space: Space):
    generator = random.Random(0)
    for _ in range(64):
        validate(space.build({name: generator.choice(values(each)) for name, each in space.distributions().items()}))


def test_equal_parameters_give_equal_digests(space: Space):
    again = make_space(space.name, space.frame)
    for seed in range(10):
        assert space.build(draw(space, seed)).digest == again.build(draw(again, seed)).digest


def test_the_full_schedule_is_the_first_landmark(space: Space):
    assert space.build(next(space.known_points())) == space.frame.full


def test_landmarks_and_warm_starts_lie_inside_the_distributions(space: Space):
    distributions = space.distributions()
    for point in [*space.known_points(), *space.warm_starts()]:
        assert point.keys() == distributions.keys()
        for name, value in point.items():
            assert distributions[name]._contains(distributions[name].to_internal_repr(value)), (name, value)


def test_warm_starts_are_different_schedules(space: Space):
    space = make_space(space.name, space.frame if space.frame.replaces else FRAMES[3])
    built = [space.build(point).digest for point in space.warm_starts()]
    assert len(built) == len(set(built))


def test_parameters_is_the_inverse(space: Space):
    schedules = [space.build(point) for point in space.known_points()]
    schedules += [space.build(draw(space, seed)) for seed in range(10)]
    found = [(schedule, space.parameters(schedule)) for schedule in schedules]
    assert all(space.build(point) == schedule for schedule, point in found if point is not None)
    assert all(point is not None for _, point in found[: len(list(space.known_points()))])


def test_the_smallest_cost_is_reachable(space: Space):
    point = {name: values(each)[0] for name, each in space.distributions().items()}
    assert space.build(point).num_steps == space.frame.fewest_steps


def test_a_tail_that_reads_starts_with_a_whole_step(space: Space):
    for seed in range(30):
        schedule = space.build(draw(space, seed))
        first = schedule.steps[0].blocks
        assert all(action in (RUN, DROP) for action in first)


def test_segments_put_each_depth_on_its_share_of_the_steps():
    space = make_space("segments", frame(6, 12))
    point = {**next(space.known_points()), **{f"depth_{k}": k + 1 for k in range(6)}}
    assert depths(space.build(point)) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_staircases_are_monotone_whatever_the_order_of_the_parameters():
    space = make_space("staircase", FRAMES[0])
    for seed in range(20):
        point = {**draw(space, seed), "tail": "drop"}
        rising = depths(space.build({**point, "direction": "rising"}))
        assert rising == sorted(rising)
        falling = depths(space.build({**point, "direction": "falling"}))
        assert falling == sorted(falling, reverse=True)


def test_a_curve_goes_from_its_first_to_its_last_depth():
    space = make_space("curve", frame(12, 11))
    point = {**next(space.known_points()), "first_depth": 2, "last_depth": 12, "bend": 1.0}
    assert depths(space.build(point)) == list(range(2, 13))


def test_a_curve_over_log_snr_depends_on_times_and_not_on_the_number_of_the_step():
    space = make_space("snr-curve", frame(12, 20))
    even = {**next(space.known_points()), "first_depth": 1, "last_depth": 12}
    early = {**even, "spacing": 1.5}
    assert sum(depths(space.build(early))) < sum(depths(space.build(even)))


@pytest.mark.parametrize("name", SPACES)
def test_steps_stay_at_the_spacing_s_times_where_a_pipeline_visits_no_others(name: str):
    space = make_space(name, FRAMES[3])
    for found in (space.build(draw(space, seed)) for seed in range(20)):
        stride = 1000 // found.num_steps
        assert [step.time for step in found.steps] == [stride * step for step in reversed(range(found.num_steps))]


def test_a_cache_runs_whole_at_every_kth_step():
    space = make_space("cache", frame(12, 9))
    point = {**next(space.known_points()), "interval": 3, "first_depth": 2, "last_depth": 2}
    assert depths(space.build(point)) == [12, 2, 2] * 3


def test_between_refreshes_only_what_ran_is_reused():
    reuse = TAILS["reuse"]
    rows = refreshed_rows((0, 1, 2, 3), [2, 4, 3, 3], 2, 1, reuse)
    assert rows == [(RUN, RUN, DROP, DROP), (RUN, reuse, DROP, DROP), (RUN, RUN, RUN, DROP), (RUN, reuse, reuse, DROP)]


def test_stages_are_kept_from_both_ends_or_from_the_stages_up():
    found = orders(7, True)
    assert found == {"outside": (6, 0, 5, 1, 4, 2, 3), "up": (6, 5, 4, 0, 1, 2, 3)}
    assert orders(4, True) == {"outside": (3, 0, 2, 1), "up": (3, 2, 0, 1)}
    reuse = TAILS["reuse"]
    rows = refreshed_rows(found["outside"], [7, 0, 3, 0], 2, 1, reuse, droppable=False)
    assert rows[:2] == [(RUN,) * 7, (*(reuse,) * 6, RUN)]
    assert rows[2:] == [(RUN, reuse, reuse, reuse, reuse, RUN, RUN), (*(reuse,) * 6, RUN)]


@pytest.mark.parametrize("name", SPACES)
def test_stages_are_never_dropped(name: str):
    space = make_space(name, FRAMES[4])
    for seed in range(30):
        schedule = space.build(draw(space, seed))
        assert all(DROP not in step.blocks for step in schedule.steps)
        assert set(schedule.steps[0].blocks) == {RUN}


def test_a_warp_moves_steps_towards_the_noise_or_the_data():
    whole = frame(12, 20)
    middle = [whole.steps(10, warp).steps[5].time for warp in (0.6, 1.0, 1.6)]
    assert middle == sorted(middle)
    assert all(whole.steps(10, warp).steps[0].time == 999.0 for warp in (0.6, 1.6))


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_any_number_of_steps_is_one_that_the_solver_can_have(number: int):
    whole = FRAMES[number]
    for count in range(whole.least_steps, whole.num_steps + 1):
        for warp in (0.7, 1.0, 1.4):
            made = whole.steps(count, warp)
            assert len(solver_rows(made)) == made.num_steps
            assert count - 1 <= made.num_steps <= count
            assert made.sampler == whole.full.sampler


def test_a_frame_of_flow_matching_keeps_its_shift():
    shifted, plain = FRAMES[6], frame(noise=Noise("flow"), include_zero=False)
    assert [step.time for step in plain.steps(4).steps] == [1.0, 0.75, 0.5, 0.25]
    assert [step.time for step in shifted.steps(4).steps] == pytest.approx([1.0, 0.9, 0.75, 0.5])
    assert [step.network_time for step in shifted.steps(4).steps] == pytest.approx([1000, 900, 750, 500])


def test_a_frame_needs_two_steps():
    with pytest.raises(InputError, match="num-steps"):
        frame(num_steps=1)


def test_an_unknown_space_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean `curve`"):
        make_space("curv", FRAMES[0])


def test_guidance_is_left_out_only_where_there_is_guidance():
    guided, plain = make_space("mixed", FRAMES[2]), make_space("mixed", FRAMES[0])
    assert "guided_share" in guided.distributions()
    assert "guided_share" not in plain.distributions()
    point = {**next(guided.known_points()), "guided_share": 0.6}
    schedule: Schedule = guided.build(point)
    assert [step.unconditional for step in schedule.steps] == ["run"] * 15 + ["skip"] * 10
