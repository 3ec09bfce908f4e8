"""Whole pipelines of diffusers with text encoders, small and random, for the whole loop: `WHOLE` has all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import other_pipelines
import tiny_pipelines
import torch
from other_pipelines import LIBRARY, other
from text_parts import (
    WIDTH,
    llama,
    llama_tokenizer,
    qwen3,
    qwen3_causal,
    qwen_tokenizer,
    qwen_vl,
)
from tiny_pipelines import autoencoder, clip, clip_tokenizer
from transformers import T5Config, T5EncoderModel

_SMALL = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
_IMAGE = {"height": 32, "width": 32}
_VIDEO = {**_IMAGE, "num_frames": 5}
_TEXT = {"vocab_size": 64, "d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


@dataclass(frozen=True)
class Whole:
    """A pipeline for the loop.

    Attributes:
        make: makes it.
        sizes: of its images, for the command line and its call.
        call: other arguments of its call.
    """

    make: Callable[[], Any]
    sizes: Mapping[str, int] = field(default_factory=lambda: dict(_IMAGE))
    call: Mapping[str, Any] = field(default_factory=dict[str, Any])


def whole(kind: str) -> Any:
    """A pipeline by a key of `WHOLE`."""
    torch.manual_seed(0)
    pipeline = WHOLE[kind].make()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def _flow(**changes: Any) -> Any:
    return LIBRARY.FlowMatchEulerDiscreteScheduler(**changes)


def _t5() -> Any:
    return T5EncoderModel(T5Config(**_TEXT, dropout_rate=0.0))


def _qwen_vae() -> Any:
    return LIBRARY.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def _qwen_model() -> Any:
    return LIBRARY.QwenImageTransformer2DModel(
        **_SMALL, in_channels=16, out_channels=4, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6)
    )


def _qwen() -> Any:
    return LIBRARY.QwenImagePipeline(_flow(), _qwen_vae(), qwen_vl(), qwen_tokenizer(), _qwen_model())


def _flux2() -> Any:
    """Any causal model with as many layers as it reads stands in for Mistral's."""
    model = LIBRARY.Flux2Transformer2DModel(
        **_SMALL, in_channels=16, num_single_layers=3, joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4), guidance_embeds=True,
    )  # fmt: skip
    vae = LIBRARY.AutoencoderKLFlux2(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    text = qwen3_causal(num_hidden_layers=31)
    return LIBRARY.Flux2Pipeline(_flow(use_dynamic_shifting=True), vae, text, qwen_tokenizer(), model)


def _clip() -> Any:
    """With 77 positions, to which HunyuanVideo pads."""
    small = clip(width=WIDTH)
    return type(small)(type(small.config)(**{**small.config.to_dict(), "max_position_embeddings": 77}))


def _hunyuan_video() -> Any:
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    pipe = other("hunyuan-video")
    texts = llama(), llama_tokenizer(DEFAULT_PROMPT_TEMPLATE["template"])
    parts = (pipe.transformer, pipe.vae, pipe.scheduler, _clip(), clip_tokenizer())
    return LIBRARY.HunyuanVideoPipeline(*texts, *parts)


def _z_image() -> Any:
    model = LIBRARY.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    # The padding that it learns is uninitialised memory in a new model.
    torch.nn.init.normal_(model.x_pad_token)
    torch.nn.init.normal_(model.cap_pad_token)
    return LIBRARY.ZImagePipeline(_flow(), autoencoder(shift_factor=0.1), qwen3(), qwen_tokenizer(), model)


def _ovis() -> Any:
    model = LIBRARY.OvisImageTransformer2DModel(
        **_SMALL, in_channels=16, out_channels=16, num_single_layers=2, joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = autoencoder(shift_factor=0.1)
    return LIBRARY.OvisImagePipeline(_flow(use_dynamic_shifting=True), vae, qwen3(), qwen_tokenizer(), model)


def _tiny(kind: str) -> Callable[[], Any]:
    return partial(tiny_pipelines.tiny, kind)


def _other(kind: str) -> Whole:
    return Whole(partial(other, kind), other_pipelines.SIZES[kind])


_PLAIN = {"use_resolution_binning": False}
WHOLE: Mapping[str, Whole] = {
    "sd3": Whole(_tiny("sd3"), {}),
    "flux": Whole(_tiny("flux")),
    "wan": Whole(_tiny("wan"), _VIDEO),
    "chroma": _other("chroma"),
    "aura-flow": _other("aura-flow"),
    "qwen-image": Whole(_qwen),
    "flux2": Whole(_flux2, {"height": 64, "width": 64}),
    "hunyuan-video": Whole(_hunyuan_video, _VIDEO),
    "z-image": Whole(_z_image),
    "ovis": Whole(_ovis),
}
