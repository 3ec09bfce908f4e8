"""Reading what `torch.save` wrote without running code.

Of classes in a pickle only `argparse.Namespace` is let in, as data without behaviour, because public training code
stores its arguments so; any other is refused by name.
"""

import mmap
import pickle
import re
import warnings
import zipfile
from pathlib import Path, PurePath
from typing import Any

import torch

from ..errors import InputError, first_line

GIVE_WEIGHTS = "Give a .safetensors or .pt file of a diffusion network's weights."


class InertNamespace:
    """Stands for `argparse.Namespace` in a pickle: attributes, and nothing that can be called."""


def read_zip(path: Path, shapes_only: bool) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"checkpoint: `{path}` is cut off or damaged: its {path.stat().st_size:,} bytes end without the list of "
            "what is inside. Download it again."
        ) from error
    names = [PurePath(member.filename).name for member in members]
    if "constants.pkl" in names:
        raise InputError(
            f"checkpoint: `{path}` is a TorchScript program, which could run code, and is not loaded. If you trust "
            f"it, save only its weights: `torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pt')`."
        )
    if "data.pkl" not in names:
        what = "an .npz of NumPy arrays" if any(name.endswith(".npy") for name in names) else "a zip archive"
        raise InputError(f"checkpoint: `{path}` is {what}, and torch.save did not write it. {GIVE_WEIGHTS}")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise InputError(
            f"checkpoint: `{path}` unpacks to more than it holds, which torch.save's files don't, since they are not "
            "compressed. Load it where you trust it, and save it again with `torch.save`."
        )
    return read_torch(path, shapes_only, mapped=True)


def read_torch(path: Path, shapes_only: bool, mapped: bool) -> Any:
    """What `torch.save` wrote, with the tensors of a zip mapped, so that what is not chosen costs no memory."""
    where = "meta" if shapes_only else "cpu"
    _refuse_bytearrays(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(InertNamespace, "argparse.Namespace")]):
            # torch warns of pickle protocols other than its own; they load or fail below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location=where, weights_only=True, mmap=mapped and not shapes_only)
    except pickle.UnpicklingError as error:
        raise InputError(_refused(path, str(error))) from error
    except Exception as error:  # a stream of bytes that no program wrote makes torch's reader raise anything
        raise InputError(
            f"checkpoint: `{path}` is cut off or is not a file that torch.save wrote ({first_line(error)}). "
            "Download it again."
        ) from error


def _refuse_bytearrays(path: Path) -> None:
    """Of what torch lets in, this alone takes as much memory as a number in the file says."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(name) >= 0 for name in (b"builtins\nbytearray\n", b"__builtin__\nbytearray\n")):
            raise InputError(_refused(path, "GLOBAL builtins.bytearray"))


def _refused(path: Path, message: str) -> str:
    """The message for a pickle that torch does not open, with the name that it stopped at and the way to convert."""
    found = re.search(r"GLOBAL ([\w.]+)", message)
    if found is None:
        reason = message.splitlines()[0]
        return f"checkpoint: `{path}` holds more than tensors and is not loaded ({reason}). Save its state dict alone."
    return (
        f"checkpoint: `{path}` holds more than tensors: `{found.group(1)}`, which could run code, so it is not loaded. "
        f"If you trust it, save only its weights, in the environment that wrote it: "
        f"`content = torch.load('{path.name}', weights_only=False)`, then `torch.save(content['ema'], 'weights.pt')`, "
        "or `content.state_dict()` where the content is a whole module."
    )
