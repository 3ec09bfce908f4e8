"""Pipelines of diffusers and their parts, from a folder or live: model, text encoders, scheduler, guidance."""

import gc
import inspect
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...checkpoints.containers import open_container, shards
from ...checkpoints.folders import DENOISERS, MODEL, PIPELINE, components, read_json
from ...checkpoints.weights import weights_sha256
from ...errors import InputError, first_line
from .models.base import Architecture, architecture_class, is_known
from .optional import diffusers
from .text_encoders import refuse_enormous_encoders

DAMAGED = Exception  # files that no program wrote make diffusers raise anything
_LAYERS = (
    "num_layers",
    "num_single_layers",
    "layers_per_block",
    "num_attention_blocks",
    "transformer_layers_per_block",
)
# Position tables of this many squared, at the widths that there are, take about 2 GB.
SIZES, MOST_PIXELS = ("sample_size", "pos_embed_max_size", "rope_max_seq_len"), 1024
HEADS = ("num_attention_heads", "attention_head_dim")  # whose product is the width, which some weight has
SECOND = "transformer_2"  # the low-noise expert of Wan 2.2
STEM = "diffusion_pytorch_model"


@dataclass(frozen=True)
class Folder:
    """A diffusers folder.

    Attributes:
        path: of the pipeline, or of the model alone.
        part: the denoiser's name in the pipeline; "" for a model alone.
        variant: of the files of weights, such as "fp16".
    """

    path: Path
    part: str
    variant: str | None = None

    @property
    def denoiser(self) -> Path:
        """The folder with the denoiser's weights."""
        return self.path / self.part

    @cached_property
    def index(self) -> dict[str, Any]:
        """model_index.json; empty for a model alone."""
        return read_json(self.path / PIPELINE) if self.part else {}

    @property
    def is_known(self) -> bool:
        """Whether the denoiser's class is known by its name; where it is not, the whole pipeline is needed."""
        return not self.part or is_known(self._named)

    @cached_property
    def class_name(self) -> str:
        """The denoiser's class."""
        architecture_class(self._named)
        return self._named

    @cached_property
    def _named(self) -> str:
        """The class that the folder names. Old folders have one name for DiT and PixArt."""
        config = read_json(self.denoiser / MODEL)
        name = str(config.get("_class_name"))
        if name == "Transformer2DModel":
            kinds = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
            name = kinds.get(str(config.get("norm_type")), name)
        return name

    @property
    def boundary(self) -> float | None:
        """The share of the train indices from which on a second transformer takes over; None without one."""
        ratio = self.index.get("boundary_ratio")
        if not self.part or SECOND not in components(self.path) or not isinstance(ratio, int | float):
            return None
        return float(ratio) if 0 <= ratio <= 1 else None

    @property
    def second(self) -> "Folder":
        """The folder with that transformer as its denoiser."""
        return replace(self, part=SECOND)

    def config_of(self, part: str, file: str) -> dict[str, Any] | None:
        """A component's configuration; None where the pipeline has no such component."""
        path = self.path / part / file
        return read_json(path) if self.part and self.index.get(part, [None])[0] and path.is_file() else None


def open_folder(path: Path, variant: str | None = None) -> Folder:
    """The folder of a pipeline or of a model.

    Raises:
        InputError: it is neither, or a part of a pipeline, or has two denoisers.
    """
    if not (path / PIPELINE).is_file():
        if (path.resolve().parent / PIPELINE).is_file():
            parent = path.resolve().parent
            raise InputError(
                f"checkpoint: `{path}` is a part of the pipeline `{parent.name}`, whose scheduler says on which noise "
                f"it was trained. Give `{parent}`."
            )
        return Folder(path, "", variant)
    found = [part for part in DENOISERS if part in components(path)]
    if not found:
        raise InputError(f"checkpoint: `{path}` has none of {', '.join(DENOISERS)}. Give a pipeline that has one.")
    folder = Folder(path, found[0], variant)
    if SECOND in components(path) and folder.boundary is None:
        raise InputError(
            f"checkpoint: `{path}` has two transformers, but its {PIPELINE} has no `boundary_ratio` from 0 to 1 that "
            "says when they take turns. Add it, or give a pipeline with one transformer."
        )
    return folder


