"""What a denoiser's forward is seen to do with its blocks: which are called, in which order, what they take and return.

Nothing is known of a class beforehand but where diffusers keeps blocks: in lists of modules. A small copy with random
weights runs once on each of two samples. What differs between the two depends on the sample; of that, a block's state
is what it takes and hands on in the same shape. Where several arguments have the shape of an output, diffusers'
`TransformerBlockRegistry` says which one goes on in it; else the one that most blocks of the class got from the block
before; else the one that the output is nearest to in direction, since a block adds to its state.
"""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..optional import TransformerBlockRegistry

STAGES = ("down_blocks", "mid_block", "up_blocks")  # of a U-Net, in execution order
_BLOCK = re.compile(r"Block|(?<!Final)(?<!Norm)Layer$")
_PART = re.compile(r"^(?!.*(norm|_ln$|_act$)).*(attn|attention|ff|mlp|feed_forward)")
# Lists beside the chain: refiners prepare tokens before it, side networks make what is added to it.
_BESIDE = re.compile(r"refiner|vace|controlnet|perceiver|motion|face|adapter")


@dataclass(frozen=True)
class Stream:
    """One tensor that a block takes and hands on.

    Attributes:
        name: of the argument.
        place: of the argument among those of forward.
        index: of the output.
    """

    name: str
    place: int
    index: int


@dataclass(frozen=True)
class Port:
    """What a block, or a part of one, takes and returns.

    Attributes:
        name: of the module in the model.
        kind: "residual" where it takes exactly what the block before it handed on, "merge" where the model does
            something with that in between, "replace" for a stage of a U-Net, "branch" for a part of a block.
        streams: what goes through it, in the order of its outputs; empty for a stage of a U-Net.
        width: how many outputs it returns as a tuple; None for one tensor.
        parts: attention and MLP, in execution order, where they are all that the block adds; empty elsewhere.
    """

    name: str
    kind: str
    streams: tuple[Stream, ...]
    width: int | None
    parts: "tuple[Port, ...]" = ()


@dataclass(eq=False)
class _Called:
    """One call of a module: its arguments as they were before, what it returned, and the calls of its parts."""

    name: str
    module: nn.Module
    arguments: dict[str, Any]
    output: Any = None
    parts: "list[_Called]" = field(default_factory=list["_Called"])

    @property
    def outputs(self) -> tuple[Any, ...]:
        return self.output if isinstance(self.output, tuple) else (self.output,)


