"""Blocks of a model as sockets for hooks, from what its forward is seen to do."""

import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from torch import nn

from ....errors import InputError, first_line
from ....network import State
from ..hooks import Socket
from .inputs import example
from .observation import Port, Stream, is_staged, observe, stages_of
from .tiny import make_small

Taking: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]
OWN = "Describe it in a file of your own and give `--network FILE.py:Class` (docs/own-network.md)."


def sockets_of(model: Any, granularity: str) -> list[Socket]:
    """The blocks of one of diffusers' denoisers in execution order.

    Raises:
        InputError: nothing can be said of its blocks, or it has none of that granularity.
    """
    return sockets_at(model, ports_of(model), granularity)


def sockets_at(model: nn.Module, ports: Sequence[Port], granularity: str) -> list[Socket]:
    """The sockets of these blocks; of those that were taken out of the model, none. Raises InputError as above."""
    modules = dict(model.named_modules())
    ports = [port for port in ports if port.name in modules]
    if granularity == "block":
        return [_socket(port, modules[port.name], port.kind) for port in ports]
    if not all(port.parts for port in ports):
        raise InputError(f"granularity: {type(model).__name__} has only block, but got `{granularity}`. Use block.")
    if any(getattr(modules[port.name], "_chunk_size", None) is not None for port in ports):
        raise InputError(
            "granularity: branches of a network with feed-forward chunking can't be stored. "
            "Call `disable_forward_chunking()`, or use block."
        )
    return [_socket(part, modules[part.name], "branch") for port in ports for part in port.parts]


def ports_of(model: Any) -> tuple[Port, ...]:
    """What a model's blocks take and return, seen on a narrow copy of the same structure. Raises InputError."""
    if is_staged(model):
        return tuple(Port(name, "replace", (), None) for name in stages_of(model))
    taken = inspect.signature(type(model).__init__).parameters
    config = {name: value for name, value in model.config.items() if name in taken}
    return _seen(type(model), json.dumps(config, default=str))


@lru_cache(maxsize=64)
def _seen(kind: type[nn.Module], config: str) -> tuple[Port, ...]:
    try:
        with warnings.catch_warnings():  # what a class warns of was said when the model itself was made
            warnings.simplefilter("ignore")
            small = make_small(kind, json.loads(config))
            return observe(small, [example(small, seed=seed) for seed in range(2)])
    except Exception as error:  # whatever a class's own code raises on a copy that is none of its own sizes
        raise InputError(
            f"network: {kind.__name__} is none whose blocks are known: on a small copy, {first_line(error)}. {OWN}"
        ) from error


def _socket(port: Port, module: nn.Module, kind: str) -> Socket:
    if port.width is None:
        taking: Taking = _taking(port.streams[0]) if port.streams else _first
        return Socket(module, kind, taking, read=lambda output, h: output, give=lambda value: value)
    takes, places, width = (
        [_taking(stream) for stream in port.streams],
        [each.index for each in port.streams],
        port.width,
    )

    def take(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        return tuple(_present(each(args, kwargs)) for each in takes)

    def read(output: Any, h: State) -> State:
        # A last block may return None for a stream that nothing reads any more.
        return tuple(
            before if output[place] is None else output[place] for place, before in zip(places, h, strict=True)
        )

    def give(value: State) -> Any:
        found: list[Any] = [None] * width
        for place, each in zip(places, value, strict=True):
            found[place] = None if isinstance(each, tuple) else each
        return tuple(found)

    return Socket(module, kind, take, read, give)


def _taking(stream: Stream) -> Taking:
    name, place = stream.name, stream.place
    return lambda args, kwargs: args[place] if place < len(args) else kwargs.get(name)


def _present(value: Any) -> State:
    """A stream that a call goes without, such as a video's sound, is an empty state."""
    return () if value is None else value


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
    return args[0] if args else kwargs["hidden_states"]
