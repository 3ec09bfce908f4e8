"""The ONNX graphs of a plan's calls: which there are, and each traced from its network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ExeuntError, first_line
from ...network import Network, NetworkInput, Slots, State, scaled
from ...plan import Add, Call, Op, Run
from ...timing.pieces import StoredValues

EXAMPLE_ROWS = 5  # of the batch that a graph is traced with: a number that sizes of networks rarely are


class CannotExport(ExeuntError):
    """A network has operations that ONNX does not."""

    identifier = "onnx-cannot-export"


@dataclass(frozen=True)
class Graph:
    """What tells graphs apart: the network and its operations, whose slots are numbered within the graph.

    Attributes:
        network: its index in the schedule.
        ops: reads have the slots 0, 1, …, in order and with weight 1; stores have those that follow.
        num_reads: how many values it is given.
    """

    network: int
    ops: tuple[Op, ...]
    num_reads: int


def graph_of(network: int, call: Call) -> Graph:
    """The graph that makes a call: two calls that differ in slots, weights and branches alone have the same."""
    num_reads = sum(len(op.reads) for op in call.ops if isinstance(op, Add))
    reads, stores = iter(range(num_reads)), iter(range(num_reads, num_reads + len(call.ops)))
    ops: list[Op] = []
    for op in call.ops:
        if isinstance(op, Add):
            own = tuple(replace(read, slot=next(reads), weight=1.0, rows="all") for read in op.reads)
            ops.append(replace(op, reads=own))
        elif isinstance(op, Run) and op.store is not None:
            ops.append(replace(op, store=next(stores)))
        else:
            ops.append(op)
    return Graph(network, tuple(ops), num_reads)


# ---- tracing ---------------------------------------------------------------------------------------------------------


class _Traced(nn.Module):
    """Something of a network as a module, so that its weights become named initializers."""

    def __init__(self, network: Network, function: Callable[..., Any]) -> None:
        super().__init__()
        self.network = nn.ModuleDict({key: part for key, part in vars(network).items() if isinstance(part, nn.Module)})
        self._function = function

    def forward(self, *given: Tensor) -> Any:
        return self._function(*given)


def trace_call(network: Network, graph: Graph) -> Any:
    call = Call(("conditional",), graph.ops, ())
    example, stored = _example(network, call, graph)
    fixed = list(example.values())

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(example, given, strict=False))
        slots: Slots = [None] * (graph.num_reads + len(graph.ops))
        rest = iter(given[len(fixed) :])
        for k, value in enumerate(stored):
            slots[k] = scaled(_rebuilt(value, rest), named["weights"][k])
        out = network.evaluate(_input(named), call, slots)
        return (out, *(leaf for value in slots[graph.num_reads :] if value is not None for leaf in leaves(value)))

    names = [*example, *(name for k, value in enumerate(stored) for name in _names("read", k, value))]
    given = (*fixed, *(leaf for value in stored for leaf in leaves(value)))
    outputs = ["output", *_store_names(network, call, graph, example, stored)]
    return _trace(network, function, given, names, outputs)


def _example(network: Network, call: Call, graph: Graph) -> tuple[dict[str, Tensor], list[State]]:
    """The arguments by name, and the values that the call reads."""
    values = StoredValues(network, EXAMPLE_ROWS).slots(call, 1.0)[: graph.num_reads]
    stored = [value for value in values if value is not None]
    x = torch.zeros(EXAMPLE_ROWS, *network.sample_shape, dtype=network.dtype)
    example = {"x": x, "time": torch.ones(EXAMPLE_ROWS)}
    if network.num_conditions is not None:
        example["conditions"] = torch.zeros(EXAMPLE_ROWS, dtype=torch.int64)
    if network.takes_guidance:
        example["guidance"] = torch.ones(EXAMPLE_ROWS)
    if stored:
        example["weights"] = torch.ones(graph.num_reads, dtype=network.dtype)
    return example, stored


def _input(named: dict[str, Tensor]) -> NetworkInput:
    return NetworkInput(named["x"], named["time"], named.get("conditions"), named.get("guidance"))


def _store_names(
    network: Network, call: Call, graph: Graph, example: dict[str, Tensor], stored: Sequence[State]
) -> Iterator[str]:
    """The names of the outputs after the first, from running the call once."""
    slots: Slots = [*stored, *([None] * len(graph.ops))]
    with torch.inference_mode():
        network.evaluate(_input(example), call, slots)
    for k, value in enumerate(value for value in slots[graph.num_reads :] if value is not None):
        yield from _names("store", k, value)


def trace_decoder(network: Network) -> Any:
    x = torch.zeros(EXAMPLE_ROWS, *network.sample_shape, dtype=network.dtype)
    return _trace(network, network.decode, (x,), ["x"], ["images"])


def _trace(
    network: Network,
    function: Callable[..., Any],
    given: tuple[Tensor, ...],
    names: Sequence[str],
    outputs: Sequence[str],
) -> Any:
    """The `onnx_ir` model of a function of tensors whose first dimension is the batch, but for the `weights`."""
    rows = {0: torch.export.Dim.DYNAMIC}
    shapes = tuple(None if name == "weights" else rows for name in names)
    try:
        with torch.no_grad():
            traced = torch.export.export(
                _Traced(network, function).eval(), given, dynamic_shapes=(shapes,), strict=False
            )
            _drop_empty_squeezes(traced.graph_module.graph)
            program = torch.onnx.export(
                traced, dynamo=True, input_names=list(names), output_names=list(outputs), verbose=False
            )
    except Exception as error:  # what the two raise has no common base
        raise CannotExport(
            f"onnx: `{network.name}` can't be written as ONNX ({first_line(error)}). Use the format exeunt."
        ) from error
    assert program is not None
    return _without_notes(program.model)


def _drop_empty_squeezes(graph: torch.fx.Graph) -> None:
    """Take out what squeezes a dimension that isn't 1, which does nothing in torch and is an error in ONNX."""
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.squeeze.dim):
        given, dimension = node.args
        if given.meta["val"].shape[dimension] != 1:
            node.replace_all_uses_with(given)
            graph.erase_node(node)


def _without_notes(model: Any) -> Any:
    """The `onnx_ir` model without the tracer's notes on every node, which hold source paths and most of the bytes."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    return model


# ---- values of several parts -----------------------------------------------------------------------------------------


def leaves(value: State) -> Iterator[Tensor]:
    """The tensors of a stored value, in order."""
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value:
            yield from leaves(part)


def _rebuilt(form: State, parts: Iterator[Tensor]) -> State:
    """A value of a form from its tensors."""
    return next(parts) if isinstance(form, Tensor) else tuple(_rebuilt(part, parts) for part in form)


def _names(kind: str, index: int, value: State) -> list[str]:
    """`read_0`, or `read_0_0`, `read_0_1`, … for a value of several parts."""
    if isinstance(value, Tensor):
        return [f"{kind}_{index}"]
    return [f"{kind}_{index}_{part}" for part, _ in enumerate(leaves(value))]
