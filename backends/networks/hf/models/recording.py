"""What a pipeline hands its denoiser and what it makes of the output, seen in one real call of its own.

A copy of the pipeline, with the same parts, runs three steps. In place of the denoiser stands one that notes what it is
called with and passes it on, in place of the scheduler one that notes what it is to step with; then the call is broken
off. Nothing of the pipeline itself is touched.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ....errors import InputError, first_line

STEPS = 3
SAMPLES = ("hidden_states", "sample", "x")
TIMES = ("timestep", "timesteps", "t", "timestep_ratio", "decoder_noise_time")
# A pipeline hands on the scheduler's time as it is, in parts of 1, or counted from the other end.
CLOCKS: tuple[Callable[[Any], Any], ...] = (
    lambda time: time,
    lambda time: time / 1000,
    lambda time: 1 - time / 1000,
    lambda time: 1000 - time,
)
# Of networks whose pipelines guide by c + G · (c − u), so that none is a scale of 0.
_ABOVE_ONE = ("ZImageTransformer2DModel",)
# The other way round, in the same order.
TRAIN_TIMES: tuple[Callable[[Any], Any], ...] = (
    lambda time: time,
    lambda time: time * 1000,
    lambda time: 1000 - time * 1000,
    lambda time: 1000 - time,
)


def scale_offset(model: Any) -> float:
    """What a pipeline's `guidance_scale` is below the scale G of u + G · (c − u)."""
    return 1.0 if type(model).__name__ in _ABOVE_ONE else 0.0


class _Enough(Exception):
    """What was to be seen was seen."""


@dataclass
class Seen:
    """What was seen of a call.

    Attributes:
        arguments: of each call of the denoiser, by name.
        outputs: what it returned.
        stepped: (model output, time, sample) that the scheduler was given at each step.
        sigmas, times: the scheduler's lists; sigmas are None where it has none.
        encoded: what `encode_prompt` returned.
    """

    arguments: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    outputs: list[Any] = field(default_factory=list[Any])
    stepped: list[tuple[Tensor, Any, Tensor]] = field(default_factory=list[tuple[Tensor, Any, Tensor]])
    sigmas: Any = None
    times: Any = None
    encoded: Any = None


def record(
    pipeline: Any, model: nn.Module, prompts: Sequence[str], sizes: Mapping[str, Any], scale: float = 1.0
) -> Seen:
    """Call a pipeline on prompts, and break it off after a few steps.

    Args:
        scale: of guidance by a second branch, on empty prompts; 1 for none.

    Raises:
        InputError: it can't be called so.
    """
    seen = Seen()
    encode = getattr(pipeline, "encode_prompt", None)
    if not callable(encode):
        raise InputError(f"conditions: {type(pipeline).__name__} must have `encode_prompt`, but has none.")

    def encoding(*args: Any, **kwargs: Any) -> Any:
        seen.encoded = encode(*args, **kwargs)
        return seen.encoded

    def stepping(own: Any, model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        seen.stepped.append((model_output, timestep, sample))
        seen.sigmas, seen.times = getattr(own, "sigmas", None), own.timesteps
        if len(seen.stepped) == STEPS:
            raise _Enough
        return type(pipeline.scheduler).step(own, model_output, timestep, sample, *args, **kwargs)

    names = tuple(inspect.signature(type(model).forward).parameters)[1:]

    def calling(_: Any, *args: Any, **kwargs: Any) -> Any:
        seen.arguments.append({**dict(zip(names, args, strict=False)), **kwargs})
        seen.outputs.append(model(*args, **kwargs))
        return seen.outputs[-1]

    stage = acting_pipeline(pipeline, model, forward=calling, step=stepping, encode_prompt=encoding)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            given = call_with(pipeline, model, prompts, STEPS, scale) | sizes_for(pipeline, sizes)
            stage(**given, output_type="latent")
    except _Enough:
        return seen
    except InputError:
        raise
    except Exception as error:  # whatever a pipeline's own code raises
        raise InputError(
            f"pipeline: {type(pipeline).__name__} can't be called on a prompt alone ({first_line(error)}), and nothing "
            "else is known of it."
        ) from error
    raise InputError(f"pipeline: {type(pipeline).__name__} made no {STEPS} steps with its scheduler.")


def shift_of(pipeline: Any, model: nn.Module, num_steps: int, sizes: Mapping[str, Any]) -> float | None:
    """The `mu` by which a pipeline shifts its scheduler's times for these sizes; None where it can't be seen."""
    seen: list[float] = []

    def setting(own: Any, *args: Any, mu: float | None = None, **kwargs: Any) -> None:
        seen.extend([] if mu is None else [mu])
        raise _Enough

    stage = copy.copy(pipeline)
    scheduler = _acting(pipeline.scheduler, set_timesteps=setting)
    vars(stage).update(scheduler=scheduler, _progress_bar_config={"disable": True})
    given = call_with(pipeline, model, [""], num_steps) | sizes_for(pipeline, sizes)
    # Pipelines look at the signature to see whether times can be given.
    vars(setting)["__signature__"] = inspect.signature(type(pipeline.scheduler).set_timesteps)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            stage(**given, output_type="latent")
    except Exception:  # whatever a pipeline's own code raises, beside what ends the call
        pass
    return seen[0] if seen else None


def call_with(pipeline: Any, model: Any, prompts: Sequence[str], num_steps: int, scale: float = 1.0) -> dict[str, Any]:
    """The arguments of a pipeline's call on prompts, with one guidance branch, or with two at a scale above 1."""
    takes = inspect.signature(type(pipeline).__call__).parameters
    given: dict[str, Any] = {"prompt": list(prompts), "num_inference_steps": num_steps}
    if "generator" in takes:
        given["generator"] = torch.Generator().manual_seed(0)
    if "use_resolution_binning" in takes:
        given["use_resolution_binning"] = False
    if "true_cfg_scale" in takes:
        given["true_cfg_scale"] = scale
    elif "guidance_scale" in takes and not model.config.get("guidance_embeds"):
        given["guidance_scale"] = scale - scale_offset(model)
    if scale > 1 and "negative_prompt" in takes:
        given["negative_prompt"] = [""] * len(prompts)
    return given


def sizes_for(pipeline: Any, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by the names that the pipeline's call has for them."""
    takes = inspect.signature(type(pipeline).__call__).parameters
    number = next((name for name in ("num_frames", "frames", "video_length") if name in takes), "num_frames")
    return {number if name == "num_frames" else name: value for name, value in sizes.items()}


def acting_pipeline(
    pipeline: Any, model: nn.Module, *, forward: Callable[..., Any], step: Callable[..., Any], encode_prompt: Any
) -> Any:
    """A pipeline with the same parts, but for a denoiser and a scheduler that do other things in these methods.

    The pipeline itself, its model and its scheduler stay as they are.
    """
    stage = copy.copy(pipeline)
    place = next(name for name, part in pipeline.components.items() if part is not None and _is(part, model))
    parts = {"scheduler": _acting(pipeline.scheduler, step=step), place: _acting(model, forward=forward)}
    vars(stage).update(**parts, encode_prompt=encode_prompt, _progress_bar_config={"disable": True})
    return stage


def _is(part: Any, model: nn.Module) -> bool:
    return part is model or getattr(part, "_orig_mod", None) is model


def _acting(part: Any, **methods: Callable[..., Any]) -> Any:
    """A shallow copy whose class has other methods."""
    other = copy.copy(part)
    other.__class__ = type(type(part).__name__, (type(part),), methods)
    for name in ("forward", "_diffusers_hook"):  # what hooks have put on the model itself
        vars(other).pop(name, None)
    return other
