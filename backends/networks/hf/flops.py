"""Floating-point operations of a diffusers model and of each of its blocks, counted by torch on shapes alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...network import NetworkInput
from .models.base import Architecture


@dataclass(frozen=True)
class Flops:
    """Operations (2 per multiply-add) for one image.

    Attributes:
        blocks: of each block, in execution order.
        rest: of what always runs.
    """

    blocks: tuple[int, ...]
    rest: int

    def of(self, blocks: Sequence[int]) -> int:
        """Of an evaluation in which these blocks run."""
        return self.rest + sum(self.blocks[index] for index in blocks)


def count(
    architecture: Architecture,
    granularity: str,
    sample_shape: Sequence[int],
    rows: Mapping[str, tuple[int, ...]],
) -> Flops:
    """Count one evaluation of one image.

    Args:
        architecture: of the model.
        granularity: how its blocks are counted.
        sample_shape: of one sample.
        rows: the shapes of one row of each embedding; empty without prompts.
    """
    with torch.device("meta"):
        model = type(architecture.model).from_config(architecture.model.config).eval()
        given = {name: torch.empty(1, *shape) for name, shape in rows.items()}
        guidance = torch.empty(1) if architecture.takes_guidance else None
        inputs = NetworkInput(torch.empty(1, *sample_shape), torch.empty(1), guidance=guidance)
    if architecture.condition_kind == "labels":
        given = {"labels": torch.empty(1, dtype=torch.long, device="meta")}
    other = type(architecture)(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**other.arguments(inputs, given), return_dict=False)
    counts = counter.get_flop_counts()
    names = {module: name for name, module in model.named_modules()}
    title = type(model).__name__
    blocks = tuple(_total(counts, f"{title}.{names[socket.module]}") for socket in other.sockets(granularity))
    return Flops(blocks, _total(counts, "Global") - sum(blocks))


def _total(counts: Mapping[str, Mapping[Any, int]], name: str) -> int:
    return sum(counts.get(name, {}).values())
