"""Whether a pipeline's own scheduler can visit a schedule's times, and what to pass to the pipeline so that it does.

Nothing here is guessed: each way to call the pipeline is tried on a copy of its scheduler, and the times are compared.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ....errors import InputError
from ....schedule import Schedule, network_times
from ..models.base import Architecture
from ..models.recording import shift_of
from ..optional import diffusers
from ..scheduler_config import process

# Where a scheduler counts whole train indices, a time between two of them is rounded, or cut off as UniPC does for
# flow matching; times of other schedulers must be the same.
ROUNDED, SAME = 0.999, 0.05
# Each spacing of diffusers, and what may be said beside it.
_SPACINGS: tuple[tuple[Any, ...], ...] = (
    ("leading", {}, {"steps_offset": 0}, {"steps_offset": 1}),
    ("trailing", {}),
    ("linspace", {}),
)
SHIFTS = (1.0, 3.0, 5.0, 6.0, 7.0, 8.0, 12.0)
_SOLVERS = {
    "DDIMScheduler": "ddim",
    "CogVideoXDDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmsolver++",
    "UniPCMultistepScheduler": "unipc",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "FlowMatchEulerDiscreteScheduler": "flow-euler",
}
RAISED = (ValueError, TypeError, AssertionError, IndexError, ZeroDivisionError)  # for what schedulers don't take


@dataclass(frozen=True)
class Fit:
    """A way to call a pipeline.

    Attributes:
        arguments: of the pipeline's call.
        rounding: how far its times are at most from the schedule's.
    """

    arguments: Mapping[str, Any]
    rounding: float


def distance(times: Sequence[float], wanted: Sequence[float]) -> float:
    """How far two lists of times are apart at most; infinite where they differ in length, or by more than rounding."""
    if len(times) != len(wanted):
        return math.inf
    found = max(abs(one - other) for one, other in zip(times, wanted, strict=True))
    limit = ROUNDED if all(time == round(time) for time in times) else SAME
    return found if found <= limit + 1e-6 else math.inf


def fit_scheduler(pipeline: Any, architecture: Architecture, schedule: Schedule, tokens: int) -> Fit:
    """How to call a pipeline so that its scheduler visits the schedule's times.

    Args:
        pipeline: a live one.
        architecture: of its denoiser.
        schedule: whose times are wanted.
        tokens: of an image, by which some schedulers shift their times.

    Raises:
        InputError: there is no way, with a way out.
    """
    wanted = network_times(schedule)  # diffusers' schedulers count the same way
    found = _fit(pipeline, pipeline.scheduler, architecture, wanted, tokens)
    if found is None:
        raise InputError(_refusal(pipeline, architecture, schedule, tokens))
    return found


def unproven_fit(pipeline: Any, architecture: Architecture, schedule: Schedule, sizes: Mapping[str, int]) -> Fit:
    """A way to call a pipeline of which not all is known that makes its times: a run is held to them as it begins."""
    wanted, scheduler = network_times(schedule), pipeline.scheduler
    if not scheduler.config.get("use_dynamic_shifting"):
        listed = [way for way in _ways(pipeline, scheduler, wanted, {}) if "num_inference_steps" not in way]
        if listed:
            return Fit(listed[0], 0.0)
    elif sizes and "sigmas" in inspect.signature(type(pipeline).__call__).parameters:
        mu = shift_of(pipeline, architecture.model, len(wanted), sizes)
        shift = {} if mu is None else {"mu": mu}
        sigmas = [_unshifted(scheduler, time / scheduler.config.num_train_timesteps, shift) for time in wanted if shift]
        made = _times(scheduler, architecture, {"sigmas": sigmas}, shift) if shift else None
        if made is not None and distance(made, wanted) < math.inf:
            return Fit({"num_inference_steps": len(wanted), "sigmas": sigmas}, 0.0)
    return Fit({"num_inference_steps": len(wanted)}, 0.0)


def _fit(pipeline: Any, scheduler: Any, architecture: Architecture, wanted: Sequence[float], tokens: int) -> Fit | None:
    shift = _shift(scheduler, tokens)
    for arguments in _ways(pipeline, scheduler, wanted, shift):
        made = _times(scheduler, architecture, arguments, shift)
        if made is not None and distance(made, wanted) < math.inf:
            return Fit(arguments, distance(made, wanted))
    return None


def _ways(
    pipeline: Any, scheduler: Any, wanted: Sequence[float], shift: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """The ways to call the pipeline that may lead to the wanted times, the shortest first."""
    takes = inspect.signature(type(pipeline).__call__).parameters.keys()
    takes &= inspect.signature(scheduler.set_timesteps).parameters.keys() | {"num_inference_steps"}
    count = len(wanted)
    # Heun's times stand twice in the list but for one, PNDM's one more than asked for.
    for number in dict.fromkeys((count, (count + 1) // 2, count - 1)):
        if number >= 1:
            yield {"num_inference_steps": number}
    is_flow = process({"_class_name": type(scheduler).__name__, **scheduler.config}).noise.kind == "flow"
    if is_flow and "sigmas" in takes:
        sigmas = [time / scheduler.config.num_train_timesteps for time in wanted]
        yield {"sigmas": [_unshifted(scheduler, sigma, shift) for sigma in sigmas]}
    if not is_flow and "timesteps" in takes:
        yield {"timesteps": [round(time) for time in wanted]}


def _shift(scheduler: Any, tokens: int) -> dict[str, float]:
    """The `mu` by which pipelines shift times for an image of so many tokens (as in `calculate_shift` of diffusers)."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return {}
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return {"mu": least + (most - least) * (tokens - low) / (high - low)}


