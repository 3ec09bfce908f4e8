"""What the tensors of a DiT's checkpoint show: its sizes, its style, its labels, and what of them sampling needs."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...checkpoints.weights import Checkpoint, checked_shape
from ...errors import InputError
from .reading import Seen

PROJECTORS = "projectors."  # what REPA aligns hidden states by in training
# Tensors that tell a DiT's sizes, with their dimensions.
_TELLING = {
    "x_embedder.proj.weight": 4,
    "pos_embed": 3,
    "y_embedder.embedding_table.weight": 2,
    "final_layer.linear.weight": 2,
}
_LATER = r"^decoder_blocks\.(\d+)\."
_ROTARY = "feat_rope.freqs_cos"


def dit_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """DiT's arguments as far as the shapes of a state dict tell them.

    Raises:
        InputError: a tensor that every DiT has is missing, or has a shape that no DiT gives it.
    """
    _, _, rows, out = (checked_shape(tensors, name, ndim, "DiT") for name, ndim in _TELLING.items())
    width, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
    side = math.isqrt(tensors["pos_embed"].shape[1])
    out_channels = out[0] // (patch * patch)
    if side**2 != tensors["pos_embed"].shape[1] or out_channels not in (channels, 2 * channels):
        raise InputError(
            f"checkpoint: a DiT has a square of tokens and gives back its {channels} channels once or twice, but this "
            f"one has {tensors['pos_embed'].shape[1]} tokens and {out_channels} channels. "
            "Describe it in a file of your own and give `--network FILE.py:Class`."
        )
    return {
        "input_size": side * patch,
        "patch_size": patch,
        "channels": channels,
        "width": width,
        "depth": num_blocks(tensors),
        **_style(tensors, width),
        "learned_range": out_channels == 2 * channels,
        "num_rows": rows[0],
    }


def num_blocks(tensors: Mapping[str, Tensor]) -> int:
    """How many different blocks the names speak of."""
    return len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})


def _style(tensors: Mapping[str, Tensor], width: int) -> dict[str, Any]:
    """How the blocks are made, from the first one's tensors; as in the paper where there are none."""
    first = "blocks.0."
    modulation, w3 = tensors.get(f"{first}adaLN_modulation.1.weight"), tensors.get(f"{first}mlp.w3.weight")
    hidden = tensors.get(f"{first}mlp.fc1.weight") if w3 is None else w3.T
    qk_norm = "none"
    if f"{first}attn.q_norm.weight" in tensors:
        qk_norm = "layer" if f"{first}attn.q_norm.bias" in tensors else "rms"
    return {
        "mlp_ratio": 4 if hidden is None else hidden.shape[0] / width,
        "swiglu": w3 is not None,
        "rms_norm": f"{first}norm1.weight" in tensors,
        "rotary": _ROTARY in tensors,
        "qk_norm": qk_norm,
        "shifts": modulation is None or modulation.shape[0] != 4 * width,
    }


def seen(tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> Seen:
    """What tensors show of how they must be read; those with one value a channel of a head tell the heads."""
    width = arguments["width"]
    telling = [tensors[name].shape[-1] for name in (_ROTARY, "blocks.0.attn.q_norm.weight") if name in tensors]
    own = arguments["swiglu"] or arguments["rms_norm"] or arguments["rotary"] or not arguments["shifts"]
    return Seen(
        width,
        arguments["depth"],
        arguments["channels"],
        arguments["learned_range"],
        num_heads=width // telling[0] if telling and telling[0] and width % telling[0] == 0 else None,
        is_lightning=own,
        is_repa=any(name.startswith(PROJECTORS) for name in tensors),
    )


def for_sampling(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors that sampling needs, under DiT's names, with notes on what REPA's files have beside or instead."""
    needed = {name: value for name, value in tensors.items() if not name.startswith(PROJECTORS)}
    count = len(tensors) - len(needed)
    notes = [f"weights: {count} tensors of `{PROJECTORS}` left out, which only REPA's training uses"] if count else []
    first = num_blocks(needed)
    named = {re.sub(_LATER, lambda found: f"blocks.{first + int(found[1])}.", name): needed[name] for name in needed}
    if named.keys() != needed.keys():
        notes.append(f"weights: the blocks of `decoder_blocks.` counted from {first} on, as REPA's older code had them")
    return named, tuple(notes)


def label_count(found: Checkpoint, rows: int, given: int | None) -> tuple[int, bool]:
    """The number of labels, and whether the table of `rows` embeddings has a null label after them."""
    known = (given, found.metadata.get("num_classes"), found.arguments.get("num_classes"))
    classes = next((each for each in known if type(each) is int), rows - 1)
    if classes not in (rows - 1, rows) or classes < 1:
        raise InputError(
            f"num_classes: the checkpoint has {rows} label embeddings, so it must be {rows - 1} with a null label or "
            f"{rows} without, but got {classes}. Give `--network-arg num_classes={rows - 1}`."
        )
    return classes, classes < rows
