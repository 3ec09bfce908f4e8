"""Finds the request that a call of a model belongs to, since a pipeline does not state it.

A request is known by its thread and by the tensor of its conditions, which stays one object from the first step to the
last. It begins at the schedule's first time and is forgotten after its last step. One that was broken off is forgotten
when another begins. So two requests never meet, whether in two threads or by turns in one.
"""

import inspect
import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ....errors import InputError
from ..models.base import Architecture
from ..optional import is_pipeline
from .guidance import check_called
from .requests import CallArguments, GuidedBatch, Request, Source
from .schedulers import ROUNDED, distance, shown_times

WAY_OUT = "Call it with `**exeunt.call_arguments(schedule)`."


class Requests:
    """The requests under way on one model.

    Args:
        architecture: of the model.
        times: what the network receives at each step.
        guidance: what a pipeline must be called with.
        begin: (rows, source or None) -> a new request.
        all_times: those of the whole run, of which these are a part where models take turns.
    """

    def __init__(
        self,
        architecture: Architecture,
        times: list[float],
        guidance: Mapping[str, Any],
        begin: Callable[[int, Source | None], Request],
        all_times: list[float] | None = None,
    ) -> None:
        self._all_times = times if all_times is None else all_times
        self._architecture, self._times, self._guidance, self._begin = architecture, times, guidance, begin
        self._open: list[Request] = []
        self._lock, self._turns = threading.Lock(), itertools.count()

    def __len__(self) -> int:
        return len(self._open)

    def begin_call(self, arguments: CallArguments) -> Request:
        """The request that a call of the model belongs to.

        Raises:
            InputError: it is none of a run through the schedule.
        """
        request = self._find(arguments)
        request.turn = next(self._turns)
        return request

    def end_call(self, request: Request) -> None:
        """Forget the request if that was its last call."""
        if request.is_over:
            self.forget(request)

    def _find(self, arguments: CallArguments) -> Request:
        condition = self._architecture.condition_of(arguments)
        mine = [request for request in list(self._open) if request.thread == threading.get_ident()]
        scheduler = _calling_scheduler() if condition is None else None
        known = next((request for request in mine if request.is_known_by(condition, scheduler)), None)
        if known is not None:
            if self._is_turn(known, arguments):
                return known
            self._check_first(arguments, known)
            self.forget(known)
        elif (other := self._by_turn(mine, arguments)) is not None:
            other.recognise(condition)
            return other
        self._check_rows(mine, arguments)
        request = self._new(arguments)
        self._check_first(arguments, None)
        request.recognise(condition)
        with self._lock:
            self._clear()
            self._open.append(request)
        return request

    def _is_turn(self, request: Request, arguments: CallArguments) -> bool:
        """Whether a call is at the time of the request's next step."""
        timestep = self._architecture.time_of(arguments)
        if request.source is not None and isinstance(timestep, Tensor) and timestep.device.type != "cpu":
            return True  # the scheduler's list was compared when it began, and reading this would wait for the device
        return self._is_at(request.step, arguments)

    def _by_turn(self, mine: list[Request], arguments: CallArguments) -> Request | None:
        """The request of this thread that this call can be the next of, though its tensor is another one: the second
        call of a step, or conditions that are changed or copied on the way. A pipeline's calls come in the same order
        at every step, so that of several the one that has waited longest is meant; without a pipeline nothing says so.
        """
        scheduler, rows = _calling_scheduler(), _rows(arguments)
        found = [
            request
            for request in mine
            if request.is_under_way
            and request.rows == rows
            and scheduler is (request.source and request.source.scheduler)
            and self._is_at(request.step, arguments)
        ]
        if len(found) > 1 and scheduler is None:
            raise InputError(
                "conditions: several runs wait for this time, and a new tensor of conditions does not tell which is "
                "meant. Pass the same tensor at every step of a run."
            )
        return min(found, key=lambda request: request.turn, default=None)

    def _is_at(self, step: int, arguments: CallArguments) -> bool:
        """Whether a call is at a step's time, as far as the type of its time tells."""
        timestep = self._architecture.time_of(arguments)
        single = isinstance(timestep, Tensor) and timestep.is_floating_point()
        precision, first = torch.finfo(timestep.dtype).eps if single else 0.0, _first(timestep)
        limit = ROUNDED + 2 * precision * self._times[step]
        return any(abs(clock(first) - self._times[step]) <= limit for clock in self._architecture.clocks)

    def _check_rows(self, mine: list[Request], arguments: CallArguments) -> None:
        """Raise InputError where a pipeline goes on with a run in batches of another size."""
        scheduler, rows = _calling_scheduler(), _rows(arguments)
        for request in mine:
            same_run = request.source is not None and request.source.scheduler is scheduler and request.is_under_way
            if same_run and request.rows != rows and self._is_at(request.step, arguments):
                raise InputError(
                    f"guidance: a run must keep its batch, but had {request.rows} rows and has {rows} from step "
                    f"{request.step} on. Omit the callback that changes guidance, and use a schedule that says itself "
                    'at which steps there is none ("guidance": null there).'
                )

    def _check_first(self, arguments: CallArguments, known: Request | None) -> None:
        """Raise InputError unless a call is at the schedule's first time."""
        if not self._is_at(0, arguments):
            due = f"{self._times[0]:g}" if known is None else f"{self._times[known.step]:g}, of its step {known.step}"
            time = self._architecture.clocks[0](_first(self._architecture.time_of(arguments)))
            calling = calling_pipeline()
            way_out = (calling and _partial_run(calling[1])) or WAY_OUT
            raise InputError(
                f"times: the schedule's next time is {due}, but the model was called at {time:g}. {way_out}"
            )

    def _new(self, arguments: CallArguments) -> Request:
        """A request at its first call.

        Raises:
            InputError: the pipeline that makes it was called otherwise than the schedule says.
        """
        calling = calling_pipeline()
        if calling is None:
            return self._begin(_rows(arguments), None)
        pipeline, called = calling
        source = Source(pipeline.scheduler, pipeline.scheduler.timesteps)
        check_times(source.timesteps.tolist(), self._all_times, pipeline, _partial_run(called) or WAY_OUT)
        check_called(self._guidance, called, pipeline)
        request = self._begin(_rows(arguments), source)
        check_branches(request, called, pipeline)
        return request

    def _clear(self) -> None:
        """Forget the requests of this thread that can't go on, and those of threads that are gone."""
        alive, own = {each.ident for each in threading.enumerate()}, threading.get_ident()
        self._open = [
            request
            for request in self._open
            if request.thread in alive and not (request.thread == own and request.is_given_up)
        ]

    def forget(self, request: Request) -> None:
        """Drop a request and all that it stored."""
        with self._lock:
            self._open = [other for other in self._open if other is not request]


