"""Small copies of diffusers' denoisers: the widths of any configuration, shrunk by the names that they have there."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .configs import CONFIGS
from .example import GRID, HEAD, HEADS, WIDTH

_LAYERS = re.compile(r"(^|_)n?(layers|depth|blocks)$")
_STRUCTURE = re.compile(
    r"layers|blocks|patch|types$|_ids|task|has_|is_|channels$|_len$|vae|norm|fn$|bias$"
)  # kept as given
_AXES = re.compile(r"axes_dims?(_rope)?$|rope_axes_dim$|rope_dim(_list)?$")
# What becomes which number; the first that fits.
_SIZES = (
    (re.compile(r"kernel|patch|window|^(audio_|vace_)?(in|out|latent|io)_channels$"), None),
    (re.compile(r"heads$"), HEADS),
    (re.compile(r"(^|_)(head_dim|dim_head)$"), HEAD),
    (re.compile(r"^(sample_(size|height|width)|max_resolution|image_size)$"), GRID),
    (re.compile(r"^(pos_embed_max_size|rope_max_seq_len|axes_lens|max_size|max_position_embeddings)$"), 8 * GRID),
    (re.compile(r"vocab_size|codebook_size|^num_embed|num_class"), 64),
    (re.compile(r"^block_out_channels$"), 8),
    (re.compile(r"groups$"), 4),
    (re.compile(r"^layers_per_block$"), 2),
    (re.compile(r"dim(\d|_a|_t5)?$|size$|channels$|features$"), WIDTH),
)


def make_small(kind: type, config: Mapping[str, Any], *, layers: int | None = None) -> nn.Module:
    """A model of a class with random weights, in evaluation mode.

    Args:
        kind: the class.
        config: its configuration; what it omits has the class's default.
        layers: at most so many in each list; None for as many as the configuration has.

    Raises:
        Exception: whatever the class's own code raises, where the shrunk configuration is none for it.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = kind(**small_config(kind, config, layers=layers)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for each in model.parameters():
        if each.ndim > 1 or not each.any():  # biases and gates that begin as zero would hide what depends on them
            each.copy_(torch.randn(each.shape, generator=generator) * 0.1)
    return model


def small_config(kind: type, config: Mapping[str, Any], *, layers: int | None = None) -> dict[str, Any]:
    """A configuration of the same structure in which everything is narrow."""
    defaults = {
        name: each.default
        for name, each in inspect.signature(kind.__init__).parameters.items()
        if each.default is not inspect.Parameter.empty
    }
    particular = CONFIGS.get(kind.__name__, {})
    given = {name: value for name, value in config.items() if name in defaults}
    found = {name: _small(name, value, layers) for name, value in (defaults | given).items()}
    return found | {
        name: value for name, value in particular.items() if name not in given or not _STRUCTURE.search(name)
    }


def _small(name: str, value: Any, layers: int | None) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(
            axes(len(value), HEAD) if _AXES.search(name) else [_small(name, each, None) for each in value]
        )
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return value
    if _LAYERS.search(name):
        return value if layers is None else min(value, layers)
    number = next((number for pattern, number in _SIZES if pattern.search(name)), None)
    return value if number is None else number


def axes(count: int, total: int) -> list[int]:
    """Even numbers that sum up to `total`, the larger ones last, such as 4, 6, 6: a head's channels for each axis."""
    halves = total // 2
    return [2 * (halves * (i + 1) // count - halves * i // count) for i in range(count)]
