"""Reading weights without running code, fitting them into a module, and their digest.

Weights come from .safetensors, whole or in shards, or from .pt with `weights_only=True`; nothing is ever unpickled into
code. Of several sets in a file one is chosen, and the prefixes of wrappers are removed; notes say so.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .containers import SAFETENSORS_DTYPES, open_container
from .entries import arguments, choose_weights
from .recognition import recognise

MOST_NAMED = 3  # tensors named in a message


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights from a file.

    Attributes:
        path: the file.
        tensors: by name, prefixes removed.
        metadata: the `exeunt` metadata; empty where a file has none.
        arguments: the training program's, from an `argparse.Namespace` in a .pt; empty where there is none.
        notes: which set was taken and what was removed, for people to read; empty where nothing was.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    arguments: dict[str, Any]
    notes: tuple[str, ...]


def read_checkpoint(path: Path, weights_key: str | None = None) -> Checkpoint:
    """One set of weights of a file, with what else the file says.

    Args:
        path: a .safetensors file, an index of such files, a .pt that `torch.save` wrote, or a folder with one of these.
        weights_key: the entry that holds the weights, or the prefix before their names; by default the one EMA entry,
            else the only one.

    Raises:
        InputError: the file can't be read, holds code, or has no weights or several under the key.
    """
    container = open_container(path)
    choice = choose_weights(container.content, weights_key, container.path)
    tensors = choice.tensors
    if container.mapped:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    return Checkpoint(container.path, tensors, container.metadata, arguments(container.content), choice.notes)


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 over names, types, shapes and values, as the schedule format defines it.

    Raises:
        InputError: a tensor has a type that safetensors doesn't know.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors, key=lambda text: text.encode()):
        tensor = tensors[name].detach().cpu().contiguous()
        shape = ",".join(str(size) for size in tensor.shape)
        digest.update(f"{name}\0{_dtype_name(name, tensor)}\0{shape}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _dtype_name(name: str, tensor: Tensor) -> str:
    if tensor.dtype not in SAFETENSORS_DTYPES:
        raise InputError(
            f"checkpoint: tensors must have a type that safetensors knows, but `{name}` is {tensor.dtype}. "
            "Save the weights in float32, float16 or bfloat16."
        )
    return SAFETENSORS_DTYPES[tensor.dtype]


def checked_shape(tensors: Mapping[str, Tensor], name: str, ndim: int, kind: str) -> torch.Size:
    """The shape of a tensor that every network of a kind has, with `ndim` dimensions.

    Raises:
        InputError: it is missing, is empty or has other dimensions.
    """
    if name not in tensors:
        raise InputError(
            f"checkpoint: a {kind} has `{name}`, but this file does not. "
            f"Its first tensors: {', '.join(list(tensors)[:4])}. Choose another entry with `--weights-key`."
        )
    shape = tensors[name].shape
    if len(shape) != ndim or 0 in shape:
        raise InputError(
            f"checkpoint: a {kind}'s `{name}` has {ndim} dimensions, but this file's has shape {tuple(shape)}. "
            "Choose another entry with `--weights-key`."
        )
    return shape


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into a module in place of its own, which may be on the meta device; floats become float32.

    Raises:
        InputError: names are missing or too many, or a shape differs.
    """
    expected = module.state_dict()
    missing, extra = [n for n in expected if n not in tensors], [n for n in tensors if n not in expected]
    kind = type(module).__name__
    if missing or extra:
        taken = recognise(tensors)
        raise InputError(
            f"checkpoint: `{path}` does not fit {kind}: missing {_some(missing)}; unexpected {_some(extra)}. "
            f"It looks like {taken.what}. Choose the right entry with `--weights-key`, or another `--network`."
        )
    wrong = [name for name, value in expected.items() if tensors[name].shape != value.shape]
    if wrong:
        name = wrong[0]
        raise InputError(
            f"checkpoint: `{name}` must have shape {tuple(expected[name].shape)} in this {kind}, but `{path}` has "
            f"{tuple(tensors[name].shape)}{f', and {len(wrong) - 1} others differ too' if wrong[1:] else ''}. "
            "Give the sizes with `--network-arg KEY=VALUE`, or the checkpoint that belongs to this network."
        )
    values = {name: tensors[name] for name in expected}
    fitting = {name: value.float() if value.is_floating_point() else value for name, value in values.items()}
    module.load_state_dict(fitting, assign=True)


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:MOST_NAMED]) + more
