"""Both measurements on networks whose cost is known: the closed-form network sleeps for a stated time a block."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from exeunt.backends.network import Network
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.plan import compile_plan
from exeunt.backends.schedule import REUSE, Schedule, block_evaluations, forecast, with_exits
from exeunt.backends.solvers.tables import make_schedule
from exeunt.backends.timing import device_lock
from exeunt.backends.timing.pieces import trajectory
from exeunt.backends.timing.samples import Timing
from exeunt.backends.timing.throughput import (
    TimedSchedule,
    flops,
    missing_kinds,
    speedup,
    time_calls,
    time_schedules,
)

BATCH, NUM_BLOCKS, NUM_STEPS, SECONDS_PER_BLOCK = 4, 4, 4, 0.001


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the tests from waiting for a study that runs on this machine."""
    monkeypatch.setattr(device_lock, "FOLDER", tmp_path)


@pytest.fixture(scope="module")
def sleeper() -> Network:
    return load_network("closed-form", num_blocks=NUM_BLOCKS, components=3, seconds_per_block=SECONDS_PER_BLOCK)


@pytest.fixture(scope="module")
def dit() -> DiTNetwork:
    torch.manual_seed(0)
    module = DiT(input_size=4, patch_size=2, channels=1, width=16, depth=4, num_heads=2, num_classes=3)
    noise = load_network("closed-form").noise
    return DiTNetwork(module, name="tiny", weights_sha256=None, num_classes=3, prediction="epsilon", noise=noise)


def full(network: Network, guidance: float | None = None) -> Schedule:
    return make_schedule(network.signature, network.noise, network.prediction, num_steps=NUM_STEPS, guidance=guidance)


def slept(schedule: Schedule) -> float:
    """Seconds that a batch takes at the very least."""
    return block_evaluations(schedule) * BATCH * SECONDS_PER_BLOCK


def predicted_seconds(schedule: Schedule, timings: Sequence[Mapping[str, Timing]]) -> float:
    """Seconds per batch: the calls of a schedule's plan, the solver's arithmetic of its steps, and the decoder."""
    steps = compile_plan(schedule).steps
    calls = sum(timings[step.network][call.kind].median for step in steps for call in step.calls)
    return calls + len(steps) * timings[0]["solver-step"].median + timings[0]["decode"].median


def kinds(schedules: Sequence[Schedule]) -> set[str]:
    return {call.kind for s in schedules for step in compile_plan(s).steps for call in step.calls}


def test_each_kind_is_timed_once_beside_solver_and_decoder(sleeper: Network) -> None:
    schedules = [full(sleeper), with_exits(full(sleeper), [4, 3, 3, 1])]
    (timings,) = time_calls([sleeper], schedules, batch_size=BATCH, repeats=3)
    assert set(timings) == kinds(schedules) | {"decode", "solver-step"}
    assert len(kinds(schedules)) == 3
    assert all(len(timing.seconds) == 3 and min(timing.seconds) > 0 for timing in timings.values())
    assert all(timing.batch_size == BATCH for timing in timings.values())


def test_what_is_known_is_not_timed_again(sleeper: Network) -> None:
    base = full(sleeper)
    first = time_calls([sleeper], [base], batch_size=BATCH, repeats=1)
    assert missing_kinds([base], first) == [set()]
    assert time_calls([sleeper], [base], batch_size=BATCH, known=first) == [{}]
    (more,) = time_calls([sleeper], [with_exits(base, [2] * 4)], batch_size=BATCH, known=first, repeats=1)
    assert set(more) == kinds([with_exits(base, [2] * 4)])


def test_a_spent_budget_still_leaves_one_repeat_of_each_kind(sleeper: Network) -> None:
    (timings,) = time_calls([sleeper], [full(sleeper)], batch_size=BATCH, repeats=50, max_seconds=0.0)
    assert {len(timing.seconds) for timing in timings.values()} == {1}


def test_predicted_and_measured_seconds_agree_and_hold_the_known_cost(sleeper: Network) -> None:
    base = full(sleeper)
    schedules = {"full": base, "exit 2": with_exits(base, [2] * 4), "reuse": with_exits(base, [4, 1, 4, 1], REUSE)}
    timings = time_calls([sleeper], list(schedules.values()), batch_size=BATCH, repeats=3)
    measured = time_schedules(
        {key: TimedSchedule((sleeper,), schedule) for key, schedule in schedules.items()},
        "full",
        batch_size=BATCH,
        repeats=3,
    )
    predicted = {key: predicted_seconds(schedule, timings) for key, schedule in schedules.items()}
    for key, schedule in schedules.items():
        assert min(measured[key].seconds) >= slept(schedule)
        assert predicted[key] >= slept(schedule)
    error = median(abs(predicted[key] / measured[key].median - 1) for key in schedules)
    assert 0 <= error < 2  # a shared machine may well stretch one of the two


