"""Which schedules deserve final seeds, and which nobody wants."""

import math
from dataclasses import replace

import pytest
from exeunt.backends.schedule import NetworkSignature, Noise
from exeunt.backends.solvers.tables import make_schedule
from exeunt.reports.view.guards import GuardFigures, Guards
from exeunt.reports.view.interval import Interval
from exeunt.reports.view.standard import TO_REFERENCE, Standard
from exeunt.searcher.search.promotion import (
    Measured,
    Yardstick,
    limit,
    next_rival,
    priorities,
    search_bounds,
    violation,
    worst_excess,
    yardstick,
)
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.studies.config.goal import parse_goal
from exeunt.studies.store.records import summarized

SIGNATURE = NetworkSignature("DiT", "block", (("residual", 4),), None)
SCHEDULE = summarized(make_schedule(SIGNATURE, Noise("linear", 1e-4, 0.02, 1000), "epsilon", num_steps=4))


def measured(label: str, excess: float, speed: float, role: str = "trial", family: str = "") -> Measured:
    return Measured(Candidate(label, role, family, "net", SCHEDULE), excess + 50.0, excess, speed, excess + 10.0)


def baseline(label: str, excess: float, speed: float, family: str = "fewer-steps") -> Measured:
    return measured(label, excess, speed, "baseline", family)


FULL = baseline("full", 100.0, 10.0, "full")
WORST = TO_REFERENCE.worst_excess(100.0, 110.0)
LADDER = [baseline("14 steps", 110.0, 14.0), baseline("10 steps", 140.0, 20.0), baseline("7 steps", 300.0, 28.0)]


def labels(*rows: Measured) -> list[str]:
    return [each.candidate.label for each in priorities([FULL, *LADDER, *rows])]


def test_the_full_schedule_comes_first_whatever_it_measured():
    assert labels(measured("trial 0", 90.0, 50.0))[:2] == ["full", "trial 0"]


def test_the_next_rival_is_in_the_middle_of_those_that_could_spoil_the_lead():
    left = [(speed, measured(f"{speed}", 0.0, speed).candidate) for speed in (12.0, 16.0, 18.0, 40.0)]
    found = next_rival([FULL, *LADDER, measured("trial 0", 120.0, 30.0)], left)
    assert found is not None
    assert found.label == "18.0"
    assert next_rival([FULL, *LADDER], left) is None


def test_a_trial_brings_the_baselines_that_it_must_beat():
    found = labels(measured("trial 0", 120.0, 30.0))
    assert found[1:4] == ["trial 0", "14 steps", "10 steps"]


def test_a_trial_brings_the_baseline_that_is_next_to_it_in_speed():
    """Its distance may be the smallest by chance; then the same steps at full depth are what it must beat."""
    lucky = measured("lucky", 90.0, 29.0)
    found = labels(lucky)
    assert found[:2] == ["full", "lucky"]
    assert "7 steps" in found[2:4]


def test_trials_stand_in_the_order_of_their_gain_over_baselines():
    found = labels(measured("small", 112.0, 15.0), measured("large", 125.0, 28.0), measured("middle", 120.0, 17.0))
    assert [each for each in found if each in ("small", "middle", "large")] == ["large", "middle", "small"]


def test_dominated_trials_stay_behind():
    found = labels(measured("better", 110.0, 30.0), measured("worse", 120.0, 25.0))
    assert "better" in found
    assert "worse" not in found


def test_points_beyond_the_limit_come_after_those_within():
    found = labels(measured("far", 310.0, 90.0), measured("near", 130.0, 25.0))
    assert found.index("near") < found.index("far")


def test_what_is_worthless_gets_no_final_images_and_the_best_trial_some_in_any_case():
    worthless = [measured("blurred", WORST + 1, 90.0), baseline("2 steps", WORST + 1, 80.0)]
    assert labels(measured("near", 130.0, 25.0), *worthless) == labels(measured("near", 130.0, 25.0))
    worse = [measured("noise", WORST + 90, 200.0), *worthless]
    assert [each for each in labels(*worse) if each in ("blurred", "noise", "2 steps")] == ["blurred"]


def test_the_worst_excess_is_stated_on_the_upper_end_of_the_full_schedules():
    assert worst_excess([FULL, *LADDER], TO_REFERENCE) == WORST
    assert violation(measured("at", WORST, 90.0), WORST) == 0.0
    assert violation(measured("twice", 2 * WORST, 90.0), WORST) == pytest.approx(1.0)
    assert violation(FULL, WORST) < 0


