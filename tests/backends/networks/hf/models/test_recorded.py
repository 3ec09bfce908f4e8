"""Denoisers that are not known by name, in their pipelines: what a recorded call says is what the pipeline does."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import exeunt
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.networks import registry
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.sampling.loop import sample_batch
from exeunt.backends.schedule import Schedule
from exeunt.backends.solvers.tables import make_schedule
from other_pipelines import OTHERS, SIZES, other
from pipeline_runs import PROMPTS, difference, with_actions
from torch import Tensor

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
]
STEPS = 5


@functools.cache
def network_of(kind: str) -> DiffusersNetwork:
    network = DiffusersNetwork.from_pipeline(other(kind), name=kind, **SIZES[kind])
    network.embed(PROMPTS)
    return network


def times_of(pipe: Any, kind: str) -> list[float]:
    """Those that the pipeline goes to when it is asked for a number of steps."""
    pipe(list(PROMPTS), num_inference_steps=STEPS, guidance_scale=1.0, output_type="latent", **SIZES[kind])
    return pipe.scheduler.timesteps.tolist()


def schedule_for(kind: str, guidance: float | None) -> Schedule:
    network, times = network_of(kind), times_of(other(kind), kind)
    is_flow = network.noise.kind == "flow"
    return make_schedule(
        network.signature, network.noise, network.prediction, num_steps=STEPS, guidance=guidance,
        spacing=[time / 1000 for time in times] if is_flow else times, solver="flow-euler" if is_flow else "ddim",
    )  # fmt: skip


def noise(kind: str) -> Tensor:
    return torch.randn(2, *network_of(kind).sample_shape, generator=torch.Generator().manual_seed(0))


def piped(pipe: Any, kind: str, output: str, **arguments: Any) -> Tensor:
    x = noise(kind)
    latents = x[:, 0] if len(x.shape) == 4 and x.shape[1] == 1 else x  # tokens are one channel here
    return pipe(list(PROMPTS), latents=latents, output_type=output, **SIZES[kind], **arguments)[0]


def sampled(kind: str, schedule: Schedule) -> Tensor:
    return sample_batch([network_of(kind)], schedule, noise(kind), [], torch.arange(2))


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("guidance", [None, 2.5])
def test_samples_and_pixels_are_the_pipeline_s(kind: str, guidance: float | None) -> None:
    """Tokens and latents, images and videos, time in parts of 1 and as it is, noise with a shifted ratio."""
    arguments: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": guidance or 1.0}
    if guidance:
        arguments["negative_prompt"] = ["", ""]
    found, pipe = sampled(kind, schedule_for(kind, guidance)), other(kind)
    assert (
        difference(
            found.reshape(piped(pipe, kind, "latent", **arguments).shape), piped(pipe, kind, "latent", **arguments)
        )
        < 1e-5
    )
    frames = piped(pipe, kind, "pt", **arguments)  # (N, 3, H, W), or (N, T, 3, H, W)
    wanted = frames if frames.ndim == 4 else torch.cat(list(frames.unbind(1)), dim=-1)
    pixels = network_of(kind).decode(found)
    assert pixels.shape[1:] == network_of(kind).image_shape
    assert (pixels - (wanted * 255).round()).abs().max() <= 1


@pytest.mark.parametrize("kind", OTHERS)
def test_a_schedule_s_images_are_the_same_through_apply(kind: str) -> None:
    schedule, pipe = with_actions(schedule_for(kind, 2.5)), other(kind)
    exeunt.apply(pipe, schedule)
    arguments = {"negative_prompt": ["", ""], **exeunt.call_arguments(schedule)}
    found = piped(pipe, kind, "latent", **arguments)
    assert difference(found, sampled(kind, schedule).reshape(found.shape)) < 1e-4


def test_a_folder_is_the_same_network(tmp_path: Path) -> None:
    other("aura-flow").save_pretrained(tmp_path / "pipe")
    network = registry.load_network(tmp_path / "pipe", **SIZES["aura-flow"])
    network.embed(PROMPTS)
    assert network.signature == network_of("aura-flow").signature
    kinds = [kind for kind, _ in groupby(network.signature.block_kinds)]
    assert kinds == ["residual", "merge", "residual"]
    schedule = with_actions(schedule_for("aura-flow", 2.5))
    found = sample_batch([network], schedule, noise("aura-flow"), [], torch.arange(2))
    assert torch.equal(found, sampled("aura-flow", schedule))
    assert network.flops(range(4)) > network.flops(range(3)) > network.flops([]) > 0
    with pytest.raises(InputError, match=r"scheduler: the pipeline in .* is taken as it is"):
        registry.load_network(tmp_path / "pipe", scheduler=str(tmp_path))


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = other("chroma")
    before = {name: dict(vars(part)) for name, part in pipe.components.items() if hasattr(part, "__dict__")}
    attributes, state = dict(vars(pipe)), torch.random.get_rng_state()
    network = DiffusersNetwork.from_pipeline(pipe, **SIZES["chroma"])
    assert torch.equal(torch.random.get_rng_state(), state)
    del network
    assert vars(pipe) == attributes
    assert {name: {*vars(pipe.components[name])} for name in before} == {name: {*each} for name, each in before.items()}


REFUSED: Mapping[str, tuple[Any, str]] = {
    "samples that are scaled": (
        lambda pipe: setattr(pipe, "scheduler", EulerDiscreteScheduler()), "does not hand on its latents as they are",
    ),
    "a prompt that can't be encoded": (
        lambda pipe: setattr(pipe, "tokenizer", None), r"can't be called on a prompt alone \(.*\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_t_be_replayed_is_refused_with_what_was_seen(case: str) -> None:
    spoil, message = REFUSED[case]
    pipe = other("cogview3")
    spoil(pipe)
    with pytest.raises(InputError, match=message):
        DiffusersNetwork.from_pipeline(pipe, **SIZES["cogview3"])


def test_guidance_that_differs_from_step_to_step_is_refused_in_the_pipeline() -> None:
    schedule = schedule_for("chroma", 2.5)
    steps = tuple(replace(step, unconditional="skip" if s else "run") for s, step in enumerate(schedule.steps))
    with pytest.raises(InputError, match="hand over the unconditional branch is not known"):
        exeunt.apply(other("chroma"), replace(schedule, steps=steps))
