"""U-Nets in diffusers: chains of stages down, in the middle and up, each of which hands on tensors of its own shapes.

A stage is a `replace` block: what it stores is all that it returns, the skips of a stage down included, and where that
is reused the stage costs nothing. The model's own forward hands the skips to the stages up, whichever of them run, so
DeepCache (Ma et al. 2024: the outermost stages run, what is inside is reused) and Faster Diffusion (Li et al. 2024: the
stages up run, the others are reused) are both schedules.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ....errors import InputError
from ....network import NetworkInput
from .base import Architecture, Size, latent_grid

TIME_IDS = 6  # SDXL is told original size, crop and target size, two numbers each
_OWN = "Describe it in a file of your own and give `--network FILE.py:Class` (docs/own-network.md)."


def _grid(size: Size, native: int | Sequence[int] | None, multiple: int) -> tuple[int, int]:
    """(H, W) of a sample for a size in pixels, or the model's own."""
    if native is None and (size.height is None or size.width is None):
        raise InputError(
            "height: the model's config.json has no sample_size. "
            "Add `--network-arg height=PIXELS --network-arg width=PIXELS`."
        )
    rows, columns = (native, native) if isinstance(native, int) or native is None else native
    return latent_grid(size, rows or 0, multiple)[0], latent_grid(size, columns or 0, multiple)[1]


class UNet2D(Architecture):
    """`UNet2DModel`: DDPM's network, with class labels or without conditions."""

    factor: ClassVar[int] = 1
    condition: ClassVar[str | None] = "class_labels"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        config = self.model.config
        _refuse("time_embedding_type", config.time_embedding_type, ("positional",))
        _refuse("class_embed_type", config.class_embed_type, (None,))
        for name in (*config.down_block_types, *config.up_block_types):
            if "Skip" in name:
                raise InputError(
                    f"network: `{name}` passes on images beside hidden states, which is not supported. {_OWN}"
                )
        _refuse_channels(self.model, (1, 2))

    @property
    def condition_kind(self) -> Literal["none", "labels", "prompts"]:
        return "none" if self.num_classes is None else "labels"

    @property
    def num_classes(self) -> int | None:
        return self.model.config.num_class_embeds

    @property
    def has_null(self) -> bool:
        """No row of the label embedding is known to stand for none."""
        return False

    @property
    def learned_range(self) -> bool:
        return self.model.config.out_channels == 2 * self.model.config.in_channels

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        config = self.model.config
        return (config.in_channels, *_grid(size, config.sample_size, 2 ** (len(self.model.down_blocks) - 1)))

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"sample": inputs.x, "timestep": inputs.time, "class_labels": given.get("labels")}


class UNet2DCondition(Architecture):
    """`UNet2DConditionModel`: Stable Diffusion 1 and 2, and XL, whose model is told the image's size too."""

    num_tokens: ClassVar[int] = 77
    refused: ClassVar[Mapping[str, str]] = {"down_intrablock_additional_residuals": "a T2I-Adapter"}

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        config = self.model.config
        _refuse("addition_embed_type", config.addition_embed_type, (None, "text_time"))
        _refuse("encoder_hid_dim_type", config.encoder_hid_dim_type, (None,))
        _refuse("class_embed_type", config.class_embed_type, (None,))
        _refuse("num_class_embeds", config.num_class_embeds, (None,))
        _refuse("time_cond_proj_dim", config.time_cond_proj_dim, (None,))
        _refuse_channels(self.model, (1,))
        self._pixels = self.factor  # a latent, along height and width

    @property
    def is_xl(self) -> bool:
        """Whether the model takes pooled embeddings and the image's size."""
        return self.model.config.addition_embed_type == "text_time"

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        config, self._pixels = self.model.config, size.factor
        return (config.in_channels, *_grid(size, config.sample_size, 1))

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "sample": inputs.x,
            "timestep": inputs.time,
            "encoder_hidden_states": given["encoder_hidden_states"],
        }
        if self.is_xl:
            found["added_cond_kwargs"] = {"text_embeds": given["text_embeds"], "time_ids": self._time_ids(inputs.x)}
        return found

    def _time_ids(self, x: Tensor) -> Tensor:
        """(N, 6): the image is said to be of its own size and not cropped, as the pipeline says by default."""
        height, width = (side * self._pixels for side in x.shape[-2:])
        return torch.tensor([height, width, 0, 0, height, width], dtype=x.dtype, device=x.device).expand(x.shape[0], -1)

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        if not callable(getattr(pipeline, "encode_prompt", None)):
            title = type(pipeline).__name__
            raise InputError(f"conditions: {title} must have `encode_prompt`, but has none. Use another pipeline.")
        made = pipeline.encode_prompt(
            prompt=list(prompts),
            device=pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        if not self.is_xl:
            return {"encoder_hidden_states": made[0]}
        found = {"encoder_hidden_states": made[0], "text_embeds": made[2]}
        return _without_empty(found, prompts) if pipeline.config.get("force_zeros_for_empty_prompt") else found

    def blank(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        config = self.model.config
        width = config.cross_attention_dim
        found = {"encoder_hidden_states": (num_tokens, width if isinstance(width, int) else width[0])}
        if self.is_xl:
            pooled = config.projection_class_embeddings_input_dim - TIME_IDS * config.addition_time_embed_dim
            return {**found, "text_embeds": (pooled,)}
        return found


def _without_empty(found: Mapping[str, Tensor], prompts: Sequence[str]) -> dict[str, Tensor]:
    """The embeddings with zeros for empty prompts, as SDXL's pipeline guides."""
    empty = torch.tensor([not prompt for prompt in prompts])
    return {
        name: value.masked_fill(empty.to(value.device).view(-1, *[1] * (value.ndim - 1)), 0.0)
        for name, value in found.items()
    }


def _refuse(name: str, value: Any, known: Sequence[Any]) -> None:
    """Refuse a model whose configuration asks for an input that nothing here makes."""
    if value not in known:
        raise InputError(
            f"network: {name} of the U-Net must be {' or '.join(map(str, known))}, but config.json says {value}. {_OWN}"
        )


def _refuse_channels(model: Any, factors: Sequence[int]) -> None:
    """Refuse a model that takes more than the noisy sample, such as one for inpainting."""
    taken, given = model.config.in_channels, model.config.out_channels
    if given not in [taken * factor for factor in factors]:
        raise InputError(
            f"network: the U-Net takes {taken} channels and gives {given}, so it has another input than the noisy "
            f"sample, or another output than its noise. {_OWN}"
        )