def test_nothing_is_worthless_beside_a_full_schedule_without_excess():
    perfect = replace(FULL, excess=-20.0, excess_upper=-10.0)
    assert worst_excess([perfect], TO_REFERENCE) == math.inf
    assert violation(measured("far", 1e6, 90.0), math.inf) < 0
    assert "far" in [each.candidate.label for each in priorities([perfect, measured("far", 1e6, 90.0)])]


def test_the_front_of_the_baselines_is_there_without_any_trial():
    assert labels() == ["full", "7 steps", "10 steps", "14 steps"]


def test_nothing_comes_twice():
    found = labels(measured("trial 0", 120.0, 30.0), measured("trial 1", 150.0, 40.0))
    assert len(found) == len(set(found))


def test_without_real_images_limits_are_parts_of_what_another_noise_changes():
    full = replace(baseline("full", 0.0, 10.0, "full"), excess_upper=0.0)
    rows = [full, baseline("7 steps", 0.5, 20.0), measured("near", 0.3, 30.0), measured("far", 0.6, 60.0)]
    judged = Yardstick(Standard("baseline", Interval(2.0, 2.0, 2.0)))
    assert limit(full, judged.standard) == judged.standard.limit * 2.0
    worst = worst_excess(rows, judged.standard)
    assert worst == 0.65 * 2.0
    assert violation(rows[3], worst) < 0
    found = [each.candidate.label for each in priorities(rows, judged)]
    assert found[0] == "full"
    assert found.index("near") < found.index("far")
    blurred = measured("blurred", worst + 0.01, 90.0)
    assert "blurred" not in [each.candidate.label for each in priorities([*rows, blurred], judged)]
    assert worst_excess(rows, Standard("baseline")) == math.inf
    left = [(15.0, measured("15.0", 0.0, 15.0).candidate)]
    assert next_rival(rows, left, judged) is left[0][1]
    assert next_rival(rows, left, Yardstick(Standard("baseline", Interval(0.1, 0.1, 0.1)))) is None


def figures(paired: float, pixels: float = 2.7) -> GuardFigures:
    return GuardFigures(*(Interval(value, 0.9 * value, 1.1 * value) for value in (paired, pixels)))


def test_what_a_guard_objects_to_violates_and_gets_no_final_images_however_good_its_distance():
    steps = [replace(each, figures=figures(paired)) for each, paired in zip(LADDER, (30.0, 100.0, 300.0), strict=True)]
    good = replace(measured("good", 130.0, 25.0), figures=figures(800.0))
    blurred = replace(measured("blurred", 101.0, 60.0), figures=figures(500.0, pixels=18.0))
    static = replace(measured("static", 90.0, 90.0), figures=figures(3000.0))
    rows = [replace(FULL, figures=figures(0.0)), *steps, good, blurred, static]
    judged = yardstick(rows, TO_REFERENCE, nothing=3000.0)
    assert judged.guards == Guards(paired=1500.0, pixels=1.25 * 2.7)
    worst = worst_excess(rows, TO_REFERENCE)
    assert [violation(each, worst, judged.guards) > 0 for each in (good, blurred, static)] == [False, True, True]
    found = [each.candidate.label for each in priorities(rows, judged)]
    assert "good" in found
    assert not {"blurred", "static"} & set(found)


def test_fewer_steps_down_to_4_say_what_is_normal_so_no_guard_objects_to_them():
    broken = replace(baseline("4 steps", 110.0, 30.0), figures=figures(2900.0, pixels=20.0))
    assert violation(broken, WORST, Guards(paired=1500.0, pixels=3.0)) < 0


def test_a_goal_bounds_what_the_search_is_after():
    rows = [FULL, *LADDER]
    free = search_bounds(rows, TO_REFERENCE)
    at_speed = search_bounds(rows, replace(TO_REFERENCE, goal=parse_goal("best at 2x")))
    within = search_bounds(rows, replace(TO_REFERENCE, goal=parse_goal("fastest within 5%")))
    assert free is not None
    assert at_speed is not None
    assert within is not None
    assert (free.slowest, free.fastest) == (10.0, math.inf)
    assert 19 < at_speed.slowest < 20 < at_speed.fastest == pytest.approx(23.0)
    assert within.worst < free.worst
    assert within.least > free.least


def test_what_is_near_a_wanted_speed_comes_first():
    goal = Yardstick(replace(TO_REFERENCE, goal=parse_goal("best at 4x")))
    rows = [FULL, *LADDER, measured("slow and good", 101.0, 30.0), measured("at 4x", 250.0, 41.0)]
    assert [each.candidate.label for each in priorities(rows, goal)][:2] == ["full", "at 4x"]
    assert [each.candidate.label for each in priorities(rows)][:2] == ["full", "slow and good"]
