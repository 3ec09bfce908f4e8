"""Step plans carried out inside a diffusers model's own forward, by diffusers' `ModelHook` on each of its blocks.

The model's forward calls its blocks one after the other. A hook on each of them runs the block, hands on what stands in
for it, or lets its input through, as the plan says. What is going on is known to the thread that called the model and
to nothing else: hooks keep no state, so two threads may run one model with different plans, and a model that is called
without a plan runs as if it had no hooks.
"""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...network import Slots, State, add, combined, stored
from ...plan import Add, Call, Op, Read, Run, fuses
from .optional import HookRegistry, ModelHook

_F = TypeVar("_F", bound=Callable[..., Any])


_REASON = "what Exeunt's hooks do changes from step to step. Compile with fullgraph=False, or exeunt.remove(pipe) first"


def uncompiled(function: _F, *, recursive: bool = True) -> _F:
    """The same function kept out of compiled code, and with `recursive` all that it calls."""
    disable: Any = torch.compiler.disable  # declared without types in torch
    return disable(function, recursive=recursive, reason=_REASON)


def is_full_graph(module: Any) -> bool:
    """Whether a module is compiled with `fullgraph=True`, as far as torch lets that be seen."""
    context, call = getattr(module, "dynamo_ctx", None), getattr(module, "_compiled_call_impl", None)
    if call is not None and hasattr(call, "__code__"):
        cells = dict(zip(call.__code__.co_freevars, call.__closure__ or (), strict=False))
        context = cells["self"].cell_contents if "self" in cells else None
    return bool(getattr(context, "fullgraph", False))


@dataclass(frozen=True)
class Socket:
    """Where one block sits in a model.

    Attributes:
        module: the block, or the part of a block, whose forward is one block of the schedule.
        kind: "residual", "merge", "branch" or "replace", as in the network's signature. A merge block here is a
            residual one before which the model does something with the state: it joins streams, or turns axes.
        take: (args, kwargs) of that forward -> the state before the block.
        read: (what the forward returned, the state before) -> the state after a residual or merge block; for the other
            kinds the value that is stored.
        give: such a state or value -> what the forward would return for it.
    """

    module: nn.Module
    kind: str
    take: Callable[[tuple[Any, ...], Mapping[str, Any]], State]
    read: Callable[[Any, State], State]
    give: Callable[[State], Any]

    @property
    def adds(self) -> bool:
        """Whether what is stored is the difference that the block makes to its state."""
        return self.kind in ("residual", "merge")


class _Thread(threading.local):
    running: "_Running | None" = None
    planned: bool = False  # whether what the thread calls is under a plan already, or explicitly under none


_THREAD = _Thread()
Outer: TypeAlias = "tuple[_Running | None, bool]"  # what went on in a thread before


class Hooks:
    """The hooks on one model's blocks at one granularity. `attach` and `detach` make and remove them.

    Attributes:
        name: what they are called in diffusers' registries.
        sockets: the blocks in execution order.
        users: how many have attached them and not yet detached them.
    """

    def __init__(self, name: str, sockets: Sequence[Socket]) -> None:
        self.name, self.sockets, self.users = name, tuple(sockets), 0
        self.fusible = fuses([socket.kind for socket in sockets])

    @contextmanager
    def running(self, call: Call | None, slots: Slots) -> Generator[None]:
        """Calls of the model in this thread, inside the `with`, carry out `call`; None runs every block."""
        outer = self.enter(call, slots)
        try:
            yield
        finally:
            leave(outer)
        release(call, slots)

    def enter(self, call: Call | None, slots: Slots) -> Outer:
        """Begin what `running` does, and return what `leave` ends it with."""
        outer = _THREAD.running, _THREAD.planned
        _THREAD.running, _THREAD.planned = None if call is None else _Running(self, call, slots), True
        return outer


def leave(outer: Outer) -> None:
    """End what `Hooks.enter` began."""
    _THREAD.running, _THREAD.planned = outer


def release(call: Call | None, slots: Slots) -> None:
    """Free the slots that no later call reads."""
    for slot in () if call is None else call.release:
        slots[slot] = None


def is_planned() -> bool:
    """Whether this thread is between `Hooks.enter` and `leave`."""
    return _THREAD.planned


def attach(name: str, sockets: Sequence[Socket]) -> Hooks:
    """The hooks of that name on these blocks, made where there are none yet. They are shared by all who attach them."""
    first = HookRegistry.check_if_exists_or_initialize(sockets[0].module).get_hook(name)
    if isinstance(first, BlockHook):
        first.hooks.users += 1
        return first.hooks
    hooks = Hooks(name, sockets)
    for index, socket in enumerate(sockets):
        register(socket.module, BlockHook(hooks, index), name)
    hooks.users = 1
    return hooks


def detach(hooks: Hooks) -> None:
    """Remove the hooks after their last user is gone; the modules are then as they were."""
    hooks.users -= 1
    if hooks.users == 0:
        for socket in hooks.sockets:
            unregister(socket.module, hooks.name)


class OwnHook(ModelHook):
    """A hook that stays where it is: the copy of a module would still call the modules that it was copied from."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "pipeline: must be copied or pickled without a schedule, but one is applied to its model. Call "
            "`exeunt.remove(pipe)`, copy it, and `exeunt.apply` on each."
        )


class BlockHook(OwnHook):
    """Wraps one block, and runs or skips it as the plan of the thread's call says."""

    def __init__(self, hooks: Hooks, index: int) -> None:
        super().__init__()
        self.hooks, self.index = hooks, index

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # An exported graph holds what the plan does at one call, and torch.export refuses what is kept out of it.
        if torch.compiler.is_exporting():
            return _planned(self, args, kwargs, _Running.stand_in, _Running.store)
        return _planned_uncompiled(self, args, kwargs, _stand_in_uncompiled, _store_uncompiled)


