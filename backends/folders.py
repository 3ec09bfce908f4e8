"""Folders of diffusers, known by their JSON: a pipeline's index, or the configuration of one model."""

import json
import re
from pathlib import Path
from typing import Any, cast

from .containers import INDEX_SUFFIX, Container, open_container, shards
from .errors import InputError
from .recognition import GIVE_DENOISER, Recognition

PIPELINE, MODEL = "model_index.json", "config.json"
DENOISER = re.compile(r"(Transformer|UNet)\w*Model$")  # classes of diffusers that predict noise, by their names
DENOISERS = ("transformer", "unet", "prior")  # where a pipeline keeps them
MAX_JSON_BYTES = 8_000_000


def is_diffusers(path: Path) -> bool:
    """A folder with a pipeline's index, or with the configuration of one model; not a folder of bare weights."""
    if (path / PIPELINE).is_file():
        return True
    return (path / MODEL).is_file() and bool({"_class_name", "model_type"} & _json(path / MODEL).keys())


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("it is too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"checkpoint: `{path}` must be JSON ({error}). Download it again.") from error
    if not isinstance(found, dict):
        raise InputError(f"checkpoint: `{path}` must be a JSON object, but it is a {type(found).__name__}.")
    return cast(dict[str, Any], found)


def recognise_folder(path: Path) -> Recognition:
    """What a folder of diffusers is, by the classes that it names.

    Raises:
        InputError: a component's folder or a shard is missing.
    """
    if not (path / PIPELINE).is_file():
        return _recognise_model(path)
    classes = components(path)
    name = _json(path / PIPELINE).get("_class_name", "pipeline")
    seen = tuple(f"{component}: {kind}" for component, kind in classes.items())
    if not any(component in classes for component in DENOISERS):
        return Recognition(None, f"a {name} without {', '.join(DENOISERS)}", seen, GIVE_DENOISER)
    for component in classes:
        if not (path / component).is_dir():
            raise InputError(
                f"checkpoint: `{path / PIPELINE}` names `{component}`, but that folder is missing. Download it."
            )
    _refuse_damaged(path)
    return Recognition("diffusers", f"a {name} of diffusers", seen)


def _recognise_model(path: Path) -> Recognition:
    config = _json(path / MODEL)
    name = config.get("_class_name")
    if name is None:
        named = config.get("architectures") or [config["model_type"]]
        return Recognition(
            None, f"a {named[0]} of transformers", (f"model_type {config['model_type']}",), GIVE_DENOISER
        )
    if not DENOISER.search(name):
        return Recognition(None, f"a {name} of diffusers", (f"_class_name {name}",), GIVE_DENOISER)
    _refuse_damaged(path)
    return Recognition("diffusers", f"a {name} of diffusers", (f"_class_name {name}",))


def components(path: Path) -> dict[str, str]:
    """The classes of a pipeline's components that are there, by the components' names."""
    index = _json(path / PIPELINE)
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {name: str(kind) for name, (_, kind) in pairs.items() if kind is not None}


def _refuse_damaged(path: Path) -> None:
    """Every index and every file of weights of the folder, as far as headers tell."""
    for folder in (path, *sorted(each for each in path.iterdir() if each.is_dir())):
        for index in sorted(folder.glob(f"*{INDEX_SUFFIX}")):
            shards(index)
        for file in sorted(folder.glob("*.safetensors")):
            open_container(file, shapes_only=True)


def weights_in(folder: Path) -> Container | None:
    """A component's weights, in the first of diffusers' layouts that is there; None for schedulers and tokenizers."""
    for pattern in (f"*{INDEX_SUFFIX}", "*.safetensors", "*.bin"):
        for file in sorted(folder.glob(pattern)):
            try:
                return open_container(file, shapes_only=True)
            except InputError:
                continue  # `refusal` says what is missing
    return None