def test_rounds_go_forwards_and_backwards_with_the_baseline_in_every_group(sleeper: Network) -> None:
    base = full(sleeper)
    subjects = {name: TimedSchedule((sleeper,), with_exits(base, [1] * 4)) for name in "abcdef"} | {
        "B": TimedSchedule((sleeper,), base)
    }
    order: list[str] = []
    timings = time_schedules(subjects, "B", batch_size=1, repeats=2, observe=lambda key, seconds: order.append(key))
    assert "".join(order) == "BabcdBef" + "feBdcbaB"
    assert len(timings["B"].seconds) == 4
    assert timings["B"].neighbours == timings["B"].seconds
    assert timings["a"].neighbours == (timings["B"].seconds[0], timings["B"].seconds[3])
    assert timings["f"].neighbours == (timings["B"].seconds[1], timings["B"].seconds[2])


def test_a_speed_up_is_a_ratio_of_neighbours(sleeper: Network) -> None:
    base = full(sleeper)
    subjects = {"full": TimedSchedule((sleeper,), base), "exit 1": TimedSchedule((sleeper,), with_exits(base, [1] * 4))}
    timings = time_schedules(subjects, "full", batch_size=BATCH, repeats=3)
    timing, ratio = timings["exit 1"], speedup(timings["exit 1"])
    ratios = sorted(b / a for a, b in zip(timing.seconds, timing.neighbours, strict=True))
    assert ratio.value == ratios[1]
    assert ratio.lower <= ratios[0]
    assert ratio.upper >= ratios[2]
    assert speedup(timings["full"]).value == 1.0
    assert timing.images_per_second == BATCH / timing.median


def test_the_budget_ends_whole_rounds_but_never_before_the_third(sleeper: Network) -> None:
    subjects = {"full": TimedSchedule((sleeper,), full(sleeper))}
    spent = time_schedules(subjects, "full", batch_size=1, repeats=20, max_seconds=0.0)
    assert len(spent["full"].seconds) == 3
    short = time_schedules(subjects, "full", batch_size=1, repeats=2, max_seconds=0.0)
    assert len(short["full"].seconds) == 2


def test_timing_waits_until_samplers_are_done(sleeper: Network) -> None:
    subjects, runs = {"full": TimedSchedule((sleeper,), full(sleeper))}, []
    with device_lock.DeviceLock("cpu").shared():
        timer = threading.Thread(
            target=time_schedules,
            args=(subjects, "full"),
            kwargs={"batch_size": 1, "repeats": 1, "observe": lambda key, seconds: runs.append(key)},
        )
        timer.start()
        time.sleep(0.2)
        assert not runs
    timer.join(30.0)
    assert runs == ["full"]


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_every_action_of_a_transformer_is_timed(dit: DiTNetwork, guidance: float | None) -> None:
    base = full(dit, guidance)
    schedules = [
        with_exits(base, [4, 4, 2, 4]),
        with_exits(base, [4, 1, 4, 2], REUSE),
        with_exits(base, [4, 4, 2, 1], forecast(1)),
    ]
    timings = time_calls([dit], schedules, batch_size=2, repeats=1)
    assert set(timings[0]) == kinds(schedules) | {"decode", "solver-step"}
    assert all(predicted_seconds(schedule, timings) > 0 for schedule in schedules)


def test_a_branch_that_reads_half_of_a_joint_value_is_timed(dit: DiTNetwork) -> None:
    base = with_exits(full(dit, 2.0), [4, 1, 4, 4], REUSE)
    alone = replace(base, steps=(base.steps[0], replace(base.steps[1], unconditional="skip"), *base.steps[2:]))
    assert any("xh" in kind for kind in kinds([alone]))
    assert kinds([alone]) <= set(time_calls([dit], [alone], batch_size=2, repeats=1)[0])


def test_two_networks_have_timings_of_their_own(sleeper: Network) -> None:
    base = full(sleeper)
    steps = tuple(replace(step, network=s % 2) for s, step in enumerate(with_exits(base, [4, 2, 4, 2]).steps))
    stitched = replace(base, networks=base.networks * 2, steps=steps)
    first, second = timings = time_calls([sleeper, sleeper], [stitched], batch_size=BATCH, repeats=1)
    assert set(first) == {"1:run0-4", "decode", "solver-step"}
    assert set(second) == {"1:run0-2,skip2-4"}
    assert predicted_seconds(stitched, timings) >= slept(stitched)


def test_a_trajectory_ends_in_images(sleeper: Network) -> None:
    images = trajectory([sleeper], full(sleeper), BATCH)()
    assert images.dtype == torch.uint8
    assert images.shape == (BATCH, *sleeper.image_shape)


def test_flops_count_blocks_branches_and_the_decoder(dit: DiTNetwork) -> None:
    depths = [4, 1, 4, 2]
    alone, guided = (with_exits(full(dit, guidance), depths, REUSE) for guidance in (None, 2.0))
    once = sum(dit.flops(range(depth)) for depth in depths)
    assert flops([dit], alone) == once + dit.decode_flops()
    assert flops([dit], guided) == 2 * once + dit.decode_flops()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_both_measurements_run_on_cuda() -> None:
    network = load_network("closed-form", "cuda", components=3)
    base = full(network, 2.0)
    subjects = {"full": TimedSchedule((network,), base), "exit 2": TimedSchedule((network,), with_exits(base, [2] * 4))}
    timings = time_calls([network], [subject.schedule for subject in subjects.values()], batch_size=8)
    measured = time_schedules(subjects, "full", batch_size=8)
    assert all(len(timing.seconds) == 5 and timing.median > 0 for timing in measured.values())
    assert predicted_seconds(base, timings) > 0
