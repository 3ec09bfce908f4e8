"""ONNX folders: the sampler in plain NumPy over them draws the images that we draw."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.formats.onnx.export import export_onnx
from exeunt.backends.networks import registry
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.schedule import DROP, REUSE, RUN, Action, Guidance, Noise, Schedule, forecast
from exeunt.backends.solvers.tables import make_schedule
from onnx_folders import assert_same_images

LINEAR = Noise(kind="linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
NUM_CLASSES = 7


def small_dit(*, channels: int = 3, learned_range: bool = False) -> DiTNetwork:
    torch.manual_seed(0)
    module = DiT(
        input_size=8, patch_size=4, channels=channels, width=16, depth=3, num_heads=2, num_classes=NUM_CLASSES,
        learned_range=learned_range,
    )  # fmt: skip
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return DiTNetwork(
        module, name="small", weights_sha256=None, num_classes=NUM_CLASSES, prediction="epsilon", noise=LINEAR
    )


def with_blocks(schedule: Schedule, columns: list[list[Action]]) -> Schedule:
    steps = tuple(replace(step, blocks=tuple(column)) for step, column in zip(schedule.steps, columns, strict=True))
    return replace(schedule, steps=steps)


@pytest.mark.slow
def test_every_action_with_guidance(tmp_path: Path) -> None:
    network = small_dit()
    schedule = make_schedule(network.signature, LINEAR, "epsilon", num_steps=5, guidance=Guidance(2.0, channels=2))
    columns = [
        [RUN, RUN, RUN],
        [RUN, RUN, RUN],
        [RUN, REUSE, forecast(1)],
        [RUN, forecast(2), DROP],
        [REUSE, RUN, DROP],
    ]
    schedule = with_blocks(schedule, columns)
    skipping = replace(schedule.steps[2], unconditional="skip")
    reusing = replace(schedule.steps[3], unconditional="reuse", guidance=1.2)
    schedule = replace(schedule, steps=(*schedule.steps[:2], skipping, reusing, schedule.steps[4]))
    export_onnx([network], schedule, tmp_path / "out")
    assert_same_images([network], schedule, tmp_path / "out")


@pytest.mark.slow
def test_branches_and_a_learned_variance(tmp_path: Path) -> None:
    network = small_dit(learned_range=True).at("branch")
    schedule = make_schedule(network.signature, LINEAR, "epsilon", solver="ddpm", num_steps=3, variance="learned-range")
    schedule = with_blocks(schedule, [[RUN] * 6, [RUN, REUSE] * 3, [REUSE, RUN, DROP] * 2])
    export_onnx([network], schedule, tmp_path / "out")
    assert_same_images([network], schedule, tmp_path / "out")


@pytest.mark.slow
def test_two_networks_take_turns(tmp_path: Path) -> None:
    networks = [small_dit(), small_dit()]
    base = make_schedule(networks[0].signature, LINEAR, "epsilon", solver="ddim", num_steps=3)
    steps = (replace(base.steps[0], network=1), *base.steps[1:])
    schedule = replace(base, networks=(base.networks[0], networks[1].signature), steps=steps)
    export_onnx(networks, schedule, tmp_path / "out")
    assert_same_images(networks, schedule, tmp_path / "out")


@pytest.mark.slow
def test_graphs_are_shared_and_so_are_weights(tmp_path: Path) -> None:
    """One graph a distinct set of running blocks; weights are written once, whatever the number of graphs."""
    network = small_dit()
    full = make_schedule(network.signature, LINEAR, "epsilon", num_steps=4, guidance=2.0)
    once, twice = tmp_path / "one", tmp_path / "two"
    export_onnx([network], full, once)
    export_onnx([network], with_blocks(full, [[RUN] * 3, [RUN, RUN, DROP], [RUN] * 3, [RUN, RUN, DROP]]), twice)
    graphs = [json.loads((folder / "manifest.json").read_text())["graphs"] for folder in (once, twice)]
    assert [[entry["blocks"] for entry in entries] for entries in graphs] == [[[0, 1, 2]], [[0, 1, 2], [0, 1]]]
    assert (once / "weights.bin").stat().st_size == (twice / "weights.bin").stat().st_size
    assert not any(str(Path(registry.__file__).parent) in path.read_text("latin-1") for path in twice.glob("*.onnx"))


@pytest.mark.slow
def test_the_bundled_checkpoint_with_its_decoder(tmp_path: Path) -> None:
    network = registry.load_network("fashion-dit-exits")
    schedule = make_schedule(network.signature, network.noise, network.prediction, num_steps=4, guidance=1.5)
    schedule = with_blocks(schedule, [[RUN] * depth + [DROP] * (12 - depth) for depth in (3, 9, 12, 12)])
    export_onnx([network], schedule, tmp_path / "out")
    assert_same_images([network], schedule, tmp_path / "out")


class TestBadInput:
    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("kept")
        network = small_dit()
        with pytest.raises(InputError, match="new or empty"):
            export_onnx([network], make_schedule(network.signature, LINEAR, "epsilon", num_steps=2), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_another_networks_schedule_leaves_nothing_behind(self, tmp_path: Path) -> None:
        other = registry.load_network("closed-form")
        with pytest.raises(InputError, match="the schedule is for"):
            export_onnx([small_dit()], make_schedule(other.signature, other.noise, "v", num_steps=2), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
