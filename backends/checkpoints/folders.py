"""Folders of diffusers, known by their JSON: a pipeline's index, or the configuration of one model."""

import re
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError
from .containers import INDEX_SUFFIX, Container, open_container, shards
from .files import is_file, is_folder, read_object
from .recognition import DESCRIBE, GIVE_DENOISER, Recognition

PIPELINE, MODEL = "model_index.json", "config.json"
# Classes of diffusers that predict no noise, by their names; the others are denoisers, known here or not.
NO_DENOISER = re.compile(
    r"Autoencoder|VQ|VAE|ControlNet|Adapter|Scheduler|Pipeline|Encoder|Decoder|Projection|SafetyChecker|Vocoder|^Prior"
)
# Denoisers that are known without their pipelines; `Transformer2DModel` is what old folders call DiT's and PixArt's.
KNOWN_DENOISERS = (
    "DiTTransformer2DModel",
    "PixArtTransformer2DModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "WanTransformer3DModel",
    "UNet2DModel",
    "UNet2DConditionModel",
    "Transformer2DModel",
)
DENOISERS = ("transformer", "unet", "prior")  # where a pipeline keeps them
DECODER = "vae"
_WEIGHTS = (f"*{INDEX_SUFFIX}", "*.safetensors", "*.bin")
MAX_JSON_BYTES = 8_000_000


def is_diffusers(path: Path) -> bool:
    """A folder with a pipeline's index, or with the configuration of one model; not a folder of bare weights."""
    if is_file(path / PIPELINE):
        return True
    return is_file(path / MODEL) and bool({"_class_name", "model_type"} & read_json(path / MODEL).keys())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError where there is none."""
    return read_object(path, MAX_JSON_BYTES, "checkpoint")


def recognise_folder(path: Path) -> Recognition:
    """What a folder of diffusers is, by the classes that it names.

    Raises:
        InputError: a component's folder or a shard is missing.
    """
    if not (path / PIPELINE).is_file():
        return _recognise_model(path)
    classes = components(path)
    name = read_json(path / PIPELINE).get("_class_name", "pipeline")
    seen = tuple(f"{component}: {kind}" for component, kind in classes.items())
    if not any(component in classes for component in DENOISERS):
        return Recognition(None, f"{_a(name)} without {', '.join(DENOISERS)}", seen, GIVE_DENOISER)
    for component in DENOISERS:
        if component in classes and NO_DENOISER.search(classes[component]):
            return _unknown(classes[component], seen)
    for component in classes:
        if not is_folder(path / component):
            raise InputError(
                f"checkpoint: `{path / PIPELINE}` names `{component}`, but that folder is missing. Download it."
            )
        if component in (*DENOISERS, DECODER):
            _refuse_empty(path / component)
    _refuse_damaged(path)
    return Recognition("diffusers", f"{_a(name)} of diffusers", seen)


def _recognise_model(path: Path) -> Recognition:
    config = read_json(path / MODEL)
    name = config.get("_class_name")
    if name is None:
        kind, named = config.get("model_type"), config.get("architectures")
        first = named[0] if isinstance(named, list) and named else kind
        return Recognition(None, f"{_a(first)} of transformers", (f"model_type {kind}",), GIVE_DENOISER)
    name = str(name)
    if NO_DENOISER.search(name):
        return Recognition(None, f"{_a(name)} of diffusers", (f"_class_name {name}",), GIVE_DENOISER)
    if name not in KNOWN_DENOISERS:
        return _unknown(name, (f"_class_name {name}",))
    _refuse_empty(path)
    _refuse_damaged(path)
    return Recognition("diffusers", f"{_a(name)} of diffusers", (f"_class_name {name}",))


def _unknown(name: str, seen: tuple[str, ...]) -> Recognition:
    """A denoiser of diffusers of which nothing is known without its pipeline."""
    fix = (
        f"Without their pipelines, supported networks of diffusers are {', '.join(KNOWN_DENOISERS[:-1])}. Give the "
        f"folder of the whole pipeline. {DESCRIBE}"
    )
    return Recognition(None, f"{_a(name)} of diffusers", seen, fix)


def _a(name: object) -> str:
    """A name with its article; `U` as in U-Net sounds like a consonant."""
    return f"{'an' if str(name)[:1] in 'AEIO' else 'a'} {name}"


def components(path: Path) -> dict[str, str]:
    """The classes of a pipeline's components that are there, by the components' names."""
    index = read_json(path / PIPELINE)
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    outside = next((name for name in pairs if PurePath(name).name != name), None)
    if outside is not None:
        raise InputError(
            f"checkpoint: `{path / PIPELINE}` must name folders beside it, but names `{outside}`. Correct it."
        )
    return {name: str(kind) for name, (_, kind) in pairs.items() if kind is not None}


def _refuse_empty(folder: Path) -> None:
    """A folder whose weights were left out of a download."""
    if not any(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise InputError(
            f"checkpoint: `{folder}` has no weights, neither .safetensors nor .bin. Download them into it."
        )


def _refuse_damaged(path: Path) -> None:
    """Every index and every file of weights of the folder, as far as headers tell."""
    for folder in (path, *sorted(each for each in path.iterdir() if each.is_dir())):
        for index in sorted(folder.glob(f"*{INDEX_SUFFIX}")):
            shards(index)
        for file in sorted(folder.glob("*.safetensors")):
            open_container(file, shapes_only=True)


def weights_in(folder: Path) -> Container | None:
    """A component's weights, in the first of diffusers' layouts that is there; None for schedulers and tokenizers."""
    for pattern in _WEIGHTS:
        for file in sorted(folder.glob(pattern)):
            try:
                return open_container(file, shapes_only=True)
            except InputError:
                continue  # `refusal` says what is missing
    return None
