"""Points as arrays, and what they cost."""

import numpy as np
import pytest
from exeunt.backends.schedule import RUN, branches_at
from exeunt.searcher.proposals.descriptions import BINS, CostModel, describe
from exeunt.searcher.spaces.free import Free
from free_spaces import varied


def test_work_is_what_the_schedules_run(space: Free):
    points = varied(space, 80)
    work = describe(space, points).work
    for point, row in zip(points, work, strict=True):
        schedule = space.schedule(point)
        branches = [len(branches_at(schedule, s)) for s in range(schedule.num_steps)]
        small = [sum(branches[s] * len(step.blocks) for s, step in enumerate(schedule.steps) if step.network)]
        branches = [0 if step.network else count for step, count in zip(schedule.steps, branches, strict=True)]
        run = [sum(action == RUN for action in step.blocks) for step in schedule.steps]
        stored = [sum(action.kind in ("reuse", "forecast") for action in step.blocks) for step in schedule.steps]
        assert row[4:].tolist() == (small if space.frame.small else [])
        assert row[1] == sum(branches)
        assert row[2] == sum(a * b for a, b in zip(branches, run, strict=True))
        if not space.frame.guided:  # a value may be missing in one branch alone
            assert row[3] == sum(a * b for a, b in zip(branches, stored, strict=True))


def test_an_array_describes_a_point_whatever_stands_beside_it(space: Free):
    points = varied(space, 40)
    together, alone = describe(space, points), [describe(space, [point]) for point in points]
    assert together.local.shape[1] == BINS
    for i, each in enumerate(alone):
        np.testing.assert_allclose(together.local[i], each.local[0], atol=1e-12)
        np.testing.assert_array_equal(together.whole[i], each.whole[0])


def test_the_same_shape_on_other_steps_is_near(exits: Free):
    """Twice the steps differ in their width alone, by the logarithm of two."""
    few, many = (exits.point({**exits.values(exits.point(exits.warm_starts()[-1])), "num_steps": n}) for n in (4, 8))
    found = describe(exits, [few, many]).local
    np.testing.assert_allclose(found[0, :, 0] - found[1, :, 0], np.log(2))
    np.testing.assert_allclose(found[0, :, 1:], found[1, :, 1:])


def test_costs_are_learnt_from_few_points():
    random = np.random.default_rng(0)
    steps = random.integers(2, 20, 12)
    work = np.stack([np.ones(12), steps, steps * random.integers(1, 12, 12), random.integers(0, 60, 12)], axis=1) * 1.0
    costs = work @ np.array([0.3, 0.05, 0.02, 0.001])
    model = CostModel.fit(work[:8], costs[:8])
    np.testing.assert_allclose(model.costs(work[8:]), costs[8:], rtol=0.03)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_one_point_says_what_a_block_costs(scale: float):
    work = np.array([[1.0, 20.0, 240.0, 0.0]])
    model = CostModel.fit(work, np.array([scale]))
    assert model.costs(work)[0] == pytest.approx(scale, rel=0.05)
    assert model.costs(np.array([[1.0, 10.0, 120.0, 0.0]]))[0] == pytest.approx(scale / 2, rel=0.1)
