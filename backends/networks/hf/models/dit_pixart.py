"""DiT and PixArt in diffusers: chains of `BasicTransformerBlock`, whose parts can be left out one by one too."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ....errors import InputError
from ....network import NetworkInput
from ..hooks import Socket, tensor_socket
from .base import Architecture, Layout, Size


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


def block_sockets(blocks: Sequence[Any], granularity: str) -> list[Socket]:
    """The blocks of a `ModuleList` of `BasicTransformerBlock`, or their attention, cross-attention and MLP."""
    if granularity == "block":
        return [tensor_socket(block, "residual") for block in blocks]
    parts: list[nn.Module] = []
    for block in blocks:
        if block._chunk_size is not None:
            raise InputError(
                "granularity: branches of a network with feed-forward chunking can't be stored. "
                "Call `disable_forward_chunking()`, or use block."
            )
        parts += [part for part in (block.attn1, block.attn2, block.ff) if part is not None]
    return [tensor_socket(part, "branch") for part in parts]


class DiTTransformer(Architecture):
    """`DiTTransformer2DModel`, class-conditional (Peebles & Xie 2023)."""

    layout: ClassVar[Layout] = "conditional-first"
    condition: ClassVar[str | None] = "class_labels"

    @property
    def condition_kind(self) -> Literal["none", "labels", "prompts"]:
        return "labels"

    @property
    def num_classes(self) -> int:
        return self.model.config.num_embeds_ada_norm

    @property
    def has_null(self) -> bool:
        table = self.model.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
        return table.num_embeddings > self.num_classes

    @property
    def learned_range(self) -> bool:
        return self.model.out_channels == 2 * self.model.config.in_channels

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        own = self.model.config.sample_size
        if {size.height, size.width} - {None, own * size.factor}:
            raise InputError(
                f"height: this DiT makes {own * size.factor} by {own * size.factor} pixels alone, but got "
                f"{size.height} by {size.width}. Omit height and width."
            )
        return (self.model.config.in_channels, own, own)

    def sockets(self, granularity: str) -> list[Socket]:
        return block_sockets(self.model.transformer_blocks, granularity)

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"hidden_states": inputs.x, "timestep": inputs.time, "class_labels": given["labels"]}


class PixArt(Architecture):
    """`PixArtTransformer2DModel`, α and Σ (Chen et al. 2024)."""

    @property
    def learned_range(self) -> bool:
        return self.model.out_channels == 2 * self.model.config.in_channels

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        config = self.model.config
        return (config.in_channels, *latent_grid(size, config.sample_size, config.patch_size))

    def sockets(self, granularity: str) -> list[Socket]:
        return block_sockets(self.model.transformer_blocks, granularity)

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        extra = self._micro_conditions(inputs.x)
        return {"hidden_states": inputs.x, "timestep": inputs.time, "added_cond_kwargs": extra, **given}

    def _micro_conditions(self, x: Tensor) -> dict[str, Tensor | None]:
        """Resolution and aspect ratio, which the 1024-pixel α model is told, as its pipeline works them out."""
        if not self.model.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (float(side * 8) for side in x.shape[-2:])
        sides = torch.stack([x.new_full((x.shape[0],), height), x.new_full((x.shape[0],), width)], dim=1)
        return {"resolution": sides, "aspect_ratio": x.new_full((x.shape[0], 1), height / width)}

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeddings, mask, _, _ = pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            clean_caption=call_default(pipeline, "clean_caption"),
            max_sequence_length=call_default(pipeline, "max_sequence_length"),
        )
        return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}

    def blank(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        width = self.model.config.caption_channels or self.model.config.cross_attention_dim
        return {"encoder_hidden_states": (num_tokens, width), "encoder_attention_mask": (num_tokens,)}
