"""Telling apart who calls a model: a pipeline says nothing of the request that its calls belong to.

A request is known by its thread and by the tensor of its conditions, which stays one object from the first step to the
last. It begins at the schedule's first time and is forgotten after its last step. One that was broken off is forgotten
when another begins. So two requests never meet, whether in two threads or by turns in one.
"""

import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .hf_architectures import Architecture
from .hf_extra import diffusers
from .hf_guidance import check_called
from .hf_requests import Arguments, Request, Source
from .hf_schedulers import ROUNDED, distance, names

WAY_OUT = "Call it with `**exeunt.call_arguments(schedule)`."
Key = tuple[int, int]  # thread, and the identity of the conditions' tensor


class Requests:
    """The requests under way on one model.

    Args:
        architecture: of the model.
        times: what the network receives at each step.
        guidance: what a pipeline must be called with.
        begin: (rows, source or None) -> a new request.
    """

    def __init__(
        self,
        architecture: Architecture,
        times: list[float],
        guidance: Mapping[str, Any],
        begin: Callable[[int, Source | None], Request],
    ) -> None:
        self._architecture, self._times, self._guidance, self._begin = architecture, times, guidance, begin
        self._open: dict[Key, Request] = {}
        self._lock, self._turns = threading.Lock(), itertools.count()

    def __len__(self) -> int:
        return len({id(request) for request in list(self._open.values())})

    def begin_call(self, arguments: Arguments) -> Request:
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

    def _find(self, arguments: Arguments) -> Request:
        condition = arguments.get(self._architecture.condition or "")
        key = (threading.get_ident(), id(condition))
        known = self._open.get(key)
        if known is not None and self._is_under_way(known, condition):
            if self._is_turn(known, arguments):
                return known
            self._check_first(arguments, known)
            self.forget(known)
        elif (other := self._by_turn(key[0], arguments)) is not None:
            return self._enter(other, key, condition)
        request = self._new(arguments)
        self._check_first(arguments, None)
        return self._enter(request, key, condition)

    def _is_under_way(self, request: Request, condition: Tensor | None) -> bool:
        """Whether the run that is known under a key goes on, and neither its tensor nor its scheduler's run is over."""
        same = condition is None or any(tensor() is condition for tensor in request.tensors)
        return same and (request.source is None or request.source.is_current)

    def _is_turn(self, request: Request, arguments: Arguments) -> bool:
        """Whether a call is at the time of the request's next step."""
        timestep = arguments["timestep"]
        if request.source is not None and isinstance(timestep, Tensor) and timestep.device.type != "cpu":
            return True  # the scheduler's list was compared when it began, and reading this would wait for the device
        return self._is_at(request.step, arguments)

    def _by_turn(self, thread: int, arguments: Arguments) -> Request | None:
        """The request of this thread that this call can be the next of, though its tensor is another one: the second
        call of a step, or conditions that are changed or copied on the way. A pipeline's calls come in the same order
        at every step, so that of several the one that has waited longest is meant; without a pipeline nothing says so.
        """
        calling, rows = calling_pipeline(), _rows(arguments)
        scheduler = None if calling is None else calling[0].scheduler
        found = {
            id(request): request
            for (owner, _), request in list(self._open.items())
            if owner == thread
            and request.rows == rows
            and (request.step or request.awaits_second)
            and scheduler is (request.source and request.source.scheduler)
            and (request.source is None or request.source.is_current)
            and self._is_at(request.step, arguments)
        }
        if len(found) > 1 and scheduler is None:
            raise InputError(
                "conditions: several runs wait for this time, and a new tensor of conditions does not tell which is "
                "meant. Pass the same tensor at every step of a run."
            )
        return min(found.values(), key=lambda request: request.turn, default=None)

    def _is_at(self, step: int, arguments: Arguments) -> bool:
        """Whether a call is at a step's time, as far as the type of its time tells."""
        timestep = self._architecture.train_time(arguments["timestep"])
        single = isinstance(timestep, Tensor) and timestep.is_floating_point()
        precision = torch.finfo(timestep.dtype).eps if single else 0.0
        return abs(_first(timestep) - self._times[step]) <= ROUNDED + 2 * precision * self._times[step]

    def _check_first(self, arguments: Arguments, known: Request | None) -> None:
        """Raise InputError unless a call is at the schedule's first time."""
        if not self._is_at(0, arguments):
            due = f"{self._times[0]:g}" if known is None else f"{self._times[known.step]:g}, of its step {known.step}"
            time = _first(self._architecture.train_time(arguments["timestep"]))
            raise InputError(
                f"times: the schedule's next time is {due}, but the model was called at {time:g}. {WAY_OUT}"
            )

    def _new(self, arguments: Arguments) -> Request:
        """A request at its first call.

        Raises:
            InputError: the pipeline that makes it was called otherwise than the schedule says.
        """
        calling = calling_pipeline()
        if calling is None:
            return self._begin(_rows(arguments), None)
        pipeline, called = calling
        source = Source(pipeline.scheduler, pipeline.scheduler.timesteps)
        check_times(source.timesteps.tolist(), self._times, pipeline)
        check_called(self._guidance, called, pipeline)
        return self._begin(_rows(arguments), source)

    def _enter(self, request: Request, key: Key, condition: Tensor | None) -> Request:
        with self._lock:
            if not request.tensors:
                self._clear(key[0])
            self._open[key] = request
            if condition is not None:
                request.tensors.append(weakref.ref(condition))
        return request

    def _clear(self, thread: int) -> None:
        """Forget the requests of this thread, and of threads that are gone, that can't go on."""
        alive = {each.ident for each in threading.enumerate()}
        for key, request in list(self._open.items()):
            ended = request.is_dead if request.source is None else not request.source.is_current
            if (key[0] == thread and ended) or key[0] not in alive:
                del self._open[key]

    def forget(self, request: Request) -> None:
        """Drop a request and all that it stored."""
        with self._lock:
            for key in [key for key, other in self._open.items() if other is request]:
                del self._open[key]


def _rows(arguments: Arguments) -> int:
    """The batch of the model's first argument."""
    return len(next(iter(arguments.values())))


def _first(timestep: Any) -> float:
    """The time of a batch's first row."""
    return float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)


def check_times(times: list[float], wanted: list[float], pipeline: Any) -> None:
    """Raise InputError unless a pipeline's scheduler visits the schedule's times."""
    title = type(pipeline).__name__
    if len(times) != len(wanted):
        raise InputError(f"steps: the schedule has {len(wanted)}, but {title} was called for {len(times)}. {WAY_OUT}")
    if distance(times, wanted) > ROUNDED:
        shifted = pipeline.scheduler.config.get("use_dynamic_shifting")
        way_out = f"{WAY_OUT[:-3]}, height=…, width=…)`: its times depend on the size." if shifted else WAY_OUT
        raise InputError(
            f"times: the schedule's are {names(wanted)}, but {title}'s scheduler goes to {names(times)}. {way_out}"
        )


def calling_pipeline() -> tuple[Any, Mapping[str, Any]] | None:
    """The pipeline whose call is under way in this thread, and the variables of that call; None without one.

    A pipeline tells its model neither its scheduler nor its guidance, and some keep the scale nowhere, so that the call
    itself is looked at. Nothing in it is changed.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__call__":
            owner = frame.f_locals.get("self")
            if isinstance(owner, diffusers.DiffusionPipeline) and hasattr(owner, "scheduler"):
                return owner, frame.f_locals
        frame = frame.f_back
    return None