def load_denoiser(folder: Folder, dtype: torch.dtype) -> Any:
    """The denoiser with exactly the weights of its folder.

    Raises:
        InputError: weights are missing, too many, of other shapes, or damaged.
    """
    kind: Any = getattr(diffusers, folder.class_name)
    _refuse_enormous(folder)
    try:
        model, found = kind.from_pretrained(
            folder.denoiser,
            dtype=dtype,
            variant=folder.variant,
            local_files_only=True,
            output_loading_info=True,
        )
    except DAMAGED as error:
        raise InputError(
            f"checkpoint: `{folder.denoiser}` can't be loaded ({first_line(error)}). "
            "Download the whole folder again, or name its files' variant with `--network-arg variant=fp16`."
        ) from error
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found[key]:
            raise InputError(
                f"checkpoint: the weights in `{folder.denoiser}` are not those of its config.json: "
                f"{key.replace('_', ' ')} such as `{sorted(map(str, found[key]))[0]}`. Download the whole folder again."
            )
    return model.eval().requires_grad_(False)


def _refuse_enormous(folder: Folder) -> None:
    """Refuses a configuration of more layers than there are weights, or of sizes that would fill the memory alone."""
    weights = [each for file in _files(folder) for each in open_container(file, shapes_only=True).content.values()]
    widest = max((size for each in weights for size in each.shape), default=0)
    limits = dict.fromkeys(_LAYERS, len(weights)) | dict.fromkeys(SIZES, MOST_PIXELS) | dict.fromkeys(HEADS, widest)
    stated = read_json(folder.denoiser / MODEL)
    for key, value in [(key, stated[key]) for key in stated if key in limits]:
        for each in value if isinstance(value, list) else [value]:
            _refuse_beyond(folder, key, each, limits[key])
    heads = [each for name in HEADS if isinstance(each := stated.get(name), int | float)]
    if len(heads) == len(HEADS):
        _refuse_beyond(folder, " × ".join(HEADS), math.prod(heads), widest)


def _refuse_beyond(folder: Folder, key: str, value: object, most: int) -> None:
    if isinstance(value, int | float) and not 0 <= value <= most:
        raise InputError(
            f"checkpoint: `{key}` in `{folder.denoiser / MODEL}` must be from 0 to {most}, but is {value}. "
            "Download the whole folder again."
        )


def denoiser_digest(folder: Folder) -> str:
    """The SHA-256 of the denoiser's weights as they stand in their files."""
    return weights_sha256(
        {name: value for file in _files(folder) for name, value in open_container(file).content.items()}
    )


def _files(folder: Folder) -> list[Path]:
    """The files of weights that diffusers reads: of the variant if there are such, safetensors before pickles."""
    middle = [f".{folder.variant}", ""] if folder.variant else [""]
    for suffix in (".safetensors", ".bin"):
        for name in middle:
            index, whole = (
                folder.denoiser / f"{STEM}{suffix}.index{name}.json",
                folder.denoiser / f"{STEM}{name}{suffix}",
            )
            if index.is_file():
                return sorted(shards(index))
            if whole.is_file():
                return [whole]
    other = next((file.name.split(".")[1] for file in sorted(folder.denoiser.glob(f"{STEM}.*.safetensors"))), None)
    fix = f"Add `--network-arg variant={other}`" if other else "Download the whole folder again"
    raise InputError(f"checkpoint: `{folder.denoiser}` holds no {STEM}.safetensors. {fix}.")


