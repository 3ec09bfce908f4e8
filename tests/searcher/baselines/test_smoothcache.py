"""SmoothCache's thresholds, and its calibration of a network."""

from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import load_conditions
from exeunt.backends.schedule import REUSE, NetworkSignature, block_evaluations, depths
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.baselines.smoothcache import LONGEST, computed_steps, layer_changes, layer_groups, smoothcache
from exeunt.searcher.spaces.frame import FullSchedule

# From one, two and three steps before, by step.
CHANGES = [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.1, 0.2, 0.0], [0.1, 0.2, 0.3], [0.5, 0.6, 0.7], [0.1, 0.6, 0.7]]


def test_an_output_is_kept_for_as_long_as_it_stays_within_the_threshold():
    assert computed_steps(CHANGES, 0.05) == [True] * 6
    assert computed_steps(CHANGES, 0.2) == [True, False, False, True, True, True]
    assert computed_steps(CHANGES, 0.3) == [True, False, False, False, True, True]


def test_no_output_is_kept_for_more_than_three_steps():
    assert computed_steps([[0.0] * LONGEST] * 9, 1.0) == [True, False, False, False, True, False, False, False, True]


def test_branches_of_one_kind_are_cached_together():
    assert layer_groups(NetworkSignature("DiT", "branch", (("branch", 4),))) == ["attn", "mlp", "attn", "mlp"]
    assert layer_groups(NetworkSignature("DiT", "block", (("residual", 2),))) == ["block", "block"]


def test_a_calibrated_network_has_bolder_schedules_at_higher_thresholds():
    network = load_network("closed-form", num_blocks=3)
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=12)
    conditions = load_conditions("uniform", network.num_classes)
    (changes,) = layer_changes(network, full, conditions).values()
    assert len(changes) == 12
    assert changes[0] == [0.0] * LONGEST
    assert all(each[0] > 0 for each in changes[1:])
    rows = smoothcache(network, FullSchedule(full, "log-snr"), conditions)
    assert rows
    work = [block_evaluations(schedule) for _, schedule in rows]
    assert work == sorted(work, reverse=True)
    for _, schedule in rows:
        assert depths(schedule)[0] == depths(schedule)[-1] == 3
        assert any(REUSE in step.blocks for step in schedule.steps)
