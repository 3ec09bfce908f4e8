"""What a checkpoint holds and what it is recognised as, from names and shapes alone: no tensor's data is read."""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from ..errors import InputError
from .containers import Container, InertNamespace, open_container
from .folders import DENOISERS, PIPELINE, components, is_diffusers, recognise_folder, weights_in
from .recognition import TELLING, Recognition, recognise
from .weights import ChosenWeights, arguments, candidates, choose_weights


@dataclass(frozen=True)
class Group:
    """Tensors whose names differ in numbers alone, such as those of all blocks.

    Attributes:
        name: with `*` for the numbers that differ.
        count: how many there are.
        shapes: each shape that occurs.
        dtypes: each type that occurs, such as "float32".
    """

    name: str
    count: int
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One set of weights.

    Attributes:
        key: as `--weights-key` names it; "" for the file itself. In a folder of diffusers, the component.
        num_tensors: in it.
        num_parameters: elements of all of them.
        num_bytes: of all of them.
        groups: the tensors, summarised.
        taken_for: what network it is by itself.
    """

    key: str
    num_tensors: int
    num_parameters: int
    num_bytes: int
    groups: tuple[Group, ...]
    taken_for: Recognition


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        path: the file or folder.
        container: the kind of file, such as "safetensors".
        num_bytes: of the files.
        entries: the sets of weights.
        others: what else stands at the top of the file, each with a word on what it is.
        arguments: the training program's, as text.
        metadata: Exeunt's own.
        chosen: the key of the entry that would be loaded; None where none would.
        taken_for: what it is loaded as.
        notes: what is chosen and removed when it loads.
        refusal: why it can't be loaded; None where it can.
    """

    path: Path
    container: str
    num_bytes: int
    entries: tuple[Entry, ...]
    others: tuple[tuple[str, str], ...]
    arguments: dict[str, str]
    metadata: dict[str, Any]
    chosen: str | None
    taken_for: Recognition | None
    notes: tuple[str, ...]
    refusal: str | None


def identify(path: Path, weights_key: str | None = None) -> Recognition:
    """Which network in `NETWORKS` a checkpoint belongs to.

    Raises:
        InputError: it can't be read, or it is none of them; the message says what it is and what was seen.
    """
    if is_diffusers(path):
        found = recognise_folder(path)
    else:
        container = open_container(path, shapes_only=True)
        found = recognise(choose_weights(container.content, weights_key, container.path).tensors)
    if found.network is None:
        raise InputError(_unknown(path, found))
    return found


def inspect(path: Path, weights_key: str | None = None) -> Contents:
    """What is in a checkpoint, for people to read.

    Raises:
        InputError: it can't be read. What can be read but not loaded has a `refusal` instead.
    """
    return _inspect_folder(path) if is_diffusers(path) else _inspect_file(path, weights_key)


def _unknown(path: Path, found: Recognition) -> str:
    seen = ", ".join(f"`{name}`" for name in found.seen)
    return (
        f"checkpoint: `{path}` is recognised as {found.what}, which can't be searched. It has: {seen}. "
        f"Supported are {', '.join(TELLING)} and folders of diffusers. {found.fix}"
    )


def _inspect_file(path: Path, weights_key: str | None) -> Contents:
    container = open_container(path, shapes_only=True)
    entries = tuple(_entry(key, choice.tensors) for key, choice in candidates(container.content).items())
    choice, taken, refusal = _load_dry(container, weights_key)
    return Contents(
        path=container.path,
        container=container.kind,
        num_bytes=container.num_bytes,
        entries=entries,
        others=_others(container.content, entries),
        arguments={str(name): reprlib.repr(value) for name, value in arguments(container.content).items()},
        metadata=container.metadata,
        chosen=(choice.key or "") if choice else None,
        taken_for=taken,
        notes=choice.notes if choice else (),
        refusal=refusal,
    )


def _load_dry(container: Container, key: str | None) -> tuple[ChosenWeights | None, Recognition | None, str | None]:
    """What would be chosen, what it is taken for, and why that fails."""
    try:
        choice = choose_weights(container.content, key, container.path)
    except InputError as error:
        return None, None, str(error)
    found = recognise(choice.tensors)
    return choice, found, None if found.network else _unknown(container.path, found)


def _entry(key: str, tensors: Mapping[str, Tensor]) -> Entry:
    return Entry(
        key=key,
        num_tensors=len(tensors),
        num_parameters=sum(tensor.numel() for tensor in tensors.values()),
        num_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        groups=_groups(tensors),
        taken_for=recognise(tensors),
    )


def _groups(tensors: Mapping[str, Tensor]) -> tuple[Group, ...]:
    """The tensors by their names without numbers, in their first order."""
    alike: dict[str, list[str]] = {}
    for name in tensors:
        alike.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append(name)
    return tuple(_group({name: tensors[name] for name in names}) for names in alike.values())


def _group(tensors: Mapping[str, Tensor]) -> Group:
    values = tensors.values()
    parts = zip(*(name.split(".") for name in tensors), strict=True)
    name = ".".join(same[0] if len(set(same)) == 1 else "*" for same in parts)
    shapes = tuple(dict.fromkeys(tuple(value.shape) for value in values))
    dtypes = tuple(dict.fromkeys(str(value.dtype).removeprefix("torch.") for value in values))
    return Group(name, len(tensors), shapes, dtypes)


def _others(content: Any, entries: tuple[Entry, ...]) -> tuple[tuple[str, str], ...]:
    """What is in a file besides weights."""
    if not isinstance(content, Mapping) or any(entry.key == "" for entry in entries):
        return ()
    weights = {entry.key.split(".")[0] for entry in entries}
    pairs = ((str(key), value) for key, value in cast(Mapping[Any, Any], content).items())
    return tuple((key, _described(value)) for key, value in pairs if key not in weights)


def _described(value: Any) -> str:
    if isinstance(value, InertNamespace):
        return f"the training program's arguments, {len(vars(value))} of them"
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        kind = "an optimizer's state" if "param_groups" in value else "a table"
        return f"{kind} with {len(cast(Mapping[Any, Any], value))} entries"
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _inspect_folder(path: Path) -> Contents:
    refusal, found = None, None
    try:
        found = recognise_folder(path)
        refusal = None if found.network else _unknown(path, found)
    except InputError as error:
        refusal = str(error)
    folders = [path / name for name in components(path)] if (path / PIPELINE).is_file() else [path]
    opened = {folder: weights_in(folder) for folder in folders}
    entries = tuple(
        _entry(folder.name, choice.tensors)
        for folder, container in opened.items()
        if container
        for choice in candidates(container.content).values()
    )
    return Contents(
        path=path,
        container="a folder of diffusers",
        num_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        entries=entries,
        others=tuple(components(path).items()) if (path / PIPELINE).is_file() else (),
        arguments={},
        metadata={},
        chosen=next((entry.key for entry in entries if entry.key in (*DENOISERS, path.name)), None),
        taken_for=found,
        notes=(),
        refusal=refusal,
    )
