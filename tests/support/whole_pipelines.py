"""Whole pipelines of diffusers with text encoders, small and random, for the whole loop: `WHOLE` has all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import other_pipelines
import tiny_pipelines
import tiny_unets
import torch
from other_pipelines import LIBRARY, other
from PIL import Image
from text_parts import (
    WIDTH,
    gemma,
    gemma_tokenizer,
    llama,
    llama_tokenizer,
    qwen3,
    qwen3_causal,
    qwen_tokenizer,
    qwen_vl,
)
from tiny_pipelines import autoencoder, clip, clip_tokenizer, t5_tokenizer
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
        image: whether it takes one, as its condition.
    """

    make: Callable[[], Any]
    sizes: Mapping[str, int] = field(default_factory=lambda: dict(_IMAGE))
    call: Mapping[str, Any] = field(default_factory=dict[str, Any])
    image: bool = False


def whole(kind: str) -> Any:
    """A pipeline by a key of `WHOLE`."""
    torch.manual_seed(0)
    pipeline = WHOLE[kind].make()
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def picture() -> Image.Image:
    """32 × 32 random pixels."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))


def _flow(**changes: Any) -> Any:
    return LIBRARY.FlowMatchEulerDiscreteScheduler(**changes)


def _t5() -> Any:
    return T5EncoderModel(T5Config(**_TEXT, dropout_rate=0.0))


def _qwen_vae() -> Any:
    return LIBRARY.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def _wan_vae(channels: int = 4) -> Any:
    return LIBRARY.AutoencoderKLWan(
        base_dim=3, z_dim=channels, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels, latents_std=[1.0] * channels,
    )  # fmt: skip


def _qwen_model() -> Any:
    return LIBRARY.QwenImageTransformer2DModel(
        **_SMALL, in_channels=16, out_channels=4, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6)
    )


def _qwen() -> Any:
    return LIBRARY.QwenImagePipeline(_flow(), _qwen_vae(), qwen_vl(), qwen_tokenizer(), _qwen_model())


def _flux2(kind: str = "Flux2Pipeline") -> Any:
    """Any causal model with as many layers as it reads stands in for Mistral's."""
    model = LIBRARY.Flux2Transformer2DModel(
        **_SMALL, in_channels=16, num_single_layers=3, joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4), guidance_embeds=kind == "Flux2Pipeline",
    )  # fmt: skip
    vae = LIBRARY.AutoencoderKLFlux2(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    text = qwen3_causal(num_hidden_layers=31)
    return getattr(LIBRARY, kind)(_flow(use_dynamic_shifting=True), vae, text, qwen_tokenizer(), model)


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


def _sana(video: bool = False) -> Any:
    if not video:
        pipe = other("sana")
        return LIBRARY.SanaPipeline(gemma_tokenizer(), gemma(), pipe.vae, pipe.transformer, _flow())
    model = LIBRARY.SanaVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=2, sample_size=4,
        num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=WIDTH,
    )  # fmt: skip
    return LIBRARY.SanaVideoPipeline(gemma_tokenizer(), gemma(), _wan_vae(), model, _flow())


def _z_image() -> Any:
    model = LIBRARY.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    # The padding that it learns is uninitialised memory in a new model.
    torch.nn.init.normal_(model.x_pad_token)
    torch.nn.init.normal_(model.cap_pad_token)
    return LIBRARY.ZImagePipeline(_flow(), autoencoder(shift_factor=0.1), qwen3(), qwen_tokenizer(), model)


def _cog_video(kind: str = "CogVideoXPipeline") -> Any:
    image = kind != "CogVideoXPipeline"
    model = LIBRARY.CogVideoXTransformer3DModel(
        **_SMALL, in_channels=8 if image else 4, out_channels=4, text_embed_dim=WIDTH, time_embed_dim=16,
        sample_width=16, sample_height=16, sample_frames=5, max_text_seq_length=226,
        use_rotary_positional_embeddings=image,
    )  # fmt: skip
    vae = LIBRARY.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    scheduler = LIBRARY.CogVideoXDDIMScheduler(snr_shift_scale=3.0, beta_schedule="scaled_linear", beta_end=0.012)
    return getattr(LIBRARY, kind)(t5_tokenizer(), _t5(), vae, model, scheduler)


def _lumina2() -> Any:
    model = LIBRARY.Lumina2Transformer2DModel(
        sample_size=4, in_channels=4, hidden_size=32, num_layers=2, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=2, multiple_of=16, axes_dim_rope=(4, 6, 6), axes_lens=(512, 32, 32), cap_feat_dim=WIDTH,
    )  # fmt: skip
    vae = autoencoder(shift_factor=0.1)
    return LIBRARY.Lumina2Pipeline(model, _flow(), vae, gemma(), gemma_tokenizer())


