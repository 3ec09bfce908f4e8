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
from exeunt.backends.networks.conformance.checks import Failed, NetworkUnderTest, Passed
from exeunt.backends.networks.conformance.suite import suite
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.sampling.loop import sample_batch
from exeunt.backends.schedule import Embedded, Schedule
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


def call_for(kind: str, guidance: float) -> dict[str, Any]:
    """What a pipeline is called with; a scale of 1 is no second branch, or little embedded guidance."""
    if kind == "qwen-image":
        return {"true_cfg_scale": guidance, **({"negative_prompt": ["", ""]} if guidance > 1 else {})}
    if guidance == 1 or network_of(kind).takes_guidance:
        return {"guidance_scale": guidance}
    return {"guidance_scale": guidance, "negative_prompt": ["", ""]}


@functools.cache
def times_of(kind: str) -> list[float]:
    """Those that the pipeline goes to when it is asked for a number of steps."""
    pipe = other(kind)
    piped(pipe, kind, "latent", num_inference_steps=STEPS, **call_for(kind, 1.0))
    return pipe.scheduler.timesteps.tolist()


def schedule_for(kind: str, guidance: float) -> Schedule:
    network, times = network_of(kind), times_of(kind)
    is_flow, scale = network.noise.kind == "flow", None if guidance == 1 else guidance
    return make_schedule(
        network.signature, network.noise, network.prediction, num_steps=STEPS,
        guidance=Embedded(guidance) if network.takes_guidance else scale,
        spacing=[time / 1000 for time in times] if is_flow else times, solver="flow-euler" if is_flow else "ddim",
    )  # fmt: skip


def noise(kind: str) -> Tensor:
    return torch.randn(2, *network_of(kind).sample_shape, generator=torch.Generator().manual_seed(0))


def piped(pipe: Any, kind: str, output: str, **arguments: Any) -> Tensor:
    latents = noise(kind)
    if network_of(kind).sample_shape[0] == 1:  # tokens are one channel here
        latents = latents[:, 0]
    if kind == "flux2":  # which packs what it is given
        latents = latents.mT.reshape(2, 16, 16, 16)
    if kind == "sana":
        arguments["use_resolution_binning"] = False
    return pipe(prompt=list(PROMPTS), latents=latents, output_type=output, **SIZES[kind], **arguments)[0]


def sampled(kind: str, schedule: Schedule) -> Tensor:
    return sample_batch([network_of(kind)], schedule, noise(kind), [], torch.arange(2))


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("kind", OTHERS)
def test_samples_and_pixels_are_the_pipeline_s(kind: str, guidance: float) -> None:
    """Tokens and latents, images and videos, time in parts of 1 and as it is, embedded guidance in thousands."""
    arguments = {"num_inference_steps": STEPS, **call_for(kind, guidance)}
    found, pipe = sampled(kind, schedule_for(kind, guidance)), other(kind)
    latents = piped(pipe, kind, "latent", **arguments)
    assert difference(found.reshape(latents.shape), latents) < 1e-5
    frames = piped(pipe, kind, "pt", **arguments)  # (N, 3, H, W), or (N, T, 3, H, W)
    wanted = frames if frames.ndim == 4 else torch.cat(list(frames.unbind(1)), dim=-1)
    pixels = network_of(kind).decode(found)
    assert pixels.shape[1:] == network_of(kind).image_shape
    assert (pixels - (wanted * 255).round()).abs().max() <= 1


@pytest.mark.parametrize("kind", OTHERS)
def test_a_schedule_s_images_are_the_same_through_apply(kind: str) -> None:
    schedule, pipe = with_actions(schedule_for(kind, 2.5)), other(kind)
    exeunt.apply(pipe, schedule)
    found = piped(pipe, kind, "latent", **{**exeunt.call_arguments(schedule), **call_for(kind, 2.5)})
    assert difference(found, sampled(kind, schedule).reshape(found.shape)) < 1e-4


@pytest.mark.parametrize("kind", [pytest.param("sana", marks=pytest.mark.slow), "flux2"])
def test_they_keep_every_network_s_promises(kind: str) -> None:
    """Residual blocks in attention and MLP, and a merge of two streams into one."""
    found = {check.name: result for check, result in suite(NetworkUnderTest(network_of(kind)))}
    assert not {name: result for name, result in found.items() if isinstance(result, Failed)}
    assert {"actions", "kinds", "rows", "operations", "memory"} <= {
        name for name, result in found.items() if isinstance(result, Passed)
    }


def test_guidance_that_keeps_the_norm_is_seen() -> None:
    assert {kind for kind in OTHERS if network_of(kind).keeps_norm} == {"qwen-image"}
    assert network_of("qwen-image").usual_guidance == 4.0
    assert not any(network_of(kind).notes for kind in OTHERS)


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


@pytest.mark.parametrize(("kind", "layout"), [("chroma", "two-calls"), ("cogview3", "unconditional-first")])
def test_guidance_that_differs_from_step_to_step_goes_through_apply(kind: str, layout: str) -> None:
    """Where the branches are is seen in a guided call."""
    schedule, pipe = with_actions(schedule_for(kind, 2.5)), other(kind)
    whether = ["run", "run", "skip", "run", "skip"]
    steps = [replace(step, unconditional=word) for step, word in zip(schedule.steps, whether, strict=True)]
    schedule = replace(schedule, steps=tuple(steps))
    exeunt.apply(pipe, schedule)
    found = piped(pipe, kind, "latent", **{**exeunt.call_arguments(schedule), **call_for(kind, 2.5)})
    assert network_of(kind).architecture.layout == layout
    assert difference(found, sampled(kind, schedule).reshape(found.shape)) < 1e-4


def test_guidance_that_differs_from_step_to_step_is_refused_where_it_is_more_than_a_difference() -> None:
    schedule = schedule_for("qwen-image", 2.5)
    steps = tuple(replace(step, unconditional="skip" if s else "run") for s, step in enumerate(schedule.steps))
    with pytest.raises(InputError, match="hand over the unconditional branch is not known"):
        exeunt.apply(other("qwen-image"), replace(schedule, steps=steps))
