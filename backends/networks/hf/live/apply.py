"""Schedules on live pipelines: `apply` makes a diffusers pipeline follow one, `remove` undoes it.

    exeunt.apply(pipe, schedule)
    images = pipe(prompt, **exeunt.call_arguments(schedule)).images
    exeunt.remove(pipe)

The pipeline's own scheduler runs, at the schedule's times; a pipeline that is called for other ones is refused.
"""

import inspect
import os
import warnings
import weakref
from collections.abc import MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ....errors import InputError
from ....plan import compile_plan
from ....schedule import Branch, Embedded, Schedule, as_schedule, embedded_guidance_at, network_times
from ....solvers.tables import has_own_rows
from ..decoding import sized
from ..hooks import (
    Hooks,
    OwnHook,
    attach,
    detach,
    is_full_graph,
    is_planned,
    leave,
    register,
    release,
    uncompiled,
    unregister,
)
from ..loading import bare, denoiser_of, second_of
from ..models.base import Architecture, architecture_in, architecture_of
from ..optional import HookRegistry, is_pipeline
from .guidance import call_guidance, corrections, is_uniform
from .requests import CallArguments, GuidedBatch, GuidedCalls, Request, RequestPart, Source, Stream
from .schedulers import Fit, fit_scheduler, solver_difference, unproven_fit
from .tracking import Requests

_NAME = "exeunt.apply"

# The pipelines that schedules are on, for `call_arguments`.
_APPLIED: MutableMapping[Any, "AppliedSchedule"] = weakref.WeakKeyDictionary()


class AppliedSchedule:
    """A schedule on a model.

    Args:
        architecture: of the model.
        schedule: with the steps of this model alone.
        whole: the schedule of which that is a part, where models take turns.

    Attributes:
        schedule: the schedule; where models take turns, the whole of it.
        architecture: of the model.
        hooks: on the model's blocks.
        requests: the runs under way.
    """

    def __init__(self, architecture: Architecture, schedule: Schedule, whole: Schedule | None = None) -> None:
        self.schedule, self._part, self.architecture = whole or schedule, schedule, architecture
        sockets = architecture.sockets(schedule.networks[0].granularity)
        guidance = call_guidance(architecture, schedule)
        if len(self.schedule.networks) > 1 and "guidance_scale" in guidance:
            guidance["guidance_scale_2"] = guidance["guidance_scale"]  # which pipelines set to it where it isn't given
        self._uniform = is_uniform(schedule, _num_channels(architecture))
        if not self._uniform and architecture.layout is None:
            raise InputError(
                f"guidance: the schedule guides its steps differently, but how pipelines of "
                f"{type(architecture.model).__name__} hand over the unconditional branch is not known. Use a schedule "
                "that guides all steps alike."
            )
        self._plan, self._scales = self._compiled(), _scales(schedule)
        self.hooks: Hooks = attach(f"exeunt.{schedule.networks[0].granularity}", sockets)
        self.requests = Requests(
            architecture, network_times(schedule), guidance, self._begin, network_times(self.schedule)
        )

    def _compiled(self) -> Any:
        """The plan: of both branches where they are told apart, else of one, which both follow."""
        if not self._uniform:
            return compile_plan(self._part, joint=self.architecture.layout != "two-calls")
        steps = tuple(replace(step, guidance="inherit") for step in self._part.steps)
        return compile_plan(replace(self._part, guidance=None, steps=steps))

    def _begin(self, rows: int, source: Source | None) -> Request:
        if self._uniform:
            return Stream(self.hooks, self._plan, rows, source, self._scales)
        if source is None:
            raise InputError(
                "guidance: the schedule guides its steps differently, and only a pipeline's calls tell which rows are "
                "unconditional. Use a pipeline of diffusers, or a schedule that guides all steps alike."
            )
        changes = corrections(self._part, _num_channels(self.architecture))
        if self.architecture.layout == "two-calls":
            return GuidedCalls(self.hooks, self._plan, rows, source, changes)
        order: tuple[Branch, Branch] = ("conditional", "unconditional")
        if self.architecture.layout == "unconditional-first":
            order = "unconditional", "conditional"
        return GuidedBatch(self.hooks, self._plan, rows, source, changes, order, self.architecture.unbatched)

    def begin_call(self, args: tuple[Any, ...], kwargs: CallArguments) -> tuple[Request, list[RequestPart]]:
        """The request that a call of the model belongs to, and what the model has to be called with for it."""
        arguments = {**dict(zip(self.architecture.parameters, args, strict=False)), **kwargs}
        for name, what in self.architecture.refused.items():
            if arguments.get(name) is not None:
                raise InputError(
                    f"{name}: {what} changes what blocks compute, so stored outputs can't be reused. Omit it, or "
                    "call `exeunt.remove(pipe)` first."
                )
        request = self.requests.begin_call(arguments)
        return request, request.parts(arguments)

    def end_call(self, request: Request, outputs: list[Any]) -> Any:
        """What the caller gets."""
        output = request.finish(outputs)
        self.requests.end_call(request)
        return output


