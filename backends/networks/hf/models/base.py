"""What Exeunt must know of each of diffusers' denoisers beyond what they do by themselves.

An architecture says where its blocks sit, what its forward takes, and how pipelines hand it the guidance branches. Its
model does the rest: nothing of a forward is written again here.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ....errors import InputError
from ....network import NetworkInput
from ....schedule import Noise
from ...decoders import Decoder
from ..denoisers.sockets import sockets_of
from ..hooks import Socket

# Each class of diffusers with the module and class here that know it.
_ARCHITECTURES = {
    "DiTTransformer2DModel": "dit_pixart:DiTTransformer",
    "PixArtTransformer2DModel": "dit_pixart:PixArt",
    "SD3Transformer2DModel": "sd3_flux:SD3",
    "FluxTransformer2DModel": "sd3_flux:Flux",
    "WanTransformer3DModel": "wan:Wan",
    "UNet2DModel": "unet:UNet2D",
    "UNet2DConditionModel": "unet:UNet2DCondition",
}

_OTHER = "other:OtherDenoiser"
_RECORDED = "recorded:RecordedPipeline"
_DENOISERS = ("diffusers.models.transformers.", "diffusers.models.unets.")

_LINEAR = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
FLOW = Noise("flow")

Layout = Literal["conditional-first", "unconditional-first", "two-calls"]


@dataclass(frozen=True)
class Size:
    """What a user asks for, in pixels and frames; None for the model's own.

    Attributes:
        factor: pixels a latent, along height and width.
        frames_factor: frames a latent, after the first.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    factor: int = 8
    frames_factor: int = 4


