"""Files of a training, written whole or not at all: its state, and the weights that it has made so far."""

import os
import secrets
from collections.abc import Callable, Mapping
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import save
from torch import Tensor

from ...errors import InputError, first_line
from ...schedule import ExeuntError


class TrainingError(ExeuntError):
    """A training that can't go on; what was saved last is intact."""

    identifier = "training"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside the old one, then put it in its place; the old one is intact until then.

    Raises:
        TrainingError: the folder or the disk takes no more.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError where the disk is full
        full = getattr(error, "errno", None) in (ENOSPC, EDQUOT) or not isinstance(error, OSError)
        fix = "Make room on the disk" if full else "Check the folder"
        raise TrainingError(
            f"output: `{path}` can't be written ({getattr(error, 'strerror', None) or first_line(error)}), and what "
            f"was saved before is intact. {fix}, and run the command again: it goes on from there."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what a training goes on from. Raises TrainingError."""
    write_whole(path, lambda file: torch.save(dict(state), file))


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """What `save_state` wrote. Raises InputError where the file is damaged."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damaged files make torch's reader raise anything
        raise InputError(
            f"output: the state of the training, `{path}`, can't be read ({first_line(error)}). Remove it to begin "
            "again, or give another output."
        ) from error


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file. Raises TrainingError."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_whole(path, lambda file: file.write(save(plain, dict(metadata) if metadata else None)))