# As in `BlockHook`, nothing but the model's own forward may be compiled.
_begin_call, _end_call = uncompiled(AppliedSchedule.begin_call), uncompiled(AppliedSchedule.end_call)
_enter, _leave, _release = uncompiled(Hooks.enter), uncompiled(leave), uncompiled(release)
_is_planned, _forget = uncompiled(is_planned), uncompiled(Requests.forget)


class ModelCall(OwnHook):
    """Wraps a whole model, and finds out which step of which request a call is."""

    def __init__(self, application: AppliedSchedule) -> None:
        super().__init__()
        self.application = application

    @partial(uncompiled, recursive=False)
    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        reference: Any = self.fn_ref  # declared without types in diffusers
        forward, application = reference.original_forward, self.application
        if _is_planned():
            return forward(*args, **kwargs)
        request, parts = _begin_call(application, args, kwargs)
        outputs: list[Any] = []
        for call, arguments in parts:
            outer = _enter(application.hooks, call, request.slots)
            try:
                outputs.append(forward(**arguments))
            except BaseException:
                _forget(application.requests, request)
                raise
            finally:
                _leave(outer)
            _release(call, request.slots)
        return _end_call(application, request, outputs)


def apply(pipe_or_model: Any, schedule: Schedule | str | os.PathLike[str]) -> None:
    """Make a diffusers pipeline, or a model of one, follow a schedule from its next call on.

    Args:
        pipe_or_model: a `DiffusionPipeline`, or its transformer or U-Net. A schedule that is on it already is replaced.
        schedule: made for a network of that architecture, or its file; its weights may be other ones.

    Raises:
        InputError: the schedule is for another network, or the pipeline's scheduler can't visit its times.
    """
    pipeline, model = _parts(pipe_or_model)
    architecture, schedule = architecture_of(model), as_schedule(schedule)
    if pipeline is not None and (turn := second_of(pipeline)) is not None:
        _apply_in_turns(pipeline, architecture, turn, schedule)
        return
    _check_network(architecture, schedule)
    if pipeline is not None and architecture.is_seen and not is_uniform(schedule, _num_channels(architecture)):
        architecture = architecture_in(pipeline, model, {})  # a call of the pipeline shows where its branches are
    _check_compiled([pipe_or_model if pipeline is None else denoiser_of(pipeline), model], architecture, schedule)
    if pipeline is not None:
        _check_perturbed(pipeline, architecture, schedule)
        _warn(pipeline, schedule, _fitting(pipeline, architecture, schedule, None, None))
    present = _put_on(architecture, schedule, schedule)
    if pipeline is not None:
        _APPLIED[pipeline] = present


def _put_on(architecture: Architecture, part: Schedule, whole: Schedule) -> AppliedSchedule:
    """What is on a model afterwards: what was there, if it is the same."""
    present = _application_on(architecture.model)
    if present is None or present.schedule.digest != whole.digest:
        present = AppliedSchedule(architecture, part, whole)
        _take_off(architecture.model)
        register(architecture.model, ModelCall(present), _NAME)
    return present


def _apply_in_turns(pipeline: Any, first: Architecture, turn: tuple[Any, float], schedule: Schedule) -> None:
    """Put on each of a pipeline's two models what a schedule says of its steps."""
    second = architecture_of(bare(turn[0]))
    _check_turns(pipeline, turn[1], schedule)
    parts = [_part_of(schedule, network) for network in range(len(schedule.networks))]
    denoisers = [denoiser_of(pipeline), turn[0]]
    for architecture, part, denoiser in zip((first, second), parts, denoisers, strict=True):
        if part is not None:
            _check_network(architecture, part)
            _check_compiled([denoiser, architecture.model], architecture, part)
    _warn(pipeline, schedule, _fitting(pipeline, first, schedule, None, None))
    remove(pipeline)
    for architecture, part in zip((first, second), parts, strict=True):
        if part is not None:
            _APPLIED[pipeline] = _put_on(architecture, part, schedule)


