"""Arguments for the forward of a small denoiser, made by their names."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .arguments import INPUTS
from .example import PROMPT, SIDE, WIDTH, Example, Maker

_POOLED = ("pooled_projection_dim", "text_emb_dim", "in_text_dim2", "global_cond_dim")
# Arguments that are given wherever a forward has one of that name.
_ALWAYS: Mapping[str, Maker] = {
    **dict.fromkeys(("hidden_states", "sample", "x"), Example.sample),
    **dict.fromkeys(("timestep", "timesteps", "t"), lambda given: given.full(0.5)),
    **dict.fromkeys(
        ("pooled_projections", "pooled_embeds", "global_hidden_states"),
        lambda given: given.fixed(WIDTH) if given.get(*_POOLED) else None,
    ),
    "encoder_hidden_states": Example.prompt,
    "img_ids": Example.coordinates,
    "txt_ids": lambda given: torch.zeros(PROMPT, given.axes),
    "img_shapes": lambda given: [[(1, SIDE, SIDE)]] * given.rows,
    "class_labels": lambda given: torch.arange(given.rows),
    "added_cond_kwargs": lambda given: {"resolution": None, "aspect_ratio": None},
    "guidance": lambda given: given.full(3.0) if given.get("guidance_embeds") else None,
}
# Arguments that are given only where a forward has no default for them.
_WHERE_NEEDED: Mapping[str, Maker] = {
    **dict.fromkeys(
        ("encoder_attention_mask", "encoder_mask", "encoder_hidden_states_mask"), lambda given: given.ones(PROMPT)
    ),
    **dict.fromkeys(("original_size", "target_size"), lambda given: given.full(64.0, 2)),
    **dict.fromkeys(("timestep_r", "r_timestep"), lambda given: given.full(0.25)),
    "crop_coords": lambda given: given.full(0.0, 2),
}


def example(model: nn.Module, rows: int = 2, seed: int = 0) -> dict[str, Any]:
    """Arguments of a small model's forward, its sample after `seed`.

    Raises:
        ValueError: it needs an argument that nothing here can make.
    """
    given, particular = Example(model, rows, seed), INPUTS.get(type(model).__name__, {})
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(model).forward).parameters.items():
        needed = parameter.default is inspect.Parameter.empty and name != "self"
        make = particular.get(name) or _ALWAYS.get(name) or (_WHERE_NEEDED.get(name) if needed else None)
        if make is not None:
            found[name] = make(given)
        elif needed:
            raise ValueError(f"its forward takes `{name}`, which nothing here can make")
    return found
