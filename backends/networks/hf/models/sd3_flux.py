"""SD3 and FLUX in diffusers: chains of blocks with two streams, the prompt's tokens and the image's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ....network import NetworkInput
from ....schedule import Noise
from .base import FLOW, Architecture, Layout, Size, call_default, latent_grid


class _TwoStreams(Architecture):
    """A network of flow matching with two streams, and two embeddings of a prompt: of its tokens, and of the whole."""

    prediction: ClassVar[str] = "flow"
    noise: ClassVar[Noise] = FLOW

    def blank(self, num_tokens: int) -> dict[str, tuple[int, ...]]:
        config = self.model.config
        return {
            "encoder_hidden_states": (num_tokens, config.joint_attention_dim),
            "pooled_projections": (config.pooled_projection_dim,),
        }


class SD3(_TwoStreams):
    """`SD3Transformer2DModel`, Stable Diffusion 3 and 3.5 (Esser et al. 2024)."""

    num_tokens: ClassVar[int] = 77 + 256
    refused: ClassVar[Mapping[str, str]] = {
        "skip_layers": "skip-layer guidance",
        "block_controlnet_hidden_states": "a ControlNet",
    }

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeddings, _, pooled, _ = pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=call_default(pipeline, "max_sequence_length"),
        )
        return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}


class Flux(_TwoStreams):
    """`FluxTransformer2DModel`: blocks with two streams, then blocks with one, as one chain.

    Its pipelines sample packed latents, (N, tokens, 4 C): here a sample is (C, H, W), and two by two latents are packed
    into a token on the way in.
    """

    layout: Layout | None = "two-calls"
    num_tokens: ClassVar[int] = 512
    refused: ClassVar[Mapping[str, str]] = {
        "controlnet_block_samples": "a ControlNet",
        "controlnet_single_block_samples": "a ControlNet",
    }
    unbatched: frozenset[str] = frozenset({"img_ids", "txt_ids"})
    clocks: tuple[Callable[[Any], Any], ...] = (lambda time: time * 1000,)
    native: ClassVar[int] = 128  # latents a side that diffusers' pipeline takes where none are asked for

    @property
    def takes_guidance(self) -> bool:
        return self.model.config.guidance_embeds

    @property
    def embeds_scale(self) -> bool:
        return True

    def sample_shape(self, size: Size) -> tuple[int, ...]:
        return (self.model.config.in_channels // 4, *latent_grid(size, self.native, 2))

    def arguments(self, inputs: NetworkInput, given: Mapping[str, Tensor]) -> dict[str, Any]:
        x, tokens = inputs.x, given["encoder_hidden_states"].shape[1]
        return {
            "hidden_states": pack_latents(x),
            "timestep": inputs.time.to(x.dtype) / 1000,  # rounded as in the pipeline
            "guidance": None if inputs.guidance is None else inputs.guidance.float(),
            "txt_ids": x.new_zeros(tokens, 3),
            "img_ids": self._image_ids(x),
            **given,
        }

    def usual_sigmas(self, num_steps: int) -> list[float]:
        return [1 + (1 / num_steps - 1) * i / max(num_steps - 1, 1) for i in range(num_steps)]

    def _image_ids(self, x: Tensor) -> Tensor:
        """(tokens, 3): 0, row and column of each token."""
        rows, columns = (torch.arange(side // 2, device=x.device) for side in x.shape[-2:])
        grid = torch.stack([torch.zeros_like(rows[:, None] + columns), *torch.meshgrid(rows, columns, indexing="ij")])
        return grid.flatten(1).T.to(x.dtype)

    def output(self, output: Tensor, x: Tensor) -> Tensor:
        return unpack_latents(output, x.shape[-2], x.shape[-1])

    def encode(self, pipeline: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
        embeddings, pooled, _ = pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            max_sequence_length=call_default(pipeline, "max_sequence_length"),
        )
        return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}


def pack_latents(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H/2 · W/2, 4 C)."""
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, 4 * c)


def unpack_latents(tokens: Tensor, height: int, width: int) -> Tensor:
    """(N, H/2 · W/2, 4 C) -> (N, C, H, W)."""
    n, _, c = tokens.shape
    grid = tokens.view(n, height // 2, width // 2, c // 4, 2, 2)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(n, c // 4, height, width)
