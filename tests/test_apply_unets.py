"""Schedules on live pipelines with U-Nets: images equal those of `exeunt.sample`, and nothing stays behind."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import exeunt
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler
from exeunt.backends import sampling
from exeunt.backends.errors import InputError
from exeunt.backends.hf import DiffusersNetwork
from exeunt.backends.schedule import REUSE, RUN, Guidance, Schedule, forecast
from exeunt.backends.solvers import make_schedule
from tiny_unets import tiny_unet
from torch import Tensor

PROMPTS = ["a red bicycle", "two dogs on a beach"]
NUM_STEPS = 6

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def prompted(kind: str) -> tuple[Any, DiffusersNetwork]:
    """A pipeline, and a network with equal weights that has embedded the prompts."""
    network = DiffusersNetwork.from_pipeline(tiny_unet(kind))
    network.embed(PROMPTS)
    return tiny_unet(kind), network


def full(pipe: Any, network: DiffusersNetwork, guidance: Guidance | None) -> Schedule:
    """Every stage at every step, at the times of the pipeline's own scheduler."""
    pipe.scheduler.set_timesteps(NUM_STEPS)
    times = [float(time) for time in pipe.scheduler.timesteps]
    return make_schedule(
        network.signature, network.noise, network.prediction, solver="ddim", spacing=times, num_steps=NUM_STEPS,
        final="zero" if pipe.scheduler.config.set_alpha_to_one else "train-0", guidance=guidance,
    )  # fmt: skip


def cached(schedule: Schedule, seed: int) -> Schedule:
    """Random stages that are reused or forecast from the third step on."""
    random, choices = np.random.default_rng(seed), [RUN, REUSE, forecast(1), forecast(2)]
    steps = tuple(
        replace(step, blocks=tuple(RUN if s < 2 else choices[random.integers(4)] for _ in step.blocks))
        for s, step in enumerate(schedule.steps)
    )
    return replace(schedule, steps=steps)


def noise(network: DiffusersNetwork) -> Tensor:
    return torch.randn(2, *network.sample_shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["sd", "sdxl"])
def bench(request: pytest.FixtureRequest) -> Iterator[tuple[Any, DiffusersNetwork]]:
    pipe, network = prompted(request.param)
    yield pipe, network
    exeunt.remove(pipe)


def piped(pipe: Any, network: DiffusersNetwork, **arguments: Any) -> Tensor:
    return pipe(PROMPTS, latents=noise(network), height=16, width=16, output_type="latent", **arguments).images


class TestPrompts:
    @pytest.mark.parametrize("seed", range(2))
    def test_images_equal_those_of_sample(self, bench: tuple[Any, DiffusersNetwork], seed: int) -> None:
        pipe, network = bench
        schedule = cached(full(pipe, network, Guidance(3.0)), seed)
        exeunt.apply(pipe, schedule)
        ours = sampling.run([network], schedule, noise(network), [], torch.arange(2))
        theirs = piped(pipe, network, **exeunt.call_arguments(schedule))
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4 * float(ours.abs().max()))

    def test_full_depth_is_bit_equal_and_removal_restores(self, bench: tuple[Any, DiffusersNetwork]) -> None:
        pipe, network = bench
        schedule = full(pipe, network, Guidance(3.0))
        exeunt.apply(pipe, schedule)
        arguments = exeunt.call_arguments(schedule)
        under = piped(pipe, network, **arguments)
        exeunt.remove(pipe)
        assert torch.equal(under, piped(pipe, network, **arguments))
        assert not any(hasattr(part, "_diffusers_hook") for part in pipe.unet.modules())

    def test_other_numbers_of_steps_are_refused(self, bench: tuple[Any, DiffusersNetwork]) -> None:
        pipe, network = bench
        exeunt.apply(pipe, full(pipe, network, Guidance(3.0)))
        with pytest.raises(InputError):
            piped(pipe, network, num_inference_steps=4, guidance_scale=3.0)

    def test_adapters_are_refused(self, bench: tuple[Any, DiffusersNetwork]) -> None:
        pipe, network = bench
        exeunt.apply(pipe.unet, full(pipe, network, None))
        with pytest.raises(InputError, match="T2I-Adapter"):
            pipe.unet(
                noise(network), torch.tensor(999), torch.zeros(2, 24, 16),
                down_intrablock_additional_residuals=[torch.zeros(1)],
            )  # fmt: skip


def test_unconditional_pipelines() -> None:
    unet = tiny_unet("ddpm").unet
    pipe = DDIMPipeline(unet, DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    network = DiffusersNetwork.from_pipeline(DDIMPipeline(tiny_unet("ddpm").unet, DDIMScheduler(clip_sample=False)))
    schedule = cached(full(pipe, network, None), 0)
    exeunt.apply(pipe, schedule)
    arguments = exeunt.call_arguments(schedule)
    made = pipe(2, generator=torch.Generator().manual_seed(0), output_type="pt", **arguments).images
    exeunt.remove(pipe)
    latents = sampling.run([network], schedule, noise(network), [], None)
    torch.testing.assert_close(made * 255, network.decode(latents).float(), rtol=0, atol=0.6)
