"""Studies in which a small network may take the first steps: closed-form networks of other mixtures and sizes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from exeunt.backends.errors import InputError
from exeunt.backends.network import Network
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import StepValues, Trajectory, Waypoint, sample_batch
from exeunt.backends.schedule import Schedule, load
from exeunt.backends.timing.throughput import flops
from exeunt.reports.view.view import Point, StudyView
from exeunt.searcher import runner
from exeunt.searcher.cli.main import cli
from exeunt.searcher.measuring.setup import load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.store import open_store

SMALL = {"num_blocks": 2, "seed": 1}  # of another mixture: right where there is mostly noise
FLAGS = ["--network", "small=closed-form", *(f"--network-arg=small.{key}={value}" for key, value in SMALL.items())]
BATCH = 8


@pytest.fixture
def two(small: StudyConfig) -> StudyConfig:
    """A study of the closed-form network with a small one."""
    return override(
        small,
        {
            "checkpoint.small": "closed-form",
            "checkpoint.small_options": tuple(SMALL.items()),
            "search.baselines": ("full", "fewer-steps", "stitch"),
            "run.budget": "12-trials",
        },
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def in_turn(view: StudyView) -> list[Point]:
    """The points whose schedules use both networks."""
    return [point for point in view.points if {step.network for step in point.schedule.steps} == {0, 1}]


@torch.inference_mode()
def by_hand(large: Network, small: Network, schedule: Schedule) -> np.ndarray:
    """The schedule's first images: a trajectory of the small network alone, and from where it ends one of the large."""
    count = sum(step.network for step in schedule.steps)
    steps = schedule.steps
    first = replace(
        schedule,
        networks=schedule.networks[1:],
        steps=tuple(replace(step, network=0, blocks=steps[0].blocks) for step in steps),
    )
    rest = replace(
        schedule,
        networks=schedule.networks[:1],
        steps=tuple(replace(step, network=0, blocks=steps[-1].blocks) for step in steps[:count]) + steps[count:],
    )
    seen: list[StepValues] = []
    noise = noises(1, range(BATCH), large.sample_shape, 1)[0]
    labels = torch.zeros(BATCH, dtype=torch.long)

    def keep(_step: int, values: StepValues) -> None:
        seen.append(replace(values, x=values.x.clone(), m=values.m.clone(), x_next=values.x_next.clone()))

    sample_batch([small], first, noise, [], labels, observe=keep)
    history = tuple(values.m for values in reversed(seen[:count]))
    going_on = Trajectory([large], rest, noise, [], labels, Waypoint(count, seen[count - 1].x_next, history[:1]))
    for row in going_on.rows:
        going_on.predict()
        going_on.advance(row)
    return large.decode(going_on.x).permute(0, 2, 3, 1).numpy()


