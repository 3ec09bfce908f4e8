"""Schedules on live pipelines with U-Nets: stages that are reused, with prompts and without conditions at all."""

from dataclasses import replace
from typing import Any

import exeunt
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.sampling import loop
from exeunt.backends.schedule import REUSE, RUN, Schedule, forecast
from exeunt.backends.solvers.tables import make_schedule
from greenlet import greenlet
from pipeline_runs import PROMPTS, difference
from tiny_unets import tiny_unet
from torch import Tensor

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


def pipeline(kind: str) -> Any:
    pipe = tiny_unet(kind)
    if kind == "ddpm":  # its own scheduler draws noise at every step
        pipe.scheduler = DDIMScheduler(clip_sample=False)
    return pipe


def network_of(kind: str) -> DiffusersNetwork:
    network = DiffusersNetwork.from_pipeline(pipeline(kind))
    if network.condition_kind == "prompts":
        network.embed(PROMPTS)
    return network


def schedule_of(network: DiffusersNetwork, pipe: Any, num_steps: int, guidance: float | None) -> Schedule:
    """Random actions at the times that the pipeline's scheduler goes to unasked."""
    pipe.scheduler.set_timesteps(num_steps)
    full = make_schedule(
        network.signature,
        network.noise,
        network.prediction,
        solver="ddim",
        spacing=[float(time) for time in pipe.scheduler.timesteps],
        final="zero" if pipe.scheduler.config.set_alpha_to_one else "train-0",
        guidance=guidance,
    )
    random, choices = np.random.default_rng(0), [RUN, REUSE, forecast(1), forecast(2)]
    steps = tuple(
        replace(step, blocks=tuple(RUN if s < 2 else choices[random.integers(4)] for _ in step.blocks))
        for s, step in enumerate(full.steps)
    )
    return replace(full, steps=steps)


def piped(pipe: Any, network: DiffusersNetwork, seed: int, **arguments: Any) -> Tensor:
    """What the pipeline makes of a seed's noise for two prompts, or for none: latents, or images in 0 … 1."""
    generator = torch.Generator().manual_seed(seed)
    if network.condition_kind == "none":
        images = pipe(batch_size=2, generator=generator, output_type="np", **arguments).images
        return torch.from_numpy(images).permute(0, 3, 1, 2)
    noise = torch.randn(2, *network.sample_shape, generator=generator)
    return pipe(list(PROMPTS), latents=noise, output_type="latent", **arguments).images


def sampled(network: DiffusersNetwork, schedule: Schedule, seed: int) -> Tensor:
    noise = torch.randn(2, *network.sample_shape, generator=torch.Generator().manual_seed(seed))
    conditions = None if network.condition_kind == "none" else torch.tensor([0, 1])
    latents = loop.sample_batch([network], schedule, noise, [], conditions)
    return latents if conditions is not None else (latents / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize(("kind", "guidance"), [("ddpm", None), ("sd", None), ("sd", 3.0), ("sdxl", 3.0)])
def test_images_equal_those_of_sample(kind: str, guidance: float | None) -> None:
    network, pipe = network_of(kind), pipeline(kind)
    schedule = schedule_of(network, pipe, 6, guidance)
    exeunt.apply(pipe, schedule)
    found = piped(pipe, network, 0, **exeunt.call_arguments(schedule))
    assert difference(found, sampled(network, schedule, 0)) < 1e-4
    exeunt.remove(pipe)
    assert not [name for name, each in pipe.unet.named_modules() if "_diffusers_hook" in vars(each)]


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_skipped_passes_equal_those_of_sample(kind: str) -> None:
    network, pipe = network_of(kind), pipeline(kind)
    schedule = schedule_of(network, pipe, 6, 3.0)
    steps = tuple(replace(step, unconditional="skip") if s in (3, 4) else step for s, step in enumerate(schedule.steps))
    schedule = replace(schedule, steps=steps)
    exeunt.apply(pipe, schedule)
    found = piped(pipe, network, 0, **exeunt.call_arguments(schedule))
    assert difference(found, sampled(network, schedule, 0)) < 1e-4


class Stepping(DDIMScheduler):
    """Hands over to the other request after each step."""

    turn: Any = None

    def step(self, *args: Any, **kwargs: Any) -> Any:
        found = super().step(*args, **kwargs)
        if self.turn is not None:
            self.turn()
        return found


def test_requests_without_conditions_are_told_apart_by_their_pipelines() -> None:
    network, first = network_of("ddpm"), pipeline("ddpm")
    schedule = schedule_of(network, first, 5, None)
    exeunt.apply(first, schedule)
    second = type(first)(first.unet, first.scheduler)
    pipes, found = (first, second), dict[int, Tensor]()
    for pipe in pipes:
        pipe.scheduler = Stepping.from_config(first.scheduler.config)
        pipe.set_progress_bar_config(disable=True)

    def run(seed: int) -> Any:
        def whole() -> None:
            found[seed] = piped(pipes[seed], network, seed, num_inference_steps=5)
            pipes[1 - seed].scheduler.turn = None
            if not runs[1 - seed].dead:
                runs[1 - seed].switch()

        return greenlet(whole)

    runs = [run(0), run(1)]
    for seed, pipe in enumerate(pipes):
        pipe.scheduler.turn = lambda other=1 - seed: runs[other].switch()
    with torch.no_grad():  # which both would otherwise turn on and off, each for the other
        runs[0].switch()
    for seed in (0, 1):
        assert difference(found[seed], sampled(network, schedule, seed)) < 1e-4


def test_a_spacing_without_offset_names_the_scheduler_s_option() -> None:
    """Stable Diffusion's scheduler counts its times from 1."""
    network, pipe = network_of("sd"), pipeline("sd")
    schedule = schedule_of(network, pipe, 5, 3.0)
    steps = tuple(replace(step, time=step.time - 1) for step in schedule.steps)
    with pytest.raises(InputError, match=r"DDIMScheduler.from_config\(.*timestep_spacing='leading', steps_offset=0\)"):
        exeunt.apply(pipe, replace(schedule, steps=steps))
