"""Whole pipelines of diffusers around small random U-Nets, as `tiny_pipelines` has them around transformers."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from tiny_pipelines import TEXT, autoencoder, clip, clip_tokenizer
from transformers import CLIPTextModelWithProjection

SIZES = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}


def tiny_unet(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A pipeline by the name of its family: "ddpm", "sd" or "sdxl"; `changes` are of the U-Net's configuration."""
    torch.manual_seed(seed)
    pipeline = PIPELINES[kind](**changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ddpm(**changes: Any) -> Any:
    stages = {
        "block_out_channels": (8, 16, 16), "sample_size": 16, "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    model = UNet2DModel(**{**SIZES, **stages, **changes}).eval()
    return DDPMPipeline(model, DDPMScheduler())


def sd(**changes: Any) -> Any:
    stages = {
        "cross_attention_dim": TEXT, "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    model = UNet2DConditionModel(**{**SIZES, **stages, **changes}).eval()
    return StableDiffusionPipeline(
        autoencoder(), clip(), clip_tokenizer(), model, _scheduler(), None, None, requires_safety_checker=False
    )


def sdxl(**changes: Any) -> Any:
    stages = {
        "cross_attention_dim": 2 * TEXT, "attention_head_dim": 4, "transformer_layers_per_block": (1, 2),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": TEXT + 6 * 8,
    }  # fmt: skip
    model = UNet2DConditionModel(**{**SIZES, **stages, **changes}).eval()
    texts = (clip(), clip(CLIPTextModelWithProjection), clip_tokenizer(), clip_tokenizer())
    return StableDiffusionXLPipeline(autoencoder(), *texts, model, _scheduler(), add_watermarker=False)


def _scheduler() -> Any:
    """Stable Diffusion's."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


PIPELINES: dict[str, Callable[..., Any]] = {"ddpm": ddpm, "sd": sd, "sdxl": sdxl}
