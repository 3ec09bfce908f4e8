"""Every denoiser of the installed diffusers, put to the test on a small copy: what works, and what doesn't, and why.

Each class is made with random weights and hooked as a served model is. With every block running its output must be the
unhooked one bit for bit; random actions must give what block-by-block arithmetic gives; and without hooks the model
must be as it was.
"""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....errors import first_line
from ....network import Slots, State, add
from ....plan import Call, Skip, compile_plan
from ....schedule import Action, NetworkSignature, Noise, Schedule
from ....solvers.tables import make_schedule
from ...conformance.checks import SINGLE, relative_difference
from ...conformance.probe import random_columns, with_actions
from ...conformance.reference import PastValues, taylor
from ..hooks import Hooks, Socket, attach, detach
from ..optional import diffusers
from .inputs import example
from .observation import Port, observe
from .sockets import sockets_at
from .tiny import make_small

STEPS, LAYERS, ROWS = 5, 4, 2
_PACKAGES = ("transformers", "unets")
# Classes among the models that predict nothing by themselves, or nothing that a solver advances.
_NO_DENOISERS = {
    "DreamLiteTransformer2DModel": "a part of DreamLite's U-Net",
    "MiniMaxMusic3RVQDepthDecoder": "predicts codes one after the other, and no noise",
    "MotionAdapter": "weights that go into a U-Net, without a forward",
    "Transformer2DModel": "a part of U-Nets; old folders of DiT and PixArt that name it load as these",
    "TransformerTemporalModel": "a part of U-Nets for videos",
    "UVit2DModel": "predicts tokens under a mask, which no solver here advances",
}
_UNKNOWN = {
    "RFD4ProteinaTransformer": "makes protein structures, from a description that nothing here can make up",
    "WanAnimate2Transformer3DModel": "its blocks fill a cache of keys and values that later calls read",
}


