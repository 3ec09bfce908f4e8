"""Whole pipelines of diffusers with small random networks, made here: nothing is downloaded.

Each has its own denoiser, autoencoder, text encoders, tokenizers and scheduler, so that it really runs and is saved and
loaded as any other.
"""

import string
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

TEXT = 16  # width of the text encoders


def tiny(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A pipeline by the name of its network.

    Args:
        kind: a key of `PIPELINES`.
        seed: of the random weights.
        changes: of the denoiser's configuration.
    """
    torch.manual_seed(seed)
    pipeline = PIPELINES[kind](**changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def t5_tokenizer() -> Any:
    """Letters, alone or at the start of a word."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in string.ascii_lowercase + " .,"]
    return T5TokenizerFast(vocab=[*pieces, *((f"▁{letter}", -3.0) for letter in string.ascii_lowercase)], extra_ids=0)


def clip_tokenizer() -> Any:
    """Letters, inside or at the end of a word."""
    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    names = [*words, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: index for index, name in enumerate(names)}, merges=[], model_max_length=24)


def t5() -> Any:
    sizes = {"vocab_size": 64, "d_model": TEXT, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes, dropout_rate=0.0)).eval()


def umt5() -> Any:
    sizes = {"vocab_size": 64, "d_model": TEXT, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return UMT5EncoderModel(UMT5Config(**sizes, dropout_rate=0.0)).eval()


def clip(kind: Any = CLIPTextModel, width: int = TEXT) -> Any:
    config = CLIPTextConfig(
        vocab_size=54, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, projection_dim=width, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    return kind(config).eval()


def autoencoder(channels: int = 4, **changes: Any) -> Any:
    """Two pixels a latent along height and width."""
    return AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=channels, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **changes,
    ).eval()  # fmt: skip


def dit(**changes: Any) -> Any:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 4, "sample_size": 8, "out_channels": 8}
    model = DiTTransformer2DModel(**{**sizes, **changes}).eval()
    return DiTPipeline(model, autoencoder(), DDIMScheduler(clip_sample=False))


def pixart(kind: Any, **changes: Any) -> Any:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 4, "sample_size": 8, "out_channels": 8}
    text = {"cross_attention_dim": 16, "caption_channels": TEXT}
    model = PixArtTransformer2DModel(**{**sizes, **text, **changes}).eval()
    return kind(t5_tokenizer(), t5(), autoencoder(), model, DPMSolverMultistepScheduler())


def sd3(**changes: Any) -> Any:
    sizes = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 4, "attention_head_dim": 8,
        "num_attention_heads": 2, "joint_attention_dim": 2 * TEXT, "caption_projection_dim": 16,
        "pooled_projection_dim": 2 * TEXT, "pos_embed_max_size": 8, "dual_attention_layers": (0,),
        "qk_norm": "rms_norm",
    }  # fmt: skip
    model = SD3Transformer2DModel(**{**sizes, **changes}).eval()
    t5_wide = T5EncoderModel(T5Config(vocab_size=64, d_model=2 * TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    texts = (clip(CLIPTextModelWithProjection), clip_tokenizer(), clip(CLIPTextModelWithProjection), clip_tokenizer())
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return StableDiffusion3Pipeline(
        model, scheduler, autoencoder(shift_factor=0.06), *texts, t5_wide.eval(), t5_tokenizer()
    )


def flux(**changes: Any) -> Any:
    sizes = {
        "in_channels": 16, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2,
        "joint_attention_dim": TEXT, "pooled_projection_dim": TEXT, "guidance_embeds": True,
        "axes_dims_rope": (4, 2, 2),
    }  # fmt: skip
    model = FluxTransformer2DModel(**{**sizes, **changes}).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return FluxPipeline(
        scheduler, autoencoder(shift_factor=0.06), clip(), clip_tokenizer(), t5(), t5_tokenizer(), model
    )


def wan_in_turns(**changes: Any) -> Any:
    """As Wan 2.2: another transformer takes the steps below time 800."""
    first, low = wan(**changes), wan(**changes).transformer
    parts = {name: part for name, part in first.components.items() if name != "transformer_2"}
    return WanPipeline(**parts, transformer_2=low, boundary_ratio=0.8)


def wan(**changes: Any) -> Any:
    sizes = {
        "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": TEXT,
        "freq_dim": 32, "ffn_dim": 32, "num_layers": 3,
    }  # fmt: skip
    model = WanTransformer3DModel(**{**sizes, **changes}).eval()
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.5, 2.0, 1.0, 1.2],
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return WanPipeline(t5_tokenizer(), umt5(), vae.eval(), scheduler, model)


PIPELINES: dict[str, Callable[..., Any]] = {
    "dit": dit,
    "pixart-alpha": lambda **changes: pixart(PixArtAlphaPipeline, **changes),
    "pixart-sigma": lambda **changes: pixart(PixArtSigmaPipeline, **changes),
    "sd3": sd3,
    "flux": flux,
    "wan": wan,
    "wan-2.2": wan_in_turns,
}