def _partial_run(called: Mapping[str, Any]) -> str | None:
    """The way out for a pipeline that was called to begin in the middle of its times; None for any other."""
    for name, whole in (("strength", 1.0), ("denoising_start", 0.0)):
        given = called.get(name)
        if isinstance(given, float | int) and given != whole:
            return (
                f"The pipeline was called with {name}={given:g}, which leaves the first times out, and a schedule is "
                f"followed from its first step on. Call it with {name}={whole:g}, or `exeunt.remove(pipe)` first."
            )
    return None


def check_branches(request: Request, called: Mapping[str, Any], pipeline: Any) -> None:
    """Raise InputError unless a run whose steps are guided differently has the two branches that schedules know."""
    latents = called.get("latents")
    if not isinstance(request, GuidedBatch) or not isinstance(latents, Tensor) or request.rows == 2 * len(latents):
        return
    raise InputError(
        "guidance: the schedule guides its steps differently, which takes two rows for each image, but "
        f"{type(pipeline).__name__} calls its model with {request.rows} for {len(latents)}. Use a pipeline of one "
        "guidance, or a schedule that guides all steps alike."
    )


def _rows(arguments: CallArguments) -> int:
    """The batch of the model's first argument."""
    return len(next(iter(arguments.values())))


def _first(timestep: Any) -> float:
    """The time of a batch's first row."""
    return float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)


def check_times(times: list[float], wanted: list[float], pipeline: Any, way_out: str = WAY_OUT) -> None:
    """Raise InputError unless a pipeline's scheduler visits the schedule's times."""
    title = type(pipeline).__name__
    if len(times) != len(wanted):
        raise InputError(f"steps: the schedule has {len(wanted)}, but {title} was called for {len(times)}. {way_out}")
    if distance(times, wanted) > ROUNDED:
        shifted = pipeline.scheduler.config.get("use_dynamic_shifting")
        if shifted and way_out == WAY_OUT:
            way_out = f"{WAY_OUT[:-3]}, height=…, width=…)`: its times depend on the size."
        raise InputError(
            f"times: the schedule's are {shown_times(wanted)}, but {title}'s scheduler goes to "
            f"{shown_times(times)}. {way_out}"
        )


def _calling_scheduler() -> Any:
    """The scheduler of the pipeline whose call is under way in this thread; None without one."""
    calling = calling_pipeline()
    return None if calling is None else calling[0].scheduler


def calling_pipeline() -> tuple[Any, Mapping[str, Any]] | None:
    """The pipeline whose call is under way in this thread, and the variables of that call; None without one.

    A pipeline tells its model neither its scheduler nor its guidance, and some keep the scale nowhere, so that the call
    itself is looked at. Nothing in it is changed.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "__call__":
            owner = frame.f_locals.get("self")
            if is_pipeline(owner) and hasattr(owner, "scheduler"):
                return owner, frame.f_locals
        frame = frame.f_back
    return None