def latent_grid(size: Size, native: int, multiple: int) -> tuple[int, int]:
    """(H, W) in latents for a size in pixels, or the model's own.

    Raises:
        InputError: the pixels are no multiple of what a token covers.
    """
    sides: list[int] = []
    for name, pixels in (("height", size.height), ("width", size.width)):
        step = size.factor * multiple
        if pixels is not None and (pixels < step or pixels % step):
            raise InputError(
                f"{name}: must be a multiple of {step} pixels, but got {pixels}. Use {max(1, pixels // step) * step}."
            )
        sides.append(native if pixels is None else pixels // size.factor)
    return sides[0], sides[1]


def call_default(pipeline: Any, name: str) -> Any:
    """What a pipeline uses for an argument that its caller omits."""
    return inspect.signature(type(pipeline).__call__).parameters[name].default


class Architecture:
    """One of diffusers' denoisers.

    Attributes:
        model: the denoiser.
        layout: how diffusers' pipelines of this denoiser evaluate the guidance branches: in one batch, in this order,
            or in two calls, the conditional one first; None where that is not known.
        clocks: from the time that a call is at to the `network_time` that it stands for; where there are several, one
            of them is right.
        takes_guidance: whether guidance is an input of the model.
        prediction, noise: what it is trained on where no scheduler says otherwise.
        factor: pixels a latent along height and width, where no autoencoder says otherwise.
        num_tokens: of a prompt, by default.
        unbatched: arguments of its forward whose first dimension is not the batch.
        condition: the argument of its forward by whose tensor a request is known; None where it takes none.
        is_seen: whether no more is known of its pipelines than what can be seen of them.
        notes: what people should know of it.
        keeps_norm: whether its pipeline scales guided outputs to the norm of the conditional ones.
        scale_offset: what its pipelines' `guidance_scale` is below the scale of u + G · (c − u).
        exact_rows: whether embeddings keep their own types, whatever the model's is.
        prompts_at_once: how many prompts are embedded in one call.
        refused: arguments of its forward that change what blocks do, so that no stored value stands in for them, with
            what they are.
    """

    layout: Layout | None = "unconditional-first"
    clocks: tuple[Callable[[Any], Any], ...] = (lambda time: time,)
    prediction: ClassVar[str] = "epsilon"
    noise: ClassVar[Noise] = _LINEAR
    factor: ClassVar[int] = 8
    num_tokens: ClassVar[int] = 300
    unbatched: frozenset[str] = frozenset()
    condition: ClassVar[str | None] = "encoder_hidden_states"
    is_seen: ClassVar[bool] = False
    notes: tuple[str, ...] = ()
    keeps_norm: bool = False
    scale_offset: float = 0.0
    exact_rows: ClassVar[bool] = False
    prompts_at_once: ClassVar[int] = 16
    refused: ClassVar[Mapping[str, str]] = {}

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @property
    def condition_kind(self) -> Literal["none", "labels", "prompts"]:
        """What its conditions are."""
        return "prompts"

    @property
    def takes_guidance(self) -> bool:
        """Whether guidance is an input of the model."""
        return False

    @property
    def embeds_scale(self) -> bool:
        """Whether its pipelines mean embedded guidance by `guidance_scale`, and have another name for a second pass."""
        return False

    @property
    def num_classes(self) -> int | None:
        """The number of labels; None for other conditions."""
        return None

    @property
    def has_null(self) -> bool:
        """Whether there is a condition that stands for none."""
        return self.condition_kind != "none"

    @property
    def learned_range(self) -> bool:
        """Whether the output has 2 × C channels, the second half a variance."""
        return False

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        """The shape of one sample, (C, H, W) or (C, T, H, W). Raises InputError for a size that can't be."""
        config = self.model.config
        return (config.in_channels, *latent_grid(size, config.sample_size, config.patch_size))

    def sockets(self, granularity: str) -> list[Socket]:
        """The blocks in execution order. Raises InputError for a granularity that this architecture does not have."""
        return sockets_of(self.model, granularity)

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the model's forward takes.

        Args:
            inputs: of the network.
            given: its conditions: "labels" (N,), or the rows of what `encode` made.
        """
        return {"hidden_states": inputs.x, "timestep": inputs.time, **given}

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of its forward's arguments, in their order."""
        return tuple(inspect.signature(type(self.model).forward).parameters)[1:]

    def time_of(self, arguments: Mapping[str, Any]) -> Any:
        """The time that a call of its forward is at, by one of its `clocks`."""
        return arguments["timestep"]

    def condition_of(self, arguments: Mapping[str, Any]) -> Tensor | None:
        """The tensor by which the request is known that a call belongs to; None where it has none."""
        return arguments.get(self.condition or "")

    def usual_sigmas(self, num_steps: int) -> list[float] | None:
        """The sigmas that its pipelines give their scheduler by default; None where the scheduler makes its own."""
        return None

    def num_image_tokens(self, sample_shape: Sequence[int]) -> int:
        """The tokens of an image, by which some pipelines shift their times."""
        return sample_shape[-2] * sample_shape[-1] // 4

    def output(self, output: Tensor, x: Tensor) -> Tensor:
        """What the model's forward returned, in the shape of samples."""
        return output

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The embeddings of prompts by a pipeline's text encoders, one row each, as the pipeline itself makes them.

        Raises:
            InputError: this architecture takes no prompts.
        """
        raise InputError(f"conditions: {type(self.model).__name__} takes no prompts. Omit `--conditions`.")

    def on(self, model: nn.Module) -> "Architecture":
        """What is known, of another model of the same configuration."""
        return type(self)(model)

    def decoder(self, name: str) -> Decoder | None:
        """How its samples become images, where its pipeline alone knows; None else."""
        return None

    def one_row(self, rows: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Conditions of one image, on the default device: a label, or embeddings of these shapes."""
        if self.condition_kind == "labels":
            return {"labels": torch.zeros(1, dtype=torch.long)}
        return {name: torch.empty(1, *shape) for name, shape in rows.items()}

    def blank(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        """The shapes of one row of what `encode` makes, for prompts of `num_tokens` tokens."""
        return {}


def architecture_of(model: nn.Module) -> Architecture:
    """The architecture of a live model of diffusers; for a class that is not known by name, what can be seen of it.

    Raises:
        InputError: it is no denoiser of diffusers.
    """
    name = type(model).__name__
    if name not in _ARCHITECTURES and type(model).__module__.startswith(_DENOISERS):
        return _class_of(_OTHER)(model)
    return architecture_class(name)(model)


def architecture_in(pipeline: Any, model: nn.Module, sizes: Mapping[str, int | None]) -> Architecture:
    """The architecture of a model in its pipeline; for a class that is not known by name, as one call of it shows.

    Args:
        sizes: height, width and num_frames that are asked for.

    Raises:
        InputError: as `architecture_of`, or what the call does can't be replayed.
    """
    found = architecture_of(model)
    if not found.is_seen:
        return found
    kind: Any = _class_of(_RECORDED)
    return kind(model, pipeline, {name: value for name, value in sizes.items() if value is not None})


def is_known(name: str) -> bool:
    """Whether a class is known by its name, with what its pipelines hand it."""
    return name in _ARCHITECTURES


def architecture_class(name: str) -> type[Architecture]:
    """The architecture for a class of diffusers. Raises InputError if there is none."""
    if name not in _ARCHITECTURES:
        near = get_close_matches(name, _ARCHITECTURES, n=1)
        hint = f"The nearest is {near[0]}. " if near else ""
        raise InputError(
            f"network: must be one of {', '.join(_ARCHITECTURES)}, but got {name}. {hint}"
            "Describe yours in a file, with `--network FILE.py:Class` (docs/own-network.md)."
        )
    return _class_of(_ARCHITECTURES[name])


def _class_of(place: str) -> type[Architecture]:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)
