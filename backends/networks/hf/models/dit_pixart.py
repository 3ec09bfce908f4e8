"""DiT and PixArt in diffusers: chains of `BasicTransformerBlock`, whose parts can be left out one by one too."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ....errors import InputError
from ....network import NetworkInput
from .base import Architecture, Layout, Size, call_default


class _BasicTransformer(Architecture):
    """A chain of `BasicTransformerBlock`."""

    @property
    def learned_range(self) -> bool:
        return self.model.out_channels == 2 * self.model.config.in_channels


class DiTTransformer(_BasicTransformer):
    """`DiTTransformer2DModel`, class-conditional (Peebles & Xie 2023)."""

    layout: Layout | None = "conditional-first"
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

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        own = self.model.config.sample_size
        if {size.height, size.width} - {None, own * size.factor}:
            raise InputError(
                f"height: this DiT makes {own * size.factor} by {own * size.factor} pixels alone, but got "
                f"{size.height} by {size.width}. Omit height and width."
            )
        return (self.model.config.in_channels, own, own)

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"hidden_states": inputs.x, "timestep": inputs.time, "class_labels": given["labels"]}


class PixArt(_BasicTransformer):
    """`PixArtTransformer2DModel`, α and Σ (Chen et al. 2024)."""

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**super().arguments(inputs, given), "added_cond_kwargs": self._micro_conditions(inputs.x)}

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
