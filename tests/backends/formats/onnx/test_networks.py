"""ONNX folders of every kind of network that Exeunt loads: the sampler in NumPy draws our images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from exeunt.backends.formats.onnx.export import export_onnx
from exeunt.backends.network import Network
from exeunt.backends.networks.registry import load_network
from exeunt.backends.networks.uvit import UViT
from exeunt.backends.schedule import REUSE, RUN, Embedded, Schedule
from exeunt.backends.solvers.tables import make_schedule
from onnx_folders import PROMPTS, assert_same_images
from tiny_pipelines import tiny
from tiny_unets import tiny_unet

UNETS = ("ddpm", "sd", "sdxl")
PIPELINES: dict[str, dict[str, Any]] = {
    "dit": {},
    "pixart-alpha": {},
    "sd3": {},
    "flux": {"height": 32, "width": 32},
    "wan": {"height": 32, "width": 32, "num_frames": 5},
    "ddpm": {},
    "sd": {},
    "sdxl": {},
}


def reusing(network: Network) -> Schedule:
    """Three steps, of which the second and third reuse what the later half of the blocks made at the first."""
    guidance = Embedded(3.0) if network.takes_guidance else 1.5 if network.num_conditions else None
    full = make_schedule(network.signature, network.noise, network.prediction, num_steps=3, guidance=guidance)
    half = network.num_blocks // 2
    row = (RUN,) * half + (REUSE,) * (network.num_blocks - half)
    return replace(full, steps=(full.steps[0], *(replace(step, blocks=row) for step in full.steps[1:])))


def assert_exports(network: Network, folder: Path) -> None:
    schedule = reusing(network)
    export_onnx([network], schedule, folder)
    assert_same_images([network], schedule, folder)


@pytest.mark.slow
def test_u_vit_and_its_long_skips(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = UViT(
        input_size=8, patch_size=2, channels=3, width=16, depth=5, num_heads=2, hidden=32, num_labels=7,
        qkv_bias=True, time_mlp=True, conv=False,
    )  # fmt: skip
    torch.save(module.state_dict(), tmp_path / "uvit.pth")
    assert_exports(load_network(tmp_path / "uvit.pth", num_heads=2, num_classes=6), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("kind", PIPELINES)
def test_networks_of_diffusers(kind: str, tmp_path: Path) -> None:
    pipeline = tiny_unet(kind) if kind in UNETS else tiny(kind)
    pipeline.save_pretrained(tmp_path / "pipe")
    network = load_network(tmp_path / "pipe", **PIPELINES[kind])
    if network.condition_kind == "prompts":
        network.embed(PROMPTS)
    assert_exports(network, tmp_path / "out")