def _part_of(schedule: Schedule, network: int) -> Schedule | None:
    """The steps of one network of a schedule as a schedule of their own; None where it has none."""
    steps = tuple(replace(step, network=0) for step in schedule.steps if step.network == network)
    return replace(schedule, networks=(schedule.networks[network],), steps=steps, name=None) if steps else None


def _check_turns(pipeline: Any, below: float, schedule: Schedule) -> None:
    """Raise InputError unless a schedule changes networks where the pipeline does."""
    title = type(pipeline).__name__
    if len(schedule.networks) != 2:
        raise InputError(
            f"networks: {title} has two that take turns, but the schedule has {len(schedule.networks)}. Use a schedule "
            "that was made for it."
        )
    for index, (step, time) in enumerate(zip(schedule.steps, network_times(schedule), strict=True)):
        wanted = int(time < below)
        if step.network != wanted:
            raise InputError(
                f"step {index}: {title} changes to its second transformer below time {below:g}, so at {time:g} network "
                f"must be {wanted}, but is {step.network}. Use a schedule that was made for this pipeline, or set its "
                "`boundary_ratio` between the times where the schedule changes."
            )


def remove(pipe_or_model: Any) -> None:
    """Take a schedule off a pipeline or model, which is then as it was. Without one, nothing happens."""
    pipeline, model = _parts(pipe_or_model)
    _take_off(model)
    if pipeline is not None:
        if (turn := second_of(pipeline)) is not None:
            _take_off(bare(turn[0]))
        _APPLIED.pop(pipeline, None)


def _take_off(model: nn.Module) -> None:
    present = _application_on(model)
    if present is not None:
        unregister(model, _NAME)
        detach(present.hooks)
        for other in [key for key, value in _APPLIED.items() if value is present]:
            del _APPLIED[other]


def call_arguments(
    schedule: Schedule | str | os.PathLike[str],
    pipe: Any = None,
    *,
    height: int | None = None,
    width: int | None = None,
) -> dict[str, Any]:
    """What to pass to a pipeline so that it follows a schedule: its steps or times, and its guidance.

    Args:
        schedule: one that `apply` put on a pipeline, or its file.
        pipe: the pipeline; needed where the schedule is on several that take it differently, or on none yet.
        height, width: of the images in pixels, where they are not the model's own and its times depend on it.

    Raises:
        InputError: the schedule is on no pipeline, or the pipeline can't visit its times.
    """
    schedule = as_schedule(schedule)
    found = [pipe] if pipe is not None else [p for p, a in _APPLIED.items() if a.schedule.digest == schedule.digest]
    every: list[dict[str, Any]] = []
    for pipeline in found:
        architecture = architecture_of(_parts(pipeline)[1])
        ways = _fitting(pipeline, architecture, schedule, height, width).arguments
        taken = inspect.signature(type(pipeline).__call__).parameters
        guidance = call_guidance(architecture, schedule)
        every.append({**ways, **{name: value for name, value in guidance.items() if name in taken}})
    if not every:
        raise InputError(
            "pipeline: this schedule must be applied to one, but is applied to none. Call `exeunt.apply(pipe, "
            "schedule)` first, or pass the pipeline too."
        )
    if any(arguments != every[0] for arguments in every):
        raise InputError(
            "pipeline: this schedule is applied to several pipelines with different call arguments. Pass the pipeline "
            "too."
        )
    return every[0]


def _parts(pipe_or_model: Any) -> tuple[Any, nn.Module]:
    """The pipeline, or None, and the bare model."""
    if is_pipeline(pipe_or_model):
        return pipe_or_model, bare(denoiser_of(pipe_or_model))
    if isinstance(pipe_or_model, nn.Module):
        return None, bare(pipe_or_model)
    kind = type(pipe_or_model).__name__
    raise InputError(
        f"pipeline: must be a DiffusionPipeline of diffusers or a model of one, but got {kind}. Pass one of these."
    )


def _application_on(model: nn.Module) -> AppliedSchedule | None:
    registry: HookRegistry | None = getattr(model, "_diffusers_hook", None)
    hook = None if registry is None else registry.get_hook(_NAME)
    return hook.application if isinstance(hook, ModelCall) else None


