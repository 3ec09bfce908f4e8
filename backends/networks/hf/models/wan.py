"""Wan in diffusers: a video transformer whose blocks have one stream, with attention, cross-attention and MLP."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from ....errors import InputError
from ....schedule import Noise
from .base import FLOW, Architecture, Layout, Size, call_default, latent_grid


class Wan(Architecture):
    """`WanTransformer3DModel`, text to video. A sample is (C, T, H, W)."""

    layout: Layout | None = "two-calls"
    prediction: ClassVar[str] = "flow"
    noise: ClassVar[Noise] = FLOW
    num_tokens: ClassVar[int] = 512
    native: ClassVar[Size] = Size(height=480, width=832, num_frames=81)  # the default of diffusers' pipeline

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        frames = self.native.num_frames if size.num_frames is None else size.num_frames
        assert frames is not None
        if frames < 1 or (frames - 1) % size.frames_factor:
            fitting = max(0, frames - 1) // size.frames_factor * size.frames_factor + 1
            raise InputError(
                f"num_frames: must be one more than a multiple of {size.frames_factor}, but got {frames}. "
                f"Use {fitting}."
            )
        asked = Size(
            self.native.height if size.height is None else size.height,
            self.native.width if size.width is None else size.width,
            factor=size.factor,
        )
        multiple = max(self.model.config.patch_size[1:])
        latent_frames = (frames - 1) // size.frames_factor + 1
        return (self.model.config.in_channels, latent_frames, *latent_grid(asked, 0, multiple))

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeddings, _ = pipeline.encode_prompt(
            prompt=list(prompts),
            do_classifier_free_guidance=False,
            max_sequence_length=call_default(pipeline, "max_sequence_length"),
        )
        return {"encoder_hidden_states": embeddings}

    def blank(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        return {"encoder_hidden_states": (num_tokens, self.model.config.text_dim)}
