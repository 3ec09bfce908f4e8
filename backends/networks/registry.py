"""Networks by name and by checkpoint: finds the class that a file or folder belongs to, and makes it."""

import importlib
import re
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.files import ASSETS, path_exists
from ..checkpoints.inspect import identify
from ..checkpoints.recognition import NETWORKS
from ..errors import InputError, first_line, nearest
from ..network import Network
from ..schedule import ExeuntError
from ..timing.device import check_device, is_broken_device, is_out_of_memory
from ..user_code import code_sha256, own_class

# What taking a value for something else raises.
_STRANGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError, OSError)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
MADE = ("closed-form",)  # those that make their own weights
BUNDLED = {
    "fashion-dit": ("DiT", ASSETS / "fashion-dit" / "normal.safetensors"),
    "fashion-dit-exits": ("DiT", ASSETS / "fashion-dit" / "exits.safetensors"),
}


def load_network(
    checkpoint: str | Path | None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    network: str | None = None,
    **options: Any,
) -> Network:
    """Load a network from a checkpoint.

    Args:
        checkpoint: a bundled name (`fashion-dit`, `fashion-dit-exits`), "closed-form", a .safetensors or .pt file, or a
            folder of diffusers or of shards. None for a network that makes its own weights.
        device: where to put the weights, such as "cpu" or "cuda:0".
        dtype: the type of the weights while they run.
        network: a name in `NETWORKS`, or "FILE.py:Class" or "module:Class" of a `Network`; worked out from the
            checkpoint's names and shapes if not given.
        options: what the network's `from_checkpoint` takes, such as `num_heads`.

    Raises:
        InputError: an unknown name, a missing or unreadable file, or weights that do not fit.
        DeviceError: the device is not there.
    """
    target = check_device(device)
    name = str(checkpoint)
    if checkpoint is None or (name in NETWORKS and not path_exists(Path(name))):
        kind = network or name
        if kind in NETWORKS and kind not in MADE:
            raise InputError(f"checkpoint: `{kind}` needs weights. Give them with `--checkpoint FILE`.")
        return _make(network_class(kind), None, options, device=target, dtype=dtype, name=kind)
    if name in BUNDLED:
        return _make(_for_bundled(name, network), BUNDLED[name][1], options, device=target, dtype=dtype, name=name)
    path = Path(name)
    if not path_exists(path):
        names = [*BUNDLED, *MADE]
        hint = _from_hub(name) or nearest(name, names, f"Give a file, or one of: {', '.join(names)}.")
        raise InputError(f"checkpoint: must be a file, a folder or a bundled name, but `{name}` is not one. {hint}")
    kind = network or identify(path, options.get("weights_key")).network
    assert kind is not None, "what is none of them was refused"
    return _make(network_class(kind), path, options, device=target, dtype=dtype, name=path.resolve().name)


def _from_hub(name: str) -> str | None:
    """The way to what looks like a repository's name on the Hugging Face Hub, such as google/ddpm-cifar10-32."""
    found = re.fullmatch(r"([\w-][\w.-]*)/([\w-][\w.-]*)", name)
    if found is None or Path(name).suffix in _SUFFIXES or path_exists(Path(found[1])):
        return None
    return f"Give a path. To download it from the Hugging Face Hub, run `hf download {name} --local-dir {found[2]}`."


def _for_bundled(name: str, network: str | None) -> Any:
    """The class for a bundled checkpoint, which a network of another kind can't hold."""
    kind = BUNDLED[name][0]
    found = network_class(network or kind)
    if not issubclass(found, network_class(kind)):
        raise InputError(
            f"network: the checkpoint `{name}` is a {kind}, but --network is `{network}`. Give that network's weights "
            "with `--checkpoint FILE`."
        )
    return found


def _make(kind: Any, path: Path | None, options: Mapping[str, Any], **given: Any) -> Network:
    """The network of a class, unless it does not take an option, or needs one more."""
    title = kind.__name__
    if not callable(getattr(kind, "from_checkpoint", None)):
        raise InputError(f"network: `{title}` must have a class method `from_checkpoint`. See docs/own-network.md.")
    parameters = signature(kind.from_checkpoint).parameters
    known = _options(kind.from_checkpoint)
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
        known += _options(kind)
    known = [option for option in dict.fromkeys(known) if option not in given]
    for option in options:
        if option not in known:
            raise InputError(f"network: `{title}` takes no argument `{option}`. {nearest(option, known)}")
    missing = [name for name in known if name in parameters and parameters[name].default is Parameter.empty]
    if set(missing) - set(options):
        needed = next(name for name in missing if name not in options)
        raise InputError(f"network: `{title}` needs `{needed}`. Add `--network-arg {needed}=VALUE`.")
    own = code_sha256(kind)
    made = kind.from_checkpoint(path, **given, **options) if own else _from_file(kind, path, {**given, **options})
    made.code_sha256 = own
    return made


def _from_file(kind: Any, path: Path | None, options: Mapping[str, Any]) -> Network:
    """A network of ours: where making it fails, its files hold values that no program wrote. A user's own code raises
    what it raises."""
    try:
        return kind.from_checkpoint(path, **options)
    except ExeuntError:
        raise
    except _STRANGE as error:
        if is_out_of_memory(error) or is_broken_device(error):
            raise
        raise InputError(
            f"checkpoint: no {kind.__name__} can be made of `{path}` ({type(error).__name__}: {first_line(error)}). "
            "Download it again, or correct what is given with it."
        ) from error


def _options(function: Callable[..., Any]) -> list[str]:
    """The names that a function takes by keyword only."""
    return [name for name, each in signature(function).parameters.items() if each.kind is Parameter.KEYWORD_ONLY]


def network_class(name: str) -> Any:
    """The class behind a name in `NETWORKS`, behind "FILE.py:Class" or behind "module:Class".

    Raises:
        InputError: the name is unknown, or there is no such class or no whole one.
    """
    if name in NETWORKS:
        module, _, attribute = NETWORKS[name].home.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), attribute)
    if ":" in name:
        found = own_class(name, Network)
        if "time" in signature(found.evaluate).parameters:
            raise InputError(
                f"network: `{found.__name__}.evaluate` must take (self, inputs, call, slots), but takes "
                f"{signature(found.evaluate)}. Read x, time, conditions and guidance from `inputs`."
            )
        return found
    hint = nearest(name, NETWORKS, f"Known: {', '.join(NETWORKS)}; or give FILE.py:Class.")
    raise InputError(f"network: `{name}` is not known. {hint}")
