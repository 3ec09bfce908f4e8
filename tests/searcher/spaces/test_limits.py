"""Levers that a user fixes or bounds."""

import random

import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.schedule import RUN, NetworkSignature, Noise, Schedule, block_evaluations
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.proposals.variation import Variation, is_even
from exeunt.searcher.spaces.base import make_space
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.searcher.spaces.free import Free, require_free

NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


def frame(kind: str = "residual", blocks: int = 6, **options) -> FullSchedule:
    signature = NetworkSignature("DiT", "block", ((kind, blocks),), None)
    return FullSchedule(make_schedule(signature, NOISE, "epsilon", num_steps=10, **options), "log-snr")


def space(levers: dict[str, object], **options) -> Free:
    return require_free(make_space("free", frame(**options), levers), "front")


def varied(bounded: Free, count: int = 300) -> list[Schedule]:
    """Schedules of a random walk through the space, from its warm starts."""
    generator = random.Random(0)
    variation = Variation(bounded, generator)
    points = [bounded.point(each) for each in bounded.warm_starts()]
    for _ in range(count):
        found = variation.vary(generator.choice(points), generator.choice(points))
        if found is not None and is_even(found):
            points.append(found)
    return [bounded.build(bounded.values(each)) for each in points]


BOUNDS = {
    "steps": ({"steps": "4..6"}, lambda each: 4 <= each.num_steps <= 6),
    "depth": ({"depth": "2,4,6"}, lambda each: all(row_depth(each, s) in (2, 4, 6) for s in range(each.num_steps))),
    "uneven depths": (
        {"depth": "1,2,6"},
        lambda each: all(row_depth(each, s) in (1, 2, 6) for s in range(each.num_steps)),
    ),
    "full depth": ({"depth": "fixed"}, lambda each: block_evaluations(each) == 6 * each.num_steps),
    "stand-in": (
        {"stand-in": "drop"},
        lambda each: {action.kind for step in each.steps for action in step.blocks} <= {"run", "drop"},
    ),
    "order": ({"solver-order": "1"}, lambda each: each.sampler.order == 1),
    "times": ({"times": "fixed"}, lambda each: each == on_spacing(each)),
}


def row_depth(schedule: Schedule, s: int) -> int:
    return sum(action == RUN for action in schedule.steps[s].blocks)


def on_spacing(schedule: Schedule) -> Schedule:
    """The schedule if its times are those of the spacing, else another one."""
    spaced = frame().steps(schedule.num_steps)
    return schedule if [s.time for s in schedule.steps] == [s.time for s in spaced.steps] else spaced


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_hold_for_all_that_a_search_can_reach(name: str):
    levers, holds = BOUNDS[name]
    found = varied(space(levers))
    assert len({each.digest for each in found}) > 5
    assert all(map(holds, found))


def test_what_is_left_open_still_moves():
    found = varied(space({"times": "fixed"}))
    assert len({each.num_steps for each in found}) > 3
    assert len({row_depth(each, 0) for each in found}) > 3


def test_fixed_levers_are_no_parameters():
    names = space({"steps": "10", "times": "fixed", "solver-order": "2", "blocks": "front"}).distributions()
    assert not {name for name in names if name.startswith(("gap", "keep", "solver"))}


def test_shares_of_guidance_are_bounded():
    bounded = space({"guided-share": "0.5..0.8", "unguided-share": "fixed"}, guidance=2.0)
    assert set(bounded.other_levers) == {"guided_share", "solver_order"}
    for each in varied(bounded, 100):
        guided = sum(step.unconditional != "skip" for step in each.steps)
        assert round(0.5 * each.num_steps) <= guided <= round(0.8 * each.num_steps)


def test_the_full_schedule_is_known_where_it_is_within_the_bounds():
    within, without = space({"depth": "4..6"}), space({"depth": "1..3"})
    assert within.parameters(frame().full) is not None
    assert without.parameters(frame().full) is None
    assert not list(without.known_points())


def test_reach_is_from_the_cheapest_to_the_dearest():
    assert space({"steps": "4..8", "depth": "3..5"}).reach() == (4 * 3, 8 * 5)
    low, high = space({}, guidance=2.0).reach()
    assert (low, high) == (2 * 1, 10 * 6 * 2)


def test_words_say_what_is_open():
    assert space({"steps": "8", "stand-in": "drop", "times": "fixed"}).words == (
        "free: 8 steps; 1–6 of 6 blocks at each; stand-in drop; blocks front, ends; times of the spacing; "
        "solver-order 1, 2, 3"
    )


@pytest.mark.parametrize(
    ("levers", "message"),
    [
        ({"nope": "1"}, "`nope` is no lever of this study. Known: steps"),
        ({"dept": "1"}, "Did you mean `depth`?"),
        ({"steps": "1..3"}, "levers.steps: must be whole numbers from 2 to 10, such as `2..10`, but got `1..3`"),
        ({"depth": "x"}, "levers.depth: must be whole numbers from 1 to 6, such as `1..6`, but got `x`"),
        ({"depth": "4..2"}, "levers.depth: must be whole numbers"),
        ({"depth": "1..6/0"}, "levers.depth: must be whole numbers"),
        ({"stand-in": "cache"}, "levers.stand-in: `cache` is not one of its values. Known: drop, reuse"),
        ({"times": "maybe"}, "levers.times: `maybe` is not one of its values."),
        ({"guided-share": "0.5"}, "`guided-share` is no lever of this study."),
    ],
)
def test_what_cannot_be_is_refused(levers: dict[str, object], message: str):
    with pytest.raises(InputError) as refused:
        space(levers)
    assert message in str(refused.value)


def test_other_spaces_have_no_levers_to_fix():
    with pytest.raises(InputError, match="only those of the space `free` can be fixed, but the space is `mixed`"):
        make_space("mixed", frame(), {"depth": "3"})


def test_stages_that_replace_can_run_none():
    bounded = space({"depth": "0,2"}, kind="replace", blocks=9)
    assert bounded.depths == (0, 2)
    assert all(block_evaluations(each) > 0 for each in varied(bounded, 50))