def _planned(
    hook: BlockHook,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    stand_in: Callable[..., Any],
    store: Callable[..., None],
) -> Any:
    """What the hook's block returns under the plan of the thread's call, or by itself where there is none."""
    reference: Any = hook.fn_ref  # declared without types in diffusers
    forward, running = reference.original_forward, _THREAD.running
    if running is None or running.hooks is not hook.hooks:
        return forward(*args, **kwargs)
    op = running.ops[hook.index]
    if not isinstance(op, Run):
        return stand_in(running, hook.index, args, kwargs)
    output = forward(*args, **kwargs)
    if op.store is not None:
        store(running, hook.index, args, kwargs, output)
    return output


class _Running:
    """One call of a plan on its way through a model's blocks."""

    def __init__(self, hooks: Hooks, call: Call, slots: Slots) -> None:
        self.hooks, self.slots, self.ops = hooks, slots, _by_block(call)
        self.before: State | None = None  # the state at the start of the span that is being stored

    def store(self, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Keep what block `index`, or the span of residual blocks that ends with it, made of these arguments."""
        socket, op = self.hooks.sockets[index], self.ops[index]
        assert isinstance(op, Run)
        assert op.store is not None
        h = socket.take(args, kwargs)
        if not socket.adds:
            self.slots[op.store] = socket.read(output, h)
            return
        if index == op.start:
            self.before = h
        if index == op.stop - 1:
            assert self.before is not None, "a span is entered at its first block"
            self.slots[op.store] = add(socket.read(output, h), self.before, -1.0)
            self.before = None

    def stand_in(self, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What block `index` would return, where it does not run."""
        socket, op = self.hooks.sockets[index], self.ops[index]
        h = socket.take(args, kwargs)
        if isinstance(op, Add) and index == op.start:
            return socket.give(self._with_stored(socket, h, op.reads))
        return socket.give(_zeros(h) if socket.kind == "branch" else h)

    def _with_stored(self, socket: Socket, h: State, reads: Sequence[Read]) -> State:
        """The state or value with stored values in place of a block's own, or of the span that it begins."""
        if not socket.adds:
            return combined(self.slots, reads)
        if not self.hooks.fusible:
            return add(h, combined(self.slots, reads))
        for read in reads:
            h = add(h, stored(self.slots, read), read.weight)
        return h


# What a hook decides changes from step to step. Kept out of compiled code, it causes no recompilation, and the block
# behind it is still compiled: `_planned` itself is left alone, and all that it calls but `forward`.
_planned_uncompiled = uncompiled(_planned, recursive=False)
_stand_in_uncompiled = uncompiled(_Running.stand_in)
_store_uncompiled = uncompiled(_Running.store)


@lru_cache(maxsize=1024)
def _by_block(call: Call) -> tuple[Op, ...]:
    """The operation that each block is part of."""
    return tuple(op for op in call.ops for _ in range(op.start, op.stop))


def _zeros(h: State) -> State:
    return torch.zeros_like(h) if isinstance(h, Tensor) else tuple(_zeros(part) for part in h)


# ---- diffusers' registries -------------------------------------------------------------------------------------------


def register(module: nn.Module, hook: ModelHook, name: str) -> None:
    """Put a hook on a module, around those of diffusers that are there and inside accelerate's."""
    with _inside_accelerate(module):
        registry = HookRegistry.check_if_exists_or_initialize(module)
        registry.register_hook(hook, name)
        registry.invalidate_child_registries_cache()


def unregister(module: nn.Module, name: str) -> None:
    """Take a hook off a module, and leave what others put there, inside it or around it, as it is."""
    registry: Any = getattr(module, "_diffusers_hook", None)
    if registry is None or registry.get_hook(name) is None:
        return
    place = registry._hook_order.index(name)
    own, upper = registry._fn_refs[place], next(iter(registry._fn_refs[place + 1 :]), None)
    upper_forward = None if upper is None or upper.original_forward is None else upper.forward
    with _inside_accelerate(module):
        registry.remove_hook(name, recurse=False)
        if upper is not None and upper_forward is not None:
            # diffusers has put what stood inside the removed hook in place of the upper hook's own forward.
            upper.forward, upper.original_forward = upper_forward, own.original_forward
        _tidy(module, registry)


@contextmanager
def _inside_accelerate(module: Any) -> Generator[None]:
    """Work inside the wrapper that accelerate may have put around a module's forward.

    Offloading takes the wrapper off and puts it on again after every run of a pipeline, and what stood around it is
    lost then.
    """
    wrapper = module.__dict__.get("forward")
    if not getattr(getattr(wrapper, "func", None), "__module__", "").startswith("accelerate."):
        yield
        return
    module.forward = module._old_forward
    yield
    module._old_forward, module.forward = module.forward, wrapper


def _tidy(module: nn.Module, registry: HookRegistry) -> None:
    """Leave no trace where no hook is left: neither a registry, nor a forward that hides the class's."""
    registry.invalidate_child_registries_cache()
    if registry.hooks:
        return
    del module._diffusers_hook
    if getattr(module.__dict__.get("forward"), "__func__", None) is type(module).forward:
        del module.forward