def test_a_search_finds_schedules_of_both_networks_that_are_sampled_as_by_hand(
    two: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    view = runner.optimize(override(two, {"run.report": "report"}), "exeunt.db")
    large, small = load_network("closed-form"), load_network("closed-form", **SMALL)
    found = [point for point in in_turn(view) if point.trial is not None]
    assert found
    for point in found:
        assert point.flops == flops([large, small], point.schedule)
        assert point.predicted_seconds is not None
    assert (tmp_path / "report" / "index.html").exists()

    point = found[0]
    exported = run("export", "--trial", str(point.trial), "-o", "two.schedule.json")
    assert exported.exit_code == 0, exported.output
    given = ("two.schedule.json", "--checkpoint", "closed-form", *FLAGS)
    sampled = run("sample", *given, "--num-images", str(BATCH), "-o", "a.npz")
    assert sampled.exit_code == 0, sampled.output
    assert "Note:" not in sampled.output
    schedule = load(Path("two.schedule.json"))
    assert [each.num_blocks for each in schedule.networks] == [8, 2]
    with np.load("a.npz") as archive:
        np.testing.assert_array_equal(archive["images"], by_hand(large, small, schedule))

    listed = run("baselines", "--checkpoint", "closed-form", *FLAGS, "--num-steps", "8", "--baselines", "stitch")
    assert "T-Stitch, 6 of 8 steps" in listed.stdout
    shown = run("schedule", "show", "two.schedule.json")
    assert "closed-form with 8 blocks and closed-form with 2 blocks" in shown.stdout
    lone = run("sample", "two.schedule.json", "--checkpoint", "closed-form")
    assert lone.exit_code == 2
    assert "names 2, but got 1. Give one for each; on the command line `--network small=FILE`" in lone.output
    other = run("sample", *given[:-1], "--network-arg=small.seed=2")
    assert "give those weights with --network small=FILE" in other.output
    metric = ("--metric", "fd-pixels", "--reference", str(two.quality.reference), "--num-images", "16")
    measured = run("evaluate", *given, *metric, "--repeats", "2", "--json")
    assert measured.exit_code == 0, measured.output


@pytest.mark.slow
def test_a_point_of_both_networks_runs_without_pytorch(
    two: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (point, *_) = in_turn(runner.optimize(override(two, {"run.budget": "8-trials"}), "exeunt.db"))
    exported = run("export", "--label", point.label, "--format", "onnx", "-o", "graphs")
    assert exported.exit_code == 0, exported.output
    program = [sys.executable, "graphs/sample.py", "--images", str(BATCH), "--seed", "1", "-o", "images.npy"]
    subprocess.run(program, check=True, timeout=120)
    networks = load_network("closed-form"), load_network("closed-form", **SMALL)
    ours = by_hand(*networks, load(Path("graphs/schedule.schedule.json")))
    assert np.abs(np.moveaxis(np.load("images.npy").astype(int), 1, 3) - ours).max() <= 1


def test_a_study_goes_on_with_the_same_small_network_alone(two: StudyConfig, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    first = runner.optimize(override(two, {"run.budget": "4-trials"}), url)
    with open_store(url, read_only=True) as store:
        pins = store.studies.pins(two.name)
    assert pins["checkpoint.small"] == load_network("closed-form", **SMALL).signature.weights_sha256
    more = runner.optimize(override(two, {"run.budget": "3-trials"}), url)
    assert {point.key for point in more.points} > {point.key for point in first.points}
    for options in ({**SMALL, "seed": 2}, {}):
        with pytest.raises(InputError, match=r"checkpoint\.small"):
            runner.optimize(override(two, {"checkpoint.small_options": tuple(options.items())}), url)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"components": 2}, "its num classes is 2, not 1"),
        ({"dim": 25}, r"its sample shape is \(1, 5, 5\), not \(1, 4, 4\)"),
        ({"prediction": "epsilon"}, "its prediction is epsilon, not v"),
        ({"noise": "cosine"}, "its noise is "),
    ],
)
def test_a_small_network_for_other_samples_is_refused(
    two: StudyConfig, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=rf"checkpoint\.small: .* {reason}.* --network-arg small\.KEY=VALUE"):
        load_setup(override(two, {"checkpoint.small_options": tuple(options.items())}))


def test_without_a_small_network_every_schedule_is_as_it_was(two: StudyConfig) -> None:
    plain = load_setup(override(two, {"checkpoint.small": None, "checkpoint.small_options": ()}))
    beside = load_setup(two)
    assert plain.frame.full.digest == beside.frame.full.digest
    assert "small_share" not in plain.space.distributions()
    for point in plain.space.warm_starts():
        assert plain.space.build(point).digest == beside.space.build({**point, "small_share": 0.0}).digest
    fixed = load_setup(override(two, {"search.levers": (("small-share", "0.25..0.5"),)})).space
    built = [fixed.build(each) for each in fixed.warm_starts()]
    assert {each.steps[0].network for each in built if each.num_steps > 2} == {1}
    assert {each.steps[-1].network for each in built} == {0}