@dataclass(frozen=True)
class Verdict:
    """What is known of one class.

    Attributes:
        name: of the class.
        lists: where its blocks stand in the model, in execution order.
        kinds: of its blocks in order, run-length coded, on the small copy.
        streams: how many tensors go from block to block at most.
        granularities: at which it passed; empty where it did not.
        reason: why it does not work; "" where it does.
        is_denoiser: whether it predicts what a solver advances.
    """

    name: str
    lists: tuple[str, ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    streams: int = 0
    granularities: tuple[str, ...] = ()
    reason: str = ""
    is_denoiser: bool = True


HEADER = "| class | its blocks are in | a block hands on | kinds | `--granularity branch` |\n|---|---|---|---|---|"


def table_row(verdict: Verdict) -> str:
    """A class in a table of Markdown, under `HEADER`."""
    if verdict.reason:
        return f"| `{verdict.name}` | {'' if verdict.is_denoiser else 'no denoiser: '}{verdict.reason} | | | |"
    lists = ", ".join(f"`{name}`" for name in verdict.lists)
    tensors = {0: "all that it makes", 1: "a tensor"}.get(verdict.streams, f"{verdict.streams} tensors")
    kinds = ", ".join(dict.fromkeys(kind for kind, _ in verdict.kinds))
    return (
        f"| `{verdict.name}` | {lists} | {tensors} | {kinds} | {'yes' if 'branch' in verdict.granularities else 'no'} |"
    )


class _Broken(Exception):
    """A promise that a class does not keep; the message says which."""


def denoiser_classes() -> Iterator[type[nn.Module]]:
    """All model classes of diffusers' transformers and U-Nets, by name."""
    library: Any = diffusers
    found: dict[str, Any] = {}
    for package in _PACKAGES:
        home = importlib.import_module(f"diffusers.models.{package}")
        for entry in pkgutil.iter_modules(home.__path__):
            module = importlib.import_module(f"{home.__name__}.{entry.name}")
            found |= {
                name: kind
                for name, kind in vars(module).items()
                if inspect.isclass(kind) and issubclass(kind, library.ModelMixin) and kind.__module__ == module.__name__
            }
    return iter(found[name] for name in sorted(found) if hasattr(diffusers, name))


def examine(kind: type[nn.Module]) -> Verdict:
    """Make a small copy of a class, and try on it all that hooks promise."""
    name = kind.__name__
    if name in _NO_DENOISERS:
        return Verdict(name, reason=_NO_DENOISERS[name], is_denoiser=False)
    if name in _UNKNOWN:
        return Verdict(name, reason=_UNKNOWN[name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make_small(kind, {}, layers=LAYERS)
            inputs = [example(model, ROWS, seed) for seed in range(STEPS)]
            ports = observe(model, inputs[:2])
            return Verdict(name, *_described(ports), _granularities(model, ports, inputs))
    except Exception as error:  # whatever a class's own code raises
        return Verdict(name, reason=f"{type(error).__name__}: {first_line(error)}")


def _described(ports: Sequence[Port]) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...], int]:
    """Lists, kinds and the number of streams."""
    lists = tuple(dict.fromkeys(port.name.partition(".")[0] for port in ports))
    kinds = tuple((kind, len(list(same))) for kind, same in groupby(port.kind for port in ports))
    return lists, kinds, max(len(port.streams) for port in ports)


def _granularities(model: nn.Module, ports: Sequence[Port], inputs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Those at which the model keeps all promises. Raises _Broken where it keeps one of them not."""
    names = ("block", "branch") if all(port.parts for port in ports) else ("block",)
    with torch.inference_mode():
        before = [_output(model, each) for each in inputs]
        if not all(bool(torch.isfinite(leaf).all()) for leaf in before[0]):
            raise _Broken("its output on random weights is not finite")
        for name in names:
            _check(model, sockets_at(model, ports, name), name, inputs, before)
        if all(port.kind == "residual" for port in ports):
            _check_emptied(model, ports, inputs[0])
    return names


def _check(
    model: nn.Module,
    sockets: Sequence[Socket],
    granularity: str,
    inputs: Sequence[Mapping[str, Any]],
    before: Sequence[tuple[Tensor, ...]],
) -> None:
    """Raise _Broken unless the model under hooks does what it must on these inputs.

    Args:
        before: what it returns for them without hooks.
    """
    signature = NetworkSignature(type(model).__name__, granularity, tuple((each.kind, 1) for each in sockets), None)
    full = make_schedule(signature, Noise("flow"), "flow", num_steps=len(inputs))
    columns = random_columns(signature.block_kinds, len(inputs), np.random.default_rng(0))
    wanted = list(_slow_outputs(model, sockets, columns, inputs))
    hooks = attach(f"exeunt.{granularity}", sockets)
    try:
        whole = next(_planned_outputs(model, hooks, full, inputs))
        found = list(_planned_outputs(model, hooks, with_actions(full, columns), inputs))
    finally:
        detach(hooks)
    if not _equal(before[0], whole):
        raise _Broken(f"by {granularity}, full depth under hooks is not its own output bit for bit")
    worst = max(relative_difference(one, other) for one, other in zip(found, wanted, strict=True))
    if not worst <= SINGLE:
        raise _Broken(f"by {granularity}, random actions differ by {worst:.2g} from block-by-block arithmetic")
    if relative_difference(found[-1], before[-1]) == 0:
        raise _Broken(f"by {granularity}, leaving blocks out changes nothing")
    if not _equal(before[0], _output(model, inputs[0])) or _has_hooks(model):
        raise _Broken(f"by {granularity}, it is not as it was once the hooks are gone")


def _check_emptied(model: nn.Module, ports: Sequence[Port], arguments: Mapping[str, Any]) -> None:
    """Raise _Broken unless dropping every block is the model with its lists of blocks empty, if it runs so."""
    sockets = sockets_at(model, ports, "block")
    hooks = attach("exeunt.block", sockets)
    with hooks.running(Call(("conditional",), (Skip(0, len(sockets)),), ()), []):
        dropped = _output(model, arguments)
    detach(hooks)
    lists = {name: model.get_submodule(name) for name in {port.name.rpartition(".")[0] for port in ports}}
    kept = {name: vars(blocks)["_modules"] for name, blocks in lists.items()}
    for blocks in lists.values():
        vars(blocks)["_modules"] = {}
    try:
        emptied = _output(model, arguments)
    except IndexError:  # it looks for something in its first block
        return
    finally:
        for name, blocks in lists.items():
            vars(blocks)["_modules"] = kept[name]
    if not _equal(dropped, emptied):
        raise _Broken("dropping every block is not the model without blocks: they hand on something else")


def _has_hooks(model: nn.Module) -> bool:
    return any({"_diffusers_hook", "forward"} & vars(each).keys() for each in model.modules())


def _planned_outputs(
    model: nn.Module, hooks: Hooks, schedule: Schedule, inputs: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Tensor, ...]]:
    """Each step's outputs by the schedule's compiled plan."""
    plan = compile_plan(schedule)
    slots: Slots = [None] * plan.num_slots
    for step, arguments in zip(plan.steps, inputs, strict=True):
        with hooks.running(step.calls[0], slots):
            yield _output(model, arguments)


def _slow_outputs(
    model: nn.Module,
    sockets: Sequence[Socket],
    columns: Sequence[Sequence[Action]],
    inputs: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Tensor, ...]]:
    """Each step's outputs block by block from the format's definitions: no plan, no slots, no hooks, nothing fused."""
    history: list[PastValues] = [[] for _ in sockets]
    for s, (column, arguments) in enumerate(zip(columns, inputs, strict=True)):
        for socket, action, past in zip(sockets, column, history, strict=True):
            socket.module.forward = _acting(socket, action, past, s, type(socket.module).forward)
        try:
            yield _output(model, arguments)
        finally:
            for socket in sockets:
                del socket.module.forward


def _acting(
    socket: Socket, action: Action, past: PastValues, s: int, forward: Callable[..., Any]
) -> Callable[..., Any]:
    """A block's forward under one action at step `s`; what it stores is put down first in `past`."""

    def act(*args: Any, **kwargs: Any) -> Any:
        h = _copied(socket.take(args, kwargs))
        if action.kind == "run":
            output = forward(socket.module, *args, **kwargs)
            value = socket.read(output, h)
            past.insert(0, (s, add(value, h, -1.0) if socket.adds else value))
            return output
        if action.kind == "drop":
            return socket.give(h if socket.adds else _zeros(h))
        value = taylor(s, past, action.order)
        return socket.give(add(h, value) if socket.adds else value)

    return act


def _copied(state: State) -> State:
    return state.clone() if isinstance(state, Tensor) else tuple(map(_copied, state))


def _zeros(state: State) -> State:
    return torch.zeros_like(state) if isinstance(state, Tensor) else tuple(map(_zeros, state))


def _output(model: nn.Module, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """All tensors that a forward returns."""
    return tuple(_leaves(model(**arguments)))


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))
