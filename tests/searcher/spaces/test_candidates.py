"""The baselines of a study, and the order in which they are measured."""

import json

import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.formats.ase import write_ase
from exeunt.backends.schedule import DROP, REUSE, RUN, NetworkSignature, Noise, depths, validate
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.spaces.candidates import Candidate, list_baselines
from exeunt.searcher.spaces.frame import FullSchedule
from exeunt.studies.config.families import DEFAULT_FAMILIES

NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)


def frame(weights: str, num_blocks: int = 12, num_steps: int = 20) -> FullSchedule:
    signature = NetworkSignature("DiT", "block", (("residual", num_blocks),), weights * 64)
    return FullSchedule(make_schedule(signature, NOISE, "epsilon", num_steps=num_steps), "log-snr")


def of(rows: list[Candidate], family: str, weights: str = "exits") -> list[Candidate]:
    return [row for row in rows if row.family == family and row.weights == weights]


FRAMES = {"exits": frame("a"), "normal": frame("b")}
ROWS = list_baselines(FRAMES)


def test_every_baseline_is_valid_and_told_apart():
    for row in ROWS:
        validate(row.schedule)
    assert len({(row.weights, row.label) for row in ROWS}) == len(ROWS)
    assert len({row.schedule.digest for row in ROWS}) == len(ROWS)
    assert {row.family for row in ROWS} == set(DEFAULT_FAMILIES) - {"stitch"}


def test_the_full_schedules_come_first_and_the_normal_weights_lead():
    assert [(row.label, row.weights) for row in ROWS[:2]] == [("full · normal", "normal"), ("full", "exits")]


def test_fewer_steps_are_there_at_every_count_on_both_weights():
    for weights in ("exits", "normal"):
        counts = [row.schedule.num_steps for row in of(ROWS, "fewer-steps", weights)]
        assert sorted(counts) == list(range(2, 20))


def test_early_baselines_make_an_even_ladder():
    early = ROWS[:26]
    assert {row.family for row in early} == set(DEFAULT_FAMILIES) - {"stitch"}
    assert [row.schedule.num_steps for row in of(early, "fewer-steps")] == [6, 3, 12]
    assert [depths(row.schedule)[0] for row in of(early, "uniform-depth")] == [3, 1]


def test_only_the_studys_own_weights_drop_blocks():
    assert all(DROP not in step.blocks for row in ROWS if row.weights == "normal" for step in row.schedule.steps)


def test_the_published_staircase_is_rescaled():
    (row,) = of(ROWS, "staircase")
    assert json.loads(write_ase(row.schedule)) == [12, 12, 10, 10, 9, 9, 7, 7, 5, 5]


def test_fixed_intervals_run_whole_at_every_kth_step():
    row = next(row for row in ROWS if row.label == "reuse from 3, every 4")
    assert depths(row.schedule) == [12, 3, 3, 3] * 5
    assert row.schedule.steps[1].blocks.count(REUSE) == 9


def test_coinciding_depths_of_a_shallow_network_are_one_row():
    rows = list_baselines({"exits": frame("a", num_blocks=3, num_steps=4)})
    assert len({row.schedule.digest for row in rows}) == len(rows)


def test_baselines_of_stages_are_caches_and_fewer_steps():
    signature = NetworkSignature("UNet2DModel", "block", (("replace", 7),), None)
    rows = list_baselines({"unet": FullSchedule(make_schedule(signature, NOISE, "epsilon", num_steps=8), "log-snr")})
    assert {row.family for row in rows} == {"full", "fewer-steps", "interval-reuse", "fora", "solver"}
    for row in rows:
        validate(row.schedule)
    by_label = {row.label: row.schedule for row in rows}
    deep = by_label["DeepCache, every 3"]
    assert [step.blocks for step in deep.steps[:2]] == [(RUN,) * 7, (RUN, *[REUSE] * 5, RUN)]
    encoder = by_label["stages up alone, every 2"]
    assert [step.blocks for step in encoder.steps[:2]] == [(RUN,) * 7, (*[REUSE] * 4, *[RUN] * 3)]


def test_select_keeps_the_full_schedules():
    assert {row.family for row in list_baselines(FRAMES, ["staircase"])} == {"full", "staircase"}
    with pytest.raises(InputError, match="stairs"):
        list_baselines(FRAMES, ["stairs"])


@pytest.mark.parametrize(("solver", "variant"), [("heun", None), ("pndm", "plms"), ("pndm", "prk")])
def test_fewer_steps_are_named_by_what_the_solver_makes(solver: str, variant: str | None):
    signature = NetworkSignature("DiT", "block", (("residual", 12),))
    full = make_schedule(signature, NOISE, "epsilon", solver=solver, variant=variant, num_steps=10)
    rows = of(list_baselines({"exits": FullSchedule(full, "log-snr")}), "fewer-steps")
    assert [row.label for row in rows] == [f"{row.schedule.num_steps} steps" for row in rows]
    assert len({row.label for row in rows}) == len(rows) >= 4
