"""Schedules on denoisers of which no more is known than what can be seen: alone, and in their own pipelines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import diffusers
import exeunt
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf.denoisers.inputs import example
from exeunt.backends.networks.hf.denoisers.sockets import sockets_of
from exeunt.backends.networks.hf.denoisers.tiny import make_small
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.schedule import DROP, REUSE, RUN, Action, NetworkSignature, Noise, Schedule, network_times
from exeunt.backends.solvers.tables import make_schedule
from torch import Tensor, nn

pytestmark = pytest.mark.cpu

LIBRARY: Any = diffusers  # which exports its classes lazily
SIGMAS = [1.0, 0.75, 0.5, 0.25]
ROWS = (RUN, REUSE, RUN, DROP)  # what the second half of the blocks does at each step


def schedule_for(model: nn.Module, guidance: float | None = None) -> Schedule:
    """At the second and the last step half of the blocks don't run."""
    kinds = [socket.kind for socket in sockets_of(model, "block")]
    coded = tuple((kind, len(list(same))) for kind, same in groupby(kinds))
    signature = NetworkSignature(type(model).__name__, "block", coded, None)
    full = make_schedule(signature, Noise("flow"), "flow", num_steps=4, spacing=SIGMAS, guidance=guidance)
    half = len(kinds) // 2
    steps = [
        replace(step, blocks=(RUN,) * half + (action,) * (len(kinds) - half))
        for step, action in zip(full.steps, ROWS, strict=True)
    ]
    return replace(full, steps=tuple(steps))


def without_hooks(model: nn.Module, calls: Sequence[Mapping[str, Any]], name: str) -> Iterator[Any]:
    """The model's outputs in a row of calls with that half of its blocks replaced by hand, at steps 1 and 3."""
    blocks = [socket.module for socket in sockets_of(model, "block")]
    half, kept = blocks[len(blocks) // 2 :], dict[nn.Module, Tensor]()

    def by_hand(block: nn.Module, action: Action) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            h = args[0] if args else kwargs[name]
            if action == RUN:
                out = type(block).forward(block, *args, **kwargs)
                kept[block] = out - h
                return out
            return h + kept[block] if action == REUSE else h

        return forward

    for action, arguments in zip(ROWS, calls, strict=True):
        for block in half:
            block.forward = by_hand(block, action)
        yield model(**arguments)
        for block in half:
            del block.forward


CLOCKS: Mapping[str, tuple[str, str, Callable[[float], float]]] = {
    "Krea2Transformer2DModel": ("hidden_states", "timestep", lambda time: time / 1000),
    "Lumina2Transformer2DModel": ("hidden_states", "timestep", lambda time: 1 - time / 1000),
    "LTXVideoTransformer3DModel": ("hidden_states", "timestep", lambda time: time),
    "ErnieImageTransformer2DModel": ("x", "timestep", lambda time: time),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_a_loop_around_the_model_follows_a_schedule(name: str) -> None:
    """Whatever clock the loop hands on, and with the tensor of conditions under whatever name."""
    model = make_small(getattr(LIBRARY, name), {}, layers=4)
    hidden, time_name, clock = CLOCKS[name]
    schedule, given = schedule_for(model), example(model)
    times = [{**given, time_name: torch.full((2,), clock(time))} for time in network_times(schedule)]
    with torch.inference_mode():
        wanted = [each[0] for each in without_hooks(model, times, hidden)]
        exeunt.apply(model, schedule)
        found = [model(**arguments)[0] for arguments in times]
        exeunt.remove(model)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(model(**times[0])[0], wanted[0])


PIPELINES: Mapping[str, tuple[Callable[[Any], Any], type[nn.Module], dict[str, Any]]] = {
    "qwen": (
        lambda model: LIBRARY.QwenImagePipeline(FlowMatchEulerDiscreteScheduler(), None, None, None, model),
        LIBRARY.QwenImageTransformer2DModel,
        {"prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long), "true_cfg_scale": 3.0,
         "negative_prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long)},
    ),
    "lumina2": (
        lambda model: LIBRARY.Lumina2Pipeline(model, FlowMatchEulerDiscreteScheduler(), None, None, None),
        LIBRARY.Lumina2Transformer2DModel,
        {"prompt_attention_mask": torch.ones(1, 6, dtype=torch.bool), "guidance_scale": 3.0,
         "negative_prompt_attention_mask": torch.ones(1, 6, dtype=torch.bool)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_of_its_own_follows_a_schedule(kind: str) -> None:
    """Two guidance branches in calls of their own (Qwen-Image, Lumina 2), at times that the schedule asks for."""
    make, model_class, given = PIPELINES[kind]
    model = make_small(model_class, {}, layers=4)
    pipe, schedule = make(model), schedule_for(model, guidance=3.0)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    prompts = {name: torch.randn(1, 6, 32, generator=generator) for name in ("prompt_embeds", "negative_prompt_embeds")}

    def latents(**arguments: Any) -> Tensor:
        own = torch.Generator().manual_seed(1)
        return pipe(
            **{**prompts, **given, **arguments}, height=64, width=64, generator=own, output_type="latent"
        ).images

    full = replace(schedule, steps=tuple(replace(step, blocks=(RUN,) * len(step.blocks)) for step in schedule.steps))
    plain = latents(sigmas=SIGMAS)
    exeunt.apply(pipe, full)
    arguments = {name: value for name, value in exeunt.call_arguments(full).items() if name != "negative_prompt"}
    assert torch.equal(latents(**arguments), plain)
    exeunt.apply(pipe, schedule)
    assert not torch.equal(latents(**arguments), plain)
    with pytest.raises(InputError, match=r"scale=3, but .* called with 2"):
        latents(**{**arguments, next(name for name in arguments if "scale" in name): 2.0})
    with pytest.raises(InputError, match="the schedule has 4, but"):
        latents(num_inference_steps=5)
    exeunt.remove(pipe)
    assert torch.equal(latents(sigmas=SIGMAS), plain)


def test_what_is_not_known_is_refused() -> None:
    model = make_small(LIBRARY.QwenImageTransformer2DModel, {}, layers=2)
    schedule = schedule_for(model, guidance=3.0)
    skipping = replace(schedule, steps=tuple(replace(step, unconditional="skip") for step in schedule.steps))
    with pytest.raises(InputError, match=r"hand over the unconditional branch is not known.*guides all steps alike"):
        exeunt.apply(model, skipping)
    with pytest.raises(InputError, match=r"QwenImagePipeline can't be called on a prompt alone"):
        DiffusersNetwork.from_pipeline(PIPELINES["qwen"][0](model))  # it has no text encoder
