"""Schedules on live pipelines that are called, compiled or copied as no schedule can follow: one sentence each."""

import copy
import io
from dataclasses import replace
from typing import Any

import diffusers
import exeunt
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.schedule import Guidance, Schedule
from exeunt.backends.solvers.tables import make_schedule
from PIL import Image
from pipeline_runs import Bench, each, hooked
from tiny_unets import tiny_unet

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]


def served(kind: str = "StableDiffusionPipeline") -> Any:
    """A pipeline of that class around a tiny U-Net, whose scheduler goes to the schedule's times."""
    pipe = getattr(diffusers, kind)(**tiny_unet("sd").components, requires_safety_checker=False)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="leading", steps_offset=0
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    network = DiffusersNetwork.from_pipeline(tiny_unet("sd"))
    return make_schedule(
        network.signature, network.noise, network.prediction,
        solver="ddim", spacing="leading", num_steps=6, guidance=Guidance(2.5),
    )  # fmt: skip


def skipping(schedule: Schedule) -> Schedule:
    steps = tuple(
        replace(step, unconditional="skip") if index > 3 else step for index, step in enumerate(schedule.steps)
    )
    return replace(schedule, steps=steps)


def call(pipe: Any, schedule: Schedule, **more: Any) -> Any:
    return pipe("a dog", output_type="latent", **more, **exeunt.call_arguments(schedule, pipe))


def test_perturbed_attention_is_refused_where_branches_are_left_out(schedule: Schedule) -> None:
    pipe = served("StableDiffusionPAGPipeline")
    with pytest.raises(InputError, match=r"StableDiffusionPAGPipeline can't: perturbed attention"):
        exeunt.apply(pipe, skipping(schedule))
    exeunt.apply(pipe, schedule)
    call(pipe, schedule, pag_scale=3.0)


@pytest.mark.parametrize("skips", [False, True])
def test_guidance_that_a_callback_cuts_off(schedule: Schedule, skips: bool) -> None:
    """As in diffusers' documentation on callbacks."""

    def cut(pipe: Any, index: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
        if index == 2:
            given["prompt_embeds"] = given["prompt_embeds"].chunk(2)[-1]
            pipe._guidance_scale = 0.0
        return given

    pipe, schedule = served(), skipping(schedule) if skips else schedule
    exeunt.apply(pipe, schedule)
    with pytest.raises(InputError, match=r"must keep its batch, but had 2 rows and has 1 from step 3 on\. Omit"):
        call(pipe, schedule, callback_on_step_end=cut, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    call(pipe, schedule)


def test_image_to_image_that_begins_in_the_middle(schedule: Schedule) -> None:
    pipe = served("StableDiffusionImg2ImgPipeline")
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    exeunt.apply(pipe, schedule)
    with pytest.raises(InputError, match=r"called with strength=0.5, .* Call it with strength=1, or"):
        call(pipe, schedule, image=Image.new("RGB", (size, size)), strength=0.5)
    call(pipe, schedule, image=Image.new("RGB", (size, size)), strength=1.0)


@pytest.mark.parametrize("how", ["wrapped", "in place", "blocks"])
@pytest.mark.parametrize("full", [False, True])
def test_what_is_compiled_as_one_graph(schedule: Schedule, how: str, full: bool) -> None:
    pipe = served()
    if how == "wrapped":
        pipe.unet = torch.compile(pipe.unet, fullgraph=full, backend="eager")
    else:
        for module in [pipe.unet] if how == "in place" else [pipe.unet.mid_block, *pipe.unet.down_blocks]:
            module.compile(fullgraph=full, backend="eager")
    if full:
        with pytest.raises(InputError, match=r"compiled with fullgraph=True\. Compile them with fullgraph=False"):
            exeunt.apply(pipe, schedule)
        assert not any(hasattr(module, "_diffusers_hook") for module in pipe.unet.modules())
    else:
        exeunt.apply(pipe, schedule)


@each("pixart-alpha")
def test_a_pipeline_is_copied_without_its_schedule(bench: Bench) -> None:
    schedule = bench.schedule()
    exeunt.apply(bench.pipe, schedule)
    for attempt in (copy.deepcopy, lambda pipe: torch.save(pipe.transformer, io.BytesIO())):
        with pytest.raises(InputError, match=r"Call `exeunt.remove\(pipe\)`, copy it"):
            attempt(bench.pipe)
    exeunt.remove(bench.pipe)
    other = copy.deepcopy(bench.pipe)
    exeunt.apply(other, schedule)
    assert not hooked(bench.pipe.transformer)