def _mochi() -> Any:
    model = LIBRARY.MochiTransformer3DModel(
        **_SMALL, in_channels=4, pooled_projection_dim=16, text_embed_dim=WIDTH, time_embed_dim=16
    )
    vae = LIBRARY.AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, latent_channels=4,
        layers_per_block=(1, 1, 1, 1, 1), latents_mean=None, latents_std=None,
        add_attention_block=(False,) * 5,
    )  # fmt: skip
    return LIBRARY.MochiPipeline(_flow(), vae, _t5(), t5_tokenizer(), model)


def _latte() -> Any:
    model = LIBRARY.LatteTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, patch_size=2,
        cross_attention_dim=32, caption_channels=WIDTH, sample_size=16, video_length=5, attention_bias=True,
        norm_type="ada_norm_single", activation_fn="gelu-approximate", norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return LIBRARY.LattePipeline(
        t5_tokenizer(), _t5(), autoencoder(), model, LIBRARY.DDIMScheduler(clip_sample=False)
    )


def _ovis() -> Any:
    model = LIBRARY.OvisImageTransformer2DModel(
        **_SMALL, in_channels=16, out_channels=16, num_single_layers=2, joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = autoencoder(shift_factor=0.1)
    return LIBRARY.OvisImagePipeline(_flow(use_dynamic_shifting=True), vae, qwen3(), qwen_tokenizer(), model)


def _prx() -> Any:
    from transformers import T5GemmaConfig, T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "query_pre_attn_scalar": 16}  # fmt: skip
    text = T5GemmaEncoder(T5GemmaConfig(encoder=T5GemmaModuleConfig(**sizes), decoder=T5GemmaModuleConfig(**sizes),
                                        is_encoder_decoder=False, vocab_size=512))  # fmt: skip
    model = LIBRARY.PRXTransformer2DModel(
        in_channels=4, context_in_dim=WIDTH, hidden_size=32, num_heads=2, depth=2, axes_dim=[8, 8], mlp_ratio=2.0
    )
    return LIBRARY.PRXPipeline(model, _flow(), text, gemma_tokenizer(), autoencoder(shift_factor=0.1), 32)


def _flux_kontext() -> Any:
    pipe = tiny_pipelines.tiny("flux")
    parts = (pipe.scheduler, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.text_encoder_2, pipe.tokenizer_2)
    return LIBRARY.FluxKontextPipeline(*parts, pipe.transformer)


def _ltx_image() -> Any:
    pipe = other("ltx")
    return LIBRARY.LTXImageToVideoPipeline(pipe.scheduler, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.transformer)


def _tiny(kind: str) -> Callable[[], Any]:
    return partial(tiny_pipelines.tiny, kind)


def _unet(kind: str) -> Callable[[], Any]:
    return partial(tiny_unets.tiny_unet, kind)


def _other(kind: str) -> Whole:
    return Whole(partial(other, kind), other_pipelines.SIZES[kind])


_PLAIN = {"use_resolution_binning": False}
WHOLE: Mapping[str, Whole] = {
    "pixart-alpha": Whole(_tiny("pixart-alpha"), {}, _PLAIN),
    "pixart-sigma": Whole(_tiny("pixart-sigma"), {}, _PLAIN),
    "sd3": Whole(_tiny("sd3"), {}),
    "flux": Whole(_tiny("flux")),
    "wan": Whole(_tiny("wan"), _VIDEO),
    "sd": Whole(_unet("sd"), {}),
    "sdxl": Whole(_unet("sdxl"), {}),
    "chroma": _other("chroma"),
    "aura-flow": _other("aura-flow"),
    "ltx": _other("ltx"),
    "cogview3": _other("cogview3"),
    "sana": Whole(_sana, {"height": 64, "width": 64}, _PLAIN),
    "qwen-image": Whole(_qwen),
    "flux2": Whole(_flux2, {"height": 64, "width": 64}),
    "flux2-klein": Whole(partial(_flux2, "Flux2KleinPipeline"), {"height": 64, "width": 64}),
    "hunyuan-video": Whole(_hunyuan_video, _VIDEO),
    "z-image": Whole(_z_image),
    "cogvideox": Whole(_cog_video, _VIDEO),
    "lumina2": Whole(_lumina2),
    "mochi": Whole(_mochi, {**_IMAGE, "num_frames": 7}),
    "latte": Whole(_latte, {**_IMAGE, "num_frames": 5}),
    "ovis": Whole(_ovis),
    "sana-video": Whole(partial(_sana, True), _VIDEO, _PLAIN),
    "prx": Whole(_prx, _IMAGE, _PLAIN),
    "flux-kontext": Whole(_flux_kontext, _IMAGE, {"_auto_resize": False}, image=True),
    "ltx-image": Whole(_ltx_image, other_pipelines.SIZES["ltx"], image=True),
    "cogvideox-image": Whole(partial(_cog_video, "CogVideoXImageToVideoPipeline"), _VIDEO, image=True),
}
