"""Whole pipelines of diffusers whose denoisers are not known by name, with small random networks."""

from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import torch
from tiny_pipelines import autoencoder, t5_tokenizer
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


def _chroma() -> Any:
    model = LIBRARY.ChromaTransformer2DModel(
        **_SMALL, in_channels=16, num_single_layers=3, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
        approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1,
    )  # fmt: skip
    scheduler, vae = LIBRARY.FlowMatchEulerDiscreteScheduler(), autoencoder(shift_factor=0.1)
    return LIBRARY.ChromaPipeline(scheduler, vae, _t5(), t5_tokenizer(), model)


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


def _latte() -> Any:
    model = LIBRARY.LatteTransformer3DModel(
        **_SMALL, in_channels=4, out_channels=8, patch_size=2, sample_size=8, caption_channels=WIDTH, video_length=4,
        cross_attention_dim=WIDTH, norm_type="ada_norm_single", activation_fn="gelu-approximate",
        attention_bias=True, norm_elementwise_affine=False,
    )  # fmt: skip
    scheduler = LIBRARY.DDIMScheduler(clip_sample=False)
    return LIBRARY.LattePipeline(t5_tokenizer(), _t5(), autoencoder(), model, scheduler)


OTHERS: Mapping[str, Callable[[], Any]] = {
    "chroma": _chroma,
    "aura-flow": _aura_flow,
    "ltx": _ltx,
    "cogview3": _cogview,
}
SIZES: Mapping[str, dict[str, int]] = {
    "chroma": {"height": 32, "width": 32},
    "aura-flow": {"height": 16, "width": 16},
    "ltx": {"height": 32, "width": 32, "num_frames": 9},
    "cogview3": {"height": 16, "width": 16},
}
