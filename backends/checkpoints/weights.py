"""Reading weights without running code, fitting them into a module, and their digest.

Weights come from .safetensors, whole or in shards, or from .pt with `weights_only=True`; nothing is ever unpickled into
code. Training code stores several sets side by side, such as `model`, `ema` and `opt`. Without a key the one set with
EMA in its name is taken, or the only one there is; where neither says which, the file is refused with the list. The
prefixes of wrappers are removed from names, and notes say so.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from .containers import SAFETENSORS_DTYPES, InertNamespace, open_container
from .recognition import known_prefixes, recognise

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


SHADOW = "shadow_params"
EMA = re.compile(rf"(?<![a-z])ema(?![a-z])|\.{SHADOW}$", re.IGNORECASE)
# Parts of a name that torch.compile, FSDP and activation checkpointing put anywhere; no network has them of its own.
WRAPPERS = re.compile(r"(?:(?<=^)|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
PARALLEL = "module."  # (Distributed)DataParallel, and AveragedModel: before every name
DEPTH, MOST_TABLES = 64, 100_000  # tables in tables
ARGUMENTS = ("args", "config", "hyper_parameters")  # under which programs keep their arguments as tables
MOST_DEEP = 4  # such tables in tables
COUNTERS = {"n_averaged"}  # what AveragedModel keeps beside the weights


@dataclass(frozen=True)
class ChosenWeights:
    """One set of weights.

    Attributes:
        key: the entry that it came from, as `--weights-key` names it; None for the file itself.
        tensors: by name, prefixes removed.
        notes: what was chosen and removed, for people to read.
    """

    key: str | None
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def choose_weights(content: Any, weights_key: str | None, path: Path) -> ChosenWeights:
    """The set of weights that a key names, or the one that needs no key.

    Args:
        content: what a container holds.
        weights_key: an entry, with dots for entries inside others, or a prefix of names; None to choose.
        path: the file, for messages.

    Raises:
        InputError: no weights, no such entry, or several entries and no key.
    """
    found = candidates(content)
    if not found:
        raise InputError(f"checkpoint: `{path}` holds no weights. It has: {_listed(_outline(content))}.")
    key = _key(found, weights_key, path)
    chosen = found[key]
    others = [name for name in found if name != key]
    notes = [f"weights: `{key}` chosen from {_listed(found)}"] if others else []
    if key and not others:
        notes = [f"weights: `{key}` chosen, the only set in the file"]
    return ChosenWeights(key or None, chosen.tensors, (*notes, *chosen.notes))


def candidates(content: Any) -> dict[str, ChosenWeights]:
    """Every set of weights in a file by its key; "" is the file itself."""
    found: dict[str, ChosenWeights] = {}
    _refuse_branching(content)
    sets = dict(_state_dicts("", content))
    shadows, left = _shadows(content, sets)
    for name, tensors in (sets | {name: named for name, (named, _) in shadows.items()}).items():
        bare, notes = _unwrap(tensors)
        notes = (*notes, shadows[name][1]) if name in shadows else (*notes, *left)
        prefixes = known_prefixes(bare)
        for prefix in prefixes if prefixes and "" not in prefixes else [""]:
            key = ".".join(part for part in (name, prefix.rstrip(".") if len(prefixes) > 1 else "") if part)
            found[key] = ChosenWeights(key, *_behind(prefix, bare, notes))
    return found


def _shadows(
    content: Any, sets: Mapping[str, dict[str, Tensor]]
) -> tuple[dict[str, tuple[dict[str, Tensor], str]], list[str]]:
    """The averages that diffusers' EMAModel and torch_ema keep as a list, in the order of the model's parameters: by
    name, each with a note; and a note for each list that is in the order of no set of weights."""
    taken: dict[str, tuple[dict[str, Tensor], str]] = {}
    left: list[str] = []
    tables = cast(Mapping[Any, Any], content).items() if isinstance(content, Mapping) else ()
    for name, table in tables:
        values: Any = cast(Mapping[Any, Any], table).get(SHADOW) if isinstance(table, Mapping) else None
        if not isinstance(name, str) or not isinstance(values, list) or not values:
            continue
        shapes = [getattr(each, "shape", None) for each in cast(list[Any], values)]
        key = f"{name}.{SHADOW}"
        fits = [each for each, tensors in sets.items() if [value.shape for value in tensors.values()] == shapes]
        if fits:
            note = f"weights: `{key}` has no names; its tensors are matched by order to the parameters of `{fits[0]}`"
            taken[key] = (dict(zip(sets[fits[0]], cast(list[Tensor], values), strict=True)), note)
        else:
            left.append(
                f"weights: `{key}`, an average of {len(shapes)} tensors without names, is ignored: no set of weights "
                "in the file has the same shapes in the same order"
            )
    return taken, left


def _refuse_branching(content: Any) -> None:
    """Refuses tables that stand in each other so often that no program could walk through them."""
    level, count = [content], 0
    for _ in range(DEPTH + 2):
        level = [each for table in level if isinstance(table, Mapping) for each in cast(Any, table).values()]
        level = [each for each in level if isinstance(each, Mapping)]
        count += len(level)
        if count > MOST_TABLES:
            raise InputError(f"checkpoint: a file may hold at most {MOST_TABLES:,} tables in tables. Save the weights.")


def _key(found: Mapping[str, ChosenWeights], wanted: str | None, path: Path) -> str:
    if wanted is not None:
        inside = [name for name in found if name == wanted or name.startswith(f"{wanted}.")]
        if len(inside) == 1 or wanted in found:
            return wanted if wanted in found else inside[0]
        near = get_close_matches(wanted, found, n=1)
        hint = f"Did you mean `{near[0]}`? " if near and near[0] else ""
        listed = _listed(inside or [name for name in found if name]) or "no entries, only the weights: omit it"
        raise InputError(f"weights_key: `{path}` has no set of weights `{wanted}`. {hint}It has: {listed}.")
    if len(found) == 1:
        return next(iter(found))
    averaged = [name for name in found if EMA.search(name)]
    if len(averaged) == 1:
        return averaged[0]
    raise InputError(
        f"weights_key: `{path}` holds several sets of weights, and no single one is an EMA: {_listed(found)}. "
        f"Choose with `--weights-key {(averaged or list(found))[0]}`."
    )


def _state_dicts(name: str, content: Any, inside: tuple[int, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The sets of weights inside, each with its dotted name. Optimizers keep tensors too, but name their groups.

    `inside` holds the tables around it, since a pickled table may stand in itself.
    """
    if not isinstance(content, Mapping) or "param_groups" in content or id(content) in inside or len(inside) > DEPTH:
        return
    entries = {key: value for key, value in cast(Mapping[Any, Any], content).items() if isinstance(key, str)}
    within = (*inside, id(content))
    deeper = [
        found
        for key, value in entries.items()
        for found in _state_dicts(f"{name}.{key}" if name else key, value, within)
    ]  # fmt: skip
    if deeper:
        yield from deeper
        return
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    if any(value.is_floating_point() and value.ndim >= 2 for value in tensors.values()):
        yield name, tensors


