"""Reading weights without running code, and their digest.

Weights come from .safetensors, or from .pt with `weights_only=True`; nothing is ever unpickled into code.
"""

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import InputError

SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
METADATA_KEY = "exeunt"
EMA_KEYS = ("ema", "model_ema", "ema_model")


def read_weights(path: Path, weights_key: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint by name, and its `exeunt` metadata (empty where a file has none).

    Args:
        path: a .safetensors file, or a .pt file that `torch.save` wrote.
        weights_key: the entry of a .pt that holds the weights; by default the one EMA entry, else the file itself.

    Raises:
        InputError: the file can't be read, holds code, or has no tensors under the key.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _select(_read_pickle(path), weights_key, path), {}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 over names, types, shapes and values, as the schedule format defines it."""
    digest = hashlib.sha256()
    for name in sorted(tensors, key=lambda text: text.encode()):
        tensor = tensors[name].detach().cpu().contiguous()
        shape = ",".join(str(size) for size in tensor.shape)
        digest.update(f"{name}\0{SAFETENSORS_DTYPES[tensor.dtype]}\0{shape}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"checkpoint: `{path}` is not a readable safetensors file ({error}). Download it again."
        ) from error
    try:
        return tensors, json.loads(metadata.get(METADATA_KEY, "{}"))
    except json.JSONDecodeError as error:
        raise InputError(f"checkpoint: the `{METADATA_KEY}` metadata of `{path}` must be JSON ({error}).") from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # torch warns of pickle protocols other than its own; they load or fail below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"checkpoint: `{path}` holds more than tensors and is not loaded ({reason}). "
            "Save its state dict alone: `torch.save(model.state_dict(), 'weights.pt')`."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"checkpoint: `{path}` is not a file that torch.save wrote ({reason}). Download it again."
        ) from error


def _select(content: Any, key: str | None, path: Path) -> dict[str, Tensor]:
    """The state dict inside a loaded .pt file."""
    if not isinstance(content, dict):
        raise InputError(f"checkpoint: `{path}` must hold a state dict, but holds a {type(content).__name__}.")
    entries = cast(dict[str, Any], content)
    present = [name for name in EMA_KEYS if name in entries]
    chosen = key if key is not None else (present[0] if present else None)
    if chosen is not None:
        if chosen not in entries:
            raise InputError(f"checkpoint: `{path}` has no entry `{chosen}`. It has: {', '.join(list(entries)[:12])}.")
        entries = entries[chosen]
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(
            f"checkpoint: no tensors in `{path}`. It has: {', '.join(list(entries)[:12])}. "
            "Name one with `--weights-key`."
        )
    return tensors