def load_whole(folder: Folder, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline of a folder with all its parts.

    Raises:
        InputError: a part can't be loaded.
    """
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline  # seconds to import, and models alone need none

    named, listed = read_json(folder.denoiser / MODEL).get("_class_name"), folder.index[folder.part][1]
    if named != listed:
        raise InputError(
            f"checkpoint: `{folder.denoiser / MODEL}` names {named}, but {PIPELINE} names {listed}. Download the whole "
            "folder again."
        )
    kind: Any = getattr(diffusers, str(folder.index.get("_class_name")), DiffusionPipeline)
    _refuse_enormous(folder)
    try:
        refuse_enormous_encoders(folder.path, folder.index)
        with _without_bars():
            pipeline = kind.from_pretrained(folder.path, dtype=dtype, variant=folder.variant, local_files_only=True)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"checkpoint: `{folder.path}` can't be loaded ({first_line(error)}). Download the whole folder again, and "
            "install what its parts need: pip install 'exeunt[diffusers]'"
        ) from error
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline.to(device)


def load_text(folder: Folder, model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline with its text encoders and tokenizers, and without its autoencoder.

    Raises:
        InputError: the folder is that of a model alone, or its text encoders can't be loaded.
    """
    if not folder.part:
        raise InputError(
            f"conditions: `{folder.path}` holds a model alone, and prompts need its text encoders. "
            "Give the folder of the whole pipeline, with model_index.json."
        )
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline  # seconds to import, and models alone need none

    kind: Any = getattr(diffusers, str(folder.index.get("_class_name")), DiffusionPipeline)
    try:
        refuse_enormous_encoders(folder.path, folder.index)
        with _without_bars():
            pipeline = kind.from_pretrained(
                folder.path, dtype=dtype, local_files_only=True, vae=None, **{folder.part: model}
            )
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"conditions: the text encoders of `{folder.path}` can't be loaded ({first_line(error)}). "
            "Download the whole folder again, and install what they need: pip install 'exeunt[diffusers]'"
        ) from error
    return pipeline.to(device)


@contextmanager
def _without_bars() -> Generator[None]:
    """Load without the progress bars of diffusers and transformers: each would draw several over ours."""
    from transformers.utils import logging  # pipelines with prompts alone need it

    shown = [each for each in (logging, diffusers.utils.logging) if each.is_progress_bar_enabled()]
    for each in shown:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()


def free_text(pipeline: Any) -> None:
    """Take the text encoders out of a pipeline, so that their memory is free."""
    names = [name for name, part in pipeline.components.items() if name.startswith("text_encoder") and part is not None]
    pipeline.register_modules(**dict.fromkeys(names))
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def scheduler_config(folder: Folder, given: Path | None) -> Mapping[str, Any] | None:
    """The configuration of the scheduler: the one given, the pipeline's, or None."""
    if given is None:
        return folder.config_of("scheduler", "scheduler_config.json")
    return read_json(given / "scheduler_config.json" if given.is_dir() else given)


def denoiser_of(pipeline: Any) -> Any:
    """The model of a live pipeline that predicts noise; the first one where two take turns.

    Raises:
        InputError: it has none, or two of different kinds.
    """
    parts = {name: getattr(pipeline, name, None) for name in ("transformer", "unet")}
    found = [part for part in parts.values() if part is not None]
    if len(found) != 1:
        raise InputError(
            f"pipeline: must have one transformer or unet, but {type(pipeline).__name__} has {len(found)}. "
            "Give a pipeline with one."
        )
    return found[0]


def second_of(pipeline: Any) -> tuple[Any, float] | None:
    """The transformer that takes over in a live pipeline, with the time below which it does; None where none does."""
    second, ratio = getattr(pipeline, SECOND, None), pipeline.config.get("boundary_ratio")
    if second is None or ratio is None:
        return None
    return second, ratio * pipeline.scheduler.config.num_train_timesteps


def bare(module: Any) -> Any:
    """The module behind what `torch.compile` may have put around it."""
    return getattr(module, "_orig_mod", module)


def with_text(pipeline: Any) -> Any:
    """The pipeline itself.

    Raises:
        InputError: its text encoders were taken out.
    """
    names = [name for name in pipeline.components if name.startswith("text_encoder")]
    if all(getattr(pipeline, name) is None for name in names):
        raise InputError("conditions: this pipeline's text encoders were removed before. Load the pipeline again.")
    return pipeline


def default_guidance(architecture: Architecture, pipeline: Any) -> float | None:
    """What the pipeline's call guides with by default; None where it has no guidance."""
    if pipeline is None or not (architecture.has_null or architecture.takes_guidance):
        return None
    own_scale = architecture.is_seen and architecture.embeds_scale and not architecture.takes_guidance
    name = "true_cfg_scale" if own_scale else "guidance_scale"
    parameter = inspect.signature(pipeline.__call__).parameters.get(name)
    return (
        None
        if parameter is None or not isinstance(parameter.default, int | float)
        else architecture.scale_offset + float(parameter.default)
    )