def _check_network(architecture: Architecture, schedule: Schedule) -> None:
    if len(schedule.networks) != 1:
        raise InputError(
            f"networks: a pipeline has one, but the schedule has {len(schedule.networks)}. Use a schedule of one "
            "network."
        )
    (wanted,), title = schedule.networks, type(architecture.model).__name__
    if wanted.architecture != title:
        raise InputError(
            f"network: the schedule is for {wanted.architecture}, but the pipeline has {title}. "
            "Use the pipeline that the schedule was made for."
        )
    kinds = tuple(socket.kind for socket in architecture.sockets(wanted.granularity))
    if wanted.block_kinds != kinds:
        raise InputError(
            f"network: the schedule is for {title} with {wanted.num_blocks} blocks, but this one has {len(kinds)}. "
            "Use the pipeline that the schedule was made for."
        )


def _check_compiled(models: list[Any], architecture: Architecture, schedule: Schedule) -> None:
    """Raise InputError where a model or its blocks are compiled as one graph, which hooks break."""
    blocks = [socket.module for socket in architecture.sockets(schedule.networks[0].granularity)]
    if any(is_full_graph(module) for module in (*models, *blocks)):
        raise InputError(
            "compile: a schedule changes from step to step what runs, which no single graph holds, but the model or "
            "its blocks are compiled with fullgraph=True. Compile them with fullgraph=False."
        )


def _check_perturbed(pipeline: Any, architecture: Architecture, schedule: Schedule) -> None:
    """Raise InputError where a third branch goes through attention that counts on both others being there."""
    if hasattr(type(pipeline), "do_perturbed_attention_guidance") and not is_uniform(
        schedule, _num_channels(architecture)
    ):
        raise InputError(
            f"guidance: the schedule guides its steps differently, which {type(pipeline).__name__} can't: perturbed "
            "attention needs every branch at every step. Use the pipeline without PAG, or a schedule that guides all "
            "steps alike, without `unconditional: skip` or `reuse`."
        )


def _num_channels(architecture: Architecture) -> int:
    return int(architecture.model.config.get("in_channels", 0))


def _fitting(
    pipeline: Any, architecture: Architecture, schedule: Schedule, height: int | None, width: int | None
) -> Fit:
    """How to call the pipeline, for images of a size."""
    if architecture.is_seen:
        sizes = {"height": height, "width": width}
        return unproven_fit(
            pipeline, architecture, schedule, {name: value for name, value in sizes.items() if value is not None}
        )
    tokens = 0
    if pipeline.scheduler.config.get("use_dynamic_shifting"):
        vae = getattr(pipeline, "vae", None)
        size = sized(architecture, None if vae is None else dict(vae.config), height, width, None)
        tokens = architecture.num_image_tokens(architecture.sample_shape(size))
    return fit_scheduler(pipeline, architecture, schedule, tokens)


def _warn(pipeline: Any, schedule: Schedule, found: Fit) -> None:
    """Say where images will differ from those that were measured."""
    other = solver_difference(pipeline.scheduler, schedule)
    if has_own_rows(schedule):
        warnings.warn(
            "the schedule carries coefficients of its own, and the pipeline's scheduler runs without them: images will "
            "differ from those that were measured. Sample with Exeunt or an ONNX folder, which follow them.",
            stacklevel=3,
        )
    elif other is not None:
        warnings.warn(
            f"the schedule was made for {schedule.sampler.name} of order {schedule.sampler.order}, and the pipeline's "
            f"own {other} runs: images will differ from those that were measured.",
            stacklevel=3,
        )
    if found.rounding > 0.05:
        warnings.warn(
            f"the pipeline's scheduler counts whole train indices, so times are rounded by up to {found.rounding:.2g}: "
            "images will differ a little from those that were measured.",
            stacklevel=3,
        )


def _scales(schedule: Schedule) -> list[float] | None:
    """Embedded guidance of each step; None where it is the same at all, as the pipeline's."""
    if not isinstance(schedule.guidance, Embedded):
        return None
    scales = [embedded_guidance_at(schedule, s) for s in range(schedule.num_steps)]
    if None in scales:
        raise InputError(
            f"guidance: the model needs a scale at every step, but step {scales.index(None)} has null. Write a number "
            "there."
        )
    return None if set(scales) == {schedule.guidance.scale} else [scale for scale in scales if scale is not None]
