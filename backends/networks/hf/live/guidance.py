"""Classifier-free guidance in a diffusers pipeline, where both branches come in one batch or in two calls.

A pipeline guides every step alike: it works out u + G · (c − u) from what its model returns. A schedule may leave the
unconditional pass out at some steps, use its last output again, or guide less there. So where the pipeline expects u,
it is given u′ = c + (1 − g)/(1 − G) · (u − c), for which its own formula comes to u + g · (c − u); where nothing is
guided u′ = c, and the unconditional pass is not run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ....errors import InputError
from ....plan import Add, Call, Op, Rows
from ....schedule import Embedded, Guidance, Schedule, guidance_at
from ..models.base import Architecture


@dataclass(frozen=True)
class Correction:
    """What the pipeline is given for u at one step.

    Attributes:
        factor: (1 − g)/(1 − G); 0 where u′ is c.
        channels: how many leading channels are guided; None for all.
    """

    factor: float
    channels: int | None

    def apply(self, conditional: Tensor, unconditional: Tensor | None) -> Tensor:
        """u′, of the shape of u."""
        if self.factor == 0 or unconditional is None:
            return conditional
        changed = unconditional
        if self.factor != 1:
            changed = torch.lerp(conditional, unconditional, self.factor)
        if self.channels is None:
            return changed
        return torch.cat([changed[:, : self.channels], conditional[:, self.channels :]], dim=1)


def corrections(schedule: Schedule, num_channels: int) -> list[Correction]:
    """One for each step of a guided schedule, on outputs whose `num_channels` leading channels can be guided."""
    assert isinstance(schedule.guidance, Guidance)
    scale, channels = schedule.guidance.scale, schedule.guidance.channels
    limit = None if channels == "all" or channels >= num_channels else channels
    found: list[Correction] = []
    for s, step in enumerate(schedule.steps):
        own = None if step.unconditional == "skip" else guidance_at(schedule, s)
        found.append(Correction(0.0 if own is None else (1 - own) / (1 - scale), limit))
    return found


def is_uniform(schedule: Schedule, num_channels: int) -> bool:
    """Whether every step is guided alike, so that calls of the model need not be told apart by their branch."""
    if not isinstance(schedule.guidance, Guidance):
        return True
    plain = Correction(1.0, None)
    same = all(correction == plain for correction in corrections(schedule, num_channels))
    return same and all(step.unconditional == "run" for step in schedule.steps)


def call_guidance(architecture: Architecture, schedule: Schedule) -> dict[str, Any]:
    """The arguments of a pipeline's call that set its guidance.

    Raises:
        InputError: the pipeline can't guide so.
    """
    guidance, title = schedule.guidance, type(architecture.model).__name__
    if isinstance(guidance, Embedded) != architecture.takes_guidance:
        wanted = '{"embedded": 3.5}' if architecture.takes_guidance else '{"scale": 1.5}, or none'
        raise InputError(f"guidance: this {title} needs a schedule whose guidance is {wanted}. Use one made for it.")
    if isinstance(guidance, Embedded):
        return {"guidance_scale": guidance.scale}
    by_calls = architecture.embeds_scale
    if guidance is None:
        return {} if by_calls else {"guidance_scale": 1.0 - architecture.scale_offset}
    if guidance.scale <= 1:
        raise InputError(
            f"guidance: diffusers' pipelines guide only with scales above 1, but the schedule's is {guidance.scale}. "
            "Use a schedule without guidance, or with a higher scale."
        )
    if guidance.channels != "all" and by_calls:
        raise InputError(f"guidance: {title} has its channels in tokens, so all are guided. Use channels `all`.")
    scale = guidance.scale - architecture.scale_offset
    return {"true_cfg_scale": guidance.scale, "negative_prompt": ""} if by_calls else {"guidance_scale": scale}


def check_called(wanted: Mapping[str, Any], called: Mapping[str, Any], pipeline: Any) -> None:
    """Raise InputError unless a pipeline was called with the guidance that the schedule is for."""
    for name, value in wanted.items():
        given = called.get(name)
        if not isinstance(value, float | int) or not isinstance(given, float | int):
            continue
        if abs(given - value) > 1e-6 and not (value == 1 and given <= 1):
            raise InputError(
                f"guidance: the schedule is for {name}={value:g}, but {type(pipeline).__name__} was called with "
                f"{given:g}. Call it with `**exeunt.call_arguments(schedule)`."
            )
    if "true_cfg_scale" in wanted and not called.get("do_true_cfg", True):
        raise InputError(
            f"guidance: the schedule is guided, but {type(pipeline).__name__} was called without a negative prompt. "
            "Call it with `**exeunt.call_arguments(schedule)`."
        )
    if "true_cfg_scale" not in wanted and called.get("do_true_cfg", False):
        raise InputError(
            f"guidance: the schedule is not guided by a second pass, but {type(pipeline).__name__} was called with "
            "true_cfg_scale and a negative prompt. Omit them."
        )


def part_of(arguments: Mapping[str, Any], rows: int, half: slice, unbatched: frozenset[str]) -> dict[str, Any]:
    """The arguments for some of a batch's rows."""

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[half] if value.ndim and value.shape[0] == rows else value
        if isinstance(value, list) and len(value) == rows:
            return value[half]
        return {key: cut(each) for key, each in value.items()} if isinstance(value, dict) else value

    return {name: value if name in unbatched else cut(value) for name, value in arguments.items()}


@lru_cache(maxsize=1024)
def flipped(call: Call) -> Call:
    """The same call for a batch that has the unconditional rows first: reads of one branch take the other half."""
    rows: dict[Rows, Rows] = {"conditional": "unconditional", "unconditional": "conditional", "all": "all"}

    def other(op: Op) -> Op:
        reads = tuple(replace(read, rows=rows[read.rows]) for read in op.reads) if isinstance(op, Add) else ()
        return replace(op, reads=reads) if isinstance(op, Add) else op

    return replace(call, ops=tuple(map(other, call.ops)))


def sample_of(output: Any) -> Tensor:
    """The prediction in what a model returned."""
    return output[0] if isinstance(output, tuple) else output.sample


def with_sample(output: Any, sample: Tensor) -> Any:
    """What a model returned, with another prediction."""
    return (sample, *output[1:]) if isinstance(output, tuple) else type(output)(sample=sample)