def _unshifted(scheduler: Any, sigma: float, shift: Mapping[str, float]) -> float:
    """The sigma that the scheduler shifts to this one."""
    odds = 1 / sigma - 1
    if not shift:
        factor = scheduler.config.get("flow_shift", scheduler.config.get("shift", 1.0))
        return 1 / (1 + factor * odds)
    exponential = scheduler.config.get("time_shift_type", "exponential") == "exponential"
    return 1 / (1 + (math.exp(shift["mu"]) if exponential else shift["mu"]) * odds)


def _times(
    scheduler: Any, architecture: Architecture, arguments: Mapping[str, Any], shift: Mapping[str, float]
) -> list[float] | None:
    """The times that a copy of the scheduler makes of a way to call the pipeline; None where it refuses that."""
    own = type(scheduler).from_config(scheduler.config)
    given = dict(arguments)
    usual = architecture.usual_sigmas(given.get("num_inference_steps", 1))
    if "num_inference_steps" in given and usual and not own.config.get("use_flow_sigmas"):
        given["sigmas"] = usual
        del given["num_inference_steps"]
    try:
        own.set_timesteps(**given, **shift)
    except RAISED:
        return None
    return own.timesteps.tolist()


def _refusal(pipeline: Any, architecture: Architecture, schedule: Schedule, tokens: int) -> str:
    wanted, kind, title = network_times(schedule), type(pipeline.scheduler).__name__, type(pipeline).__name__
    rule = f"scheduler: {kind} in {title} can't visit the schedule's {len(wanted)} times ({shown_times(wanted)})."
    for way in _ways_out(pipeline, schedule):
        other = _other(pipeline.scheduler, *way)
        if other is not None and _fit(pipeline, other, architecture, wanted, tokens):
            options = "".join(f", {name}={value!r}" for name, value in way[1].items())
            return f"{rule} Set `pipe.scheduler = {way[0]}.from_config(pipe.scheduler.config{options})`."
    spacing = "flow" if schedule.sampler.time == "flow" else "leading`, `trailing` or `linspace"
    solver = f"--solver {_SOLVERS[kind]} " if kind in _SOLVERS else ""
    return f"{rule} It takes no list of times, so use a schedule that was made with `{solver}--spacing {spacing}`."


def _ways_out(pipeline: Any, schedule: Schedule) -> Iterator[tuple[str, dict[str, Any]]]:
    """Other schedulers to try: the same one with another spacing or shift, then one that takes any list of whole
    times."""
    own, sampler = type(pipeline.scheduler).__name__, schedule.sampler
    if sampler.time == "flow":
        name = "flow_shift" if "flow_shift" in pipeline.scheduler.config else "shift"
        yield from ((own, {name: shift}) for shift in SHIFTS)
        return
    order = {"ddim": 1, "dpmsolver++": sampler.order}.get(sampler.name, 2)
    options = {"solver_order": order, "final_sigmas_type": "zero" if sampler.final == "zero" else "sigma_min"}
    spacings = [{"timestep_spacing": name, **offset} for name, *offsets in _SPACINGS for offset in offsets]
    if own != "DDIMScheduler" or _strides_as_ddim(schedule):
        yield from ((own, spacing) for spacing in spacings)
    yield from (("DPMSolverMultistepScheduler", {**options, **spacing}) for spacing in ({}, *spacings))


def _strides_as_ddim(schedule: Schedule) -> bool:
    """Whether times have the strides that DDIM in diffusers takes, whatever its list of times is."""
    times, length = network_times(schedule), schedule.sampler.noise.num_timesteps or 0
    return all(before - after == length // len(times) for before, after in pairwise(times))


def _other(scheduler: Any, kind: str, options: Mapping[str, Any]) -> Any:
    try:
        return getattr(diffusers, kind).from_config(scheduler.config, **options)
    except RAISED:
        return None


def solver_difference(scheduler: Any, schedule: Schedule) -> str | None:
    """How the scheduler's solver differs from the schedule's, in words; None where it is the same."""
    kind, sampler = type(scheduler).__name__, schedule.sampler
    own, order = _SOLVERS.get(kind), scheduler.config.get("solver_order", sampler.order)
    if own == "ddim" and not _strides_as_ddim(schedule):
        return f"{kind}, which takes equal strides whatever its times are,"
    if own == "dpmsolver++" and order == 1 and sampler.name == "ddim":
        return None
    if own == sampler.name and order == sampler.order:
        return None
    return f"{kind}{f' of order {order}' if 'solver_order' in scheduler.config else ''}"


def shown_times(times: Iterable[float]) -> str:
    """Times for a message."""
    shown = [f"{time:g}" for time in times]
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")