def _unwrap(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors without wrappers' parts in their names, and a note for each kind of part."""
    bare, removed = dict(tensors), dict[str, int]()
    while True:
        renamed = {name: WRAPPERS.sub("", name) for name in bare}
        for name in bare:
            for part in WRAPPERS.findall(name):
                removed[f"{part}."] = removed.get(f"{part}.", 0) + 1
        weights = [name for name in renamed.values() if name not in COUNTERS]
        if weights and all(name.startswith(PARALLEL) for name in weights):
            removed[PARALLEL] = removed.get(PARALLEL, 0) + len(weights)
            bare = {name: value for name, value in bare.items() if renamed[name] not in COUNTERS}
            renamed = {name: renamed[name].removeprefix(PARALLEL) for name in bare}
        if all(name == new for name, new in renamed.items()):
            return bare, tuple(f"weights: `{part}` removed from {n} names" for part, n in removed.items())
        _refuse_collisions(renamed)
        bare = {renamed[name]: value for name, value in bare.items()}


def _refuse_collisions(renamed: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, new in renamed.items():
        if new in seen:
            raise InputError(
                f"checkpoint: `{seen[new]}` and `{name}` are both `{new}` without their wrappers' prefixes. "
                "Save the state dict of the module inside the wrapper."
            )
        seen[new] = name


def _behind(
    prefix: str, tensors: dict[str, Tensor], notes: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors behind a prefix, and notes of what was removed and left out."""
    if not prefix:
        return tensors, notes
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    more = [f"weights: `{prefix}` removed from {len(inside)} names"]
    left = [name for name in tensors if not name.startswith(prefix)]
    if left:
        more.append(f"weights: {len(left)} tensors outside `{prefix}` ignored, such as `{left[0]}`")
    return inside, (*notes, *more)


def _outline(content: Any) -> list[str]:
    """Names of what is at the top of a file."""
    if isinstance(content, Mapping):
        return [str(key) for key in cast(Mapping[Any, Any], content)] or ["nothing"]
    return [f"a {type(content).__name__}"]


def _listed(names: Iterable[str]) -> str:
    every = [f"`{name}`" if name else "the file itself" for name in names]
    return ", ".join(every[:12]) + (f" and {len(every) - 12} more" if len(every) > 12 else "")


def arguments(content: Any) -> dict[str, Any]:
    """The training program's arguments, in one table: those of every `argparse.Namespace` at the top of a file, and of
    tables that are named as arguments are, with the tables in them."""
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, Any] = {}
    for key, value in cast(Mapping[Any, Any], content).items():
        if isinstance(value, InertNamespace):
            found |= vars(value)
        elif key in ARGUMENTS:
            found |= _flat(value)
    return found


def _flat(value: Any, depth: int = 0) -> dict[str, Any]:
    """The plain values of a table and of the tables in it, by their own names."""
    if not isinstance(value, Mapping) or depth > MOST_DEEP:
        return {}
    found: dict[str, Any] = {}
    for name, inner in cast(Mapping[Any, Any], value).items():
        if isinstance(inner, Mapping):
            found = _flat(inner, depth + 1) | found
        elif isinstance(name, str) and isinstance(inner, str | int | float | bool | None):
            found[name] = inner
    return found
