"""Whole pipelines of diffusers whose denoisers are not known by name, with small random networks."""

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import torch
from tiny_pipelines import autoencoder, clip, t5_tokenizer
from torch import Tensor
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

LIBRARY: Any = diffusers  # which exports its classes lazily
WIDTH = 32  # of text encoders
_TEXT = {
    "vocab_size": 64,
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_heads": 2,
    "dropout_rate": 0.0,
}
_SMALL = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}


def other(kind: str, seed: int = 0) -> Any:
    """A pipeline by a key of `OTHERS`."""
    torch.manual_seed(seed)
    pipeline = OTHERS[kind]()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def _t5() -> Any:
    return T5EncoderModel(T5Config(**_TEXT))


def _small(pipeline: Any) -> Any:
    """Called without sizes, it makes images of 32 pixels in place of 256, whose tokens took seconds."""
    pipeline.default_sample_size = 16
    return pipeline


def _chroma() -> Any:
    model = LIBRARY.ChromaTransformer2DModel(
        **_SMALL, in_channels=16, num_single_layers=3, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1,
    )  # fmt: skip
    scheduler, vae = LIBRARY.FlowMatchEulerDiscreteScheduler(), autoencoder(shift_factor=0.1)
    return _small(LIBRARY.ChromaPipeline(scheduler, vae, _t5(), t5_tokenizer(), model))


def _aura_flow() -> Any:
    model = LIBRARY.AuraFlowTransformer2DModel(
        num_mmdit_layers=2, num_single_dit_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, caption_projection_dim=WIDTH, pos_embed_max_size=64,
    )  # fmt: skip
    scheduler = LIBRARY.FlowMatchEulerDiscreteScheduler()
    return LIBRARY.AuraFlowPipeline(
        t5_tokenizer(), UMT5EncoderModel(UMT5Config(**_TEXT)), autoencoder(), model, scheduler
    )


def _ltx() -> Any:
    four, five = (8, 8, 8, 8), (1, 1, 1, 1, 1)
    vae = LIBRARY.AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=four, decoder_block_out_channels=four, layers_per_block=five,
        decoder_layers_per_block=five, spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, patch_size=1, patch_size_t=1,
    )  # fmt: skip
    model = LIBRARY.LTXVideoTransformer3DModel(
        **_SMALL, in_channels=8, out_channels=8, cross_attention_dim=WIDTH, caption_channels=WIDTH
    )
    scheduler = LIBRARY.FlowMatchEulerDiscreteScheduler()
    return LIBRARY.LTXPipeline(scheduler, vae, _t5(), t5_tokenizer(), model)


def _cogview() -> Any:
    model = LIBRARY.CogView3PlusTransformer2DModel(
        **_SMALL, text_embed_dim=WIDTH, time_embed_dim=16, condition_dim=8, sample_size=8, pos_embed_max_size=16
    )
    scheduler = LIBRARY.CogVideoXDDIMScheduler(snr_shift_scale=3.0)
    return LIBRARY.CogView3PlusPipeline(t5_tokenizer(), _t5(), autoencoder(16), model, scheduler)


def _embedded(base: Any, returned: Callable[[Tensor, bool], Any]) -> Any:
    """A pipeline's class whose prompts are embedded at random, in place of a text encoder of billions."""

    def encode_prompt(self: Any, prompt: Any, *args: Any, negative_prompt: Any = None, **kwargs: Any) -> Any:
        guided = kwargs.get("do_classifier_free_guidance", args[:1] == (True,))
        found = returned(_rows(prompt), guided)
        return (*found, *returned(_rows(negative_prompt or [""] * len(prompt)), guided)) if guided else found

    return type(base.__name__, (base,), {"encode_prompt": encode_prompt})


def _rows(prompts: list[str]) -> Tensor:
    """(N, 6, WIDTH): of each prompt its own."""
    seeds = [torch.Generator().manual_seed(sum(map(ord, prompt))) for prompt in prompts]
    return torch.stack([torch.randn(6, WIDTH, generator=seed) for seed in seeds])


def _ones(rows: Tensor) -> Tensor:
    return torch.ones(rows.shape[:2], dtype=torch.long)


def _sana() -> Any:
    stages: dict[str, Any] = {}
    for half in ("encoder", "decoder"):
        stages |= {f"{half}_block_types": "ResBlock", f"{half}_block_out_channels": (8, 8)}
        stages |= {f"{half}_layers_per_block": (1, 1), f"{half}_qkv_multiscales": ((), ())}
    vae = LIBRARY.AutoencoderDC(
        latent_channels=4, **stages, downsample_block_type="conv", upsample_block_type="interpolate"
    )
    model = LIBRARY.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3,
        num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=WIDTH,
    )  # fmt: skip
    kind = _embedded(
        LIBRARY.SanaPipeline, lambda rows, guided: (rows, _ones(rows)) if guided else (rows, _ones(rows), None, None)
    )
    return kind(None, _t5(), vae, model, LIBRARY.FlowMatchEulerDiscreteScheduler())


def _qwen() -> Any:
    model = LIBRARY.QwenImageTransformer2DModel(
        **_SMALL, in_channels=16, out_channels=4, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6)
    )
    vae = LIBRARY.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    kind = _embedded(LIBRARY.QwenImagePipeline, lambda rows, guided: (rows, _ones(rows)))
    return _small(kind(LIBRARY.FlowMatchEulerDiscreteScheduler(), vae, _t5(), None, model))


def _flux2() -> Any:
    model = LIBRARY.Flux2Transformer2DModel(
        **_SMALL, in_channels=16, num_single_layers=3, joint_attention_dim=WIDTH, timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip
    vae = LIBRARY.AutoencoderKLFlux2(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    kind = _embedded(LIBRARY.Flux2Pipeline, lambda rows, guided: (rows, torch.zeros(*rows.shape[:2], 4)))
    return kind(LIBRARY.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae, _t5(), None, model)


def _hunyuan_video() -> Any:
    model = LIBRARY.HunyuanVideoTransformer3DModel(
        **_SMALL, in_channels=4, out_channels=4, num_single_layers=2, num_refiner_layers=1, text_embed_dim=WIDTH,
        pooled_projection_dim=WIDTH, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    vae = LIBRARY.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    kind = _embedded(LIBRARY.HunyuanVideoPipeline, lambda rows, guided: (rows, rows[:, 0], _ones(rows)))
    scheduler = LIBRARY.FlowMatchEulerDiscreteScheduler(shift=7.0)
    return kind(_t5(), None, model, vae, scheduler, clip(), None)


OTHERS: Mapping[str, Callable[[], Any]] = {
    "chroma": _chroma,
    "aura-flow": _aura_flow,
    "ltx": _ltx,
    "cogview3": _cogview,
    "sana": _sana,
    "qwen-image": _qwen,
    "flux2": _flux2,
    "hunyuan-video": _hunyuan_video,
}
SIZES: Mapping[str, dict[str, int]] = {
    "chroma": {"height": 32, "width": 32},
    "aura-flow": {"height": 16, "width": 16},
    "ltx": {"height": 32, "width": 32, "num_frames": 9},
    "cogview3": {"height": 16, "width": 16},
    "sana": {"height": 64, "width": 64},
    "qwen-image": {"height": 32, "width": 32},
    "flux2": {"height": 64, "width": 64},
    "hunyuan-video": {"height": 32, "width": 32, "num_frames": 5},
}