def observe(model: nn.Module, inputs: Sequence[Mapping[str, Any]]) -> tuple[Port, ...]:
    """The blocks of a model in execution order.

    Args:
        model: small, in evaluation mode.
        inputs: arguments of its forward, twice, with other samples.

    Raises:
        ValueError: there are no blocks, or they are no chain; the message says what was seen.
    """
    first, second = (_record(model, each) for each in inputs)
    calls = [one for one, other in zip(first, second, strict=True) if not _same(one.arguments, other.arguments)]
    names = [call.name for call in calls]
    if not calls:
        raise ValueError("no block in a list of the model sees the sample")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{twice}` is called more than once in one evaluation")
    if is_staged(model):
        return tuple(Port(name, "replace", (), None) for name in names)
    usual = _usual(calls)
    ports: list[Port] = []
    for index, call in enumerate(calls):
        port = _port(call, usual[type(call.module)])
        if not port.streams:
            title = type(call.module).__name__
            raise ValueError(f"`{call.name}` ({title}) hands on nothing in the shape of what it takes")
        chained = index == 0 or _follows(calls[index - 1], ports[index - 1], call, port)
        ports.append(replace(port, kind="residual" if chained else "merge", parts=_parts(call, port)))
    return tuple(ports)


def is_staged(model: nn.Module) -> bool:
    """Whether a model is a U-Net whose stages are modules, and hand on tensors of shapes of their own."""
    stages = [getattr(model, name, None) for name in ("down_blocks", "up_blocks")]
    return all(isinstance(each, nn.ModuleList) and not isinstance(each[0], nn.ModuleList) for each in stages)


def stages_of(model: nn.Module) -> dict[str, nn.Module]:
    """The stages of a U-Net by their names, in execution order."""
    found: dict[str, nn.Module] = {}
    for name in STAGES:
        stage = getattr(model, name, None)
        if isinstance(stage, nn.ModuleList):
            found |= {f"{name}.{index}": each for index, each in enumerate(stage)}
        elif stage is not None:
            found[name] = stage
    return found


def _listed(parent: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What may be blocks: they stand in lists of modules, and in lists of such lists."""
    for name, child in parent.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict) and not _BESIDE.search(name):
            yield from _listed(child, f"{path}{name}.")
        elif path and _BLOCK.search(type(child).__name__):
            yield f"{path}{name}", child


# ---- watching --------------------------------------------------------------------------------------------------------


def _record(model: nn.Module, arguments: Mapping[str, Any]) -> list[_Called]:
    """The calls of what may be blocks in one forward, with those of their own parts."""
    calls: list[_Called] = []
    handles: list[Any] = []
    for name, module in (stages_of(model) if is_staged(model) else dict(_listed(model))).items():
        handles += _watch(name, module, lambda: calls)
        for part_name, part in module.named_children():
            if _PART.search(part_name):
                handles += _watch(f"{name}.{part_name}", part, lambda: calls[-1].parts)
    try:
        with torch.inference_mode():
            model(**arguments)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _watch(name: str, module: nn.Module, calls: Callable[[], list[_Called]]) -> list[Any]:
    """Put the calls of a module into a list; what it returns is known once it is back."""
    names, begun = tuple(inspect.signature(module.forward).parameters), list[_Called]()

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        begun.append(_Called(name, module, {key: _copied(value) for key, value in given.items()}))
        calls().append(begun[-1])

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        begun.pop().output = _copied(output)

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]


def _copied(value: Any) -> Any:
    """Tensors of their own; what a block writes over is seen as it was before."""
    if isinstance(value, Tensor):
        return value.clone()
    return tuple(map(_copied, value)) if isinstance(value, list | tuple) else value


def _same(one: Any, other: Any) -> bool:
    """Whether all tensors in two values are equal."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return all(_same(value, other.get(key)) for key, value in one.items())
    return not isinstance(one, tuple) or all(map(_same, one, other))


# ---- what was seen ---------------------------------------------------------------------------------------------------


def _usual(calls: Sequence[_Called]) -> dict[type[nn.Module], dict[int, str]]:
    """The arguments that go on in the outputs of each class of blocks, by the outputs' places: what most blocks of the
    class show, where what was handed on to a block by the one before it says the most."""
    found: dict[type[nn.Module], Counter[tuple[tuple[int, str], ...]]] = {}
    for before, call in zip([None, *calls], calls, strict=False):
        port = _port(call, _handed_on(before, call))
        names = tuple((stream.index, stream.name) for stream in port.streams)
        found.setdefault(type(call.module), Counter())[names] += 1
    return {kind: dict(counted.most_common(1)[0][0]) for kind, counted in found.items()}


def _handed_on(before: _Called | None, call: _Called) -> dict[int, str]:
    """The arguments of a call that are outputs of the block before it, by their places there."""
    outputs: tuple[Any, ...] = () if before is None or type(before.module) is not type(call.module) else before.outputs
    tensors = {name: value for name, value in call.arguments.items() if isinstance(value, Tensor)}
    return {
        index: name
        for index, output in enumerate(outputs)
        for name, value in tensors.items()
        if isinstance(output, Tensor) and _same(output, value)
    }


def _port(call: _Called, usual: Mapping[int, str]) -> Port:
    """What one call took and handed on in the same shape.

    Args:
        usual: the arguments that go on in its outputs where several have the shape.
    """
    places = list(inspect.signature(call.module.forward).parameters)
    free = {name: value for name, value in call.arguments.items() if isinstance(value, Tensor) and value.ndim > 1}
    streams: list[Stream] = []
    for index, output in enumerate(call.outputs):
        name = _source(call, index, output, free, usual)
        if name is not None:
            del free[name]
            streams.append(Stream(name, places.index(name), index))
    return Port(call.name, "branch", tuple(streams), len(call.outputs) if isinstance(call.output, tuple) else None)


def _source(call: _Called, index: int, output: Any, free: Mapping[str, Tensor], usual: Mapping[int, str]) -> str | None:
    """The argument that goes on in an output."""
    stated = _stated(type(call.module)).get(index, usual.get(index))
    if not isinstance(output, Tensor):
        return stated if output is None and stated in free else None
    alike = [name for name, value in free.items() if value.shape == output.shape and value.dtype == output.dtype]
    if len(alike) < 2 or stated in alike:
        return stated if stated in alike else next(iter(alike), None)
    return max(alike, key=lambda name: float(torch.cosine_similarity(free[name].flatten(), output.flatten(), dim=0)))


def _stated(kind: type[nn.Module]) -> dict[int | None, str]:
    """The arguments that go on in a block's outputs, by the outputs' places, as diffusers' registry states them."""
    try:
        found: Any = TransformerBlockRegistry.get(kind)
    except ValueError:
        return {}
    return {
        found.return_hidden_states_index: found.hidden_states_argument_name,
        found.return_encoder_hidden_states_index: found.encoder_hidden_states_argument_name,
    }


def _follows(before: _Called, sent: Port, after: _Called, taken: Port) -> bool:
    """Whether a block takes exactly what the one before it handed on."""
    given = [_handed(before, stream) for stream in sent.streams]
    received = [after.arguments[stream.name] for stream in taken.streams]
    return len(given) == len(received) and all(map(_same, given, received))


def _handed(call: _Called, stream: Stream) -> Any:
    """What a stream is after a block; one that it returns nothing for is as it was."""
    output = call.outputs[stream.index]
    return call.arguments[stream.name] if output is None else output


def _parts(call: _Called, port: Port) -> tuple[Port, ...]:
    """The parts of a block with one stream, if it is its own input where they all make zeros."""
    parts = [_port(part, {}) for part in call.parts]
    shaped = all(len(part.streams) == 1 and part.width is None for part in parts)
    if len(port.streams) != 1 or port.width is not None or not shaped or len({part.name for part in parts}) < 2:
        return ()
    (stream,) = port.streams
    handles = [part.module.register_forward_hook(lambda *given: torch.zeros_like(given[2])) for part in call.parts]
    try:
        with torch.inference_mode():
            left = call.module(**call.arguments)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(parts) if torch.equal(left, call.arguments[stream.name]) else ()
