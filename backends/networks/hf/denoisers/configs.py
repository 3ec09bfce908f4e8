"""What is particular about the configuration of a class of diffusers.

A class that is not here is made small by the rules of `tiny`. An entry has what
these rules can't see: values that must fit each other, or a structure where the class's own default is none.
"""

from collections.abc import Mapping
from typing import Any

from .example import FRAMES, GRID, HEAD, PROMPT, WIDTH

_UNET = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
_VIDEO_UNET = _UNET | {
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}
_COGVIDEO = {"max_text_seq_length": PROMPT, "sample_frames": 5}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "AceStepTransformer1DModel": {"in_channels": 24, "audio_acoustic_hidden_dim": 8},
    "BriaFibo2Transformer2DModel": {
        "injection_layer_ids": (1, 3),
        "min_num_gist_tokens": 4,
        "max_num_gist_tokens": 8,
        "gist_step": 2,
        "gist_min_text_len": 4,
        "gist_max_text_len": 16,
    },
    "CogVideoXTransformer3DModel": _COGVIDEO,
    "CogView4Transformer2DModel": {"rope_axes_dim": (8, 8)},
    "ConsisIDTransformer3DModel": _COGVIDEO
    | {"LFE_depth": 5, "LFE_num_scale": 1, "LFE_output_dim": 21, "is_train_face": True},
    "Cosmos3OmniTransformer": {
        "num_key_value_heads": 2,
        "rope_axes_dim": (2, 3, 3),
        "latent_channel": 4,
        "patch_latent_dim": 16,
    },
    "DreamLiteUNetModel": {
        "block_out_channels": (8, 16),
        "down_block_types": ("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        "up_block_types": ("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
        "attention_head_dim": 4,
    },
    "EasyAnimateTransformer3DModel": {"in_channels": 4, "out_channels": 4, "patch_size": 2},
    "HiDreamImageTransformer2DModel": {
        "patch_size": 2,
        "in_channels": 4,
        "caption_channels": [WIDTH, WIDTH],
        "axes_dims_rope": (4, 6, 6),
        "llama_layers": list(range(8)),
        "force_inference_output": True,
    },
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2},
    "HunyuanVideo15Transformer3DModel": {"task_type": "t2v"},
    "HunyuanVideoFramepackTransformer3DModel": {"has_image_proj": True, "has_clean_x_embedder": True},
    "I2VGenXLUNet": _VIDEO_UNET,
    "Ideogram4Transformer2DModel": {"mrope_section": (4, 2, 2)},
    "Kandinsky3UNet": {"block_out_channels": (8, 8, 8, 8), "groups": 4, "attention_head_dim": 4},
    "LatteTransformer3DModel": {
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 3,
        "patch_size": 2,
        "caption_channels": WIDTH,
        "cross_attention_dim": WIDTH,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "video_length": FRAMES,
    },
    "LuminaNextDiT2DModel": {"num_kv_heads": 2},
    "MiniMaxH3Transformer3DModel": {"rope_freq_dim": 2},
    "MiniMaxMusic3Transformer1DModel": {"rotary_dim": 8},
    "PixArtTransformer2DModel": {"use_additional_conditions": False},
    "PRXTransformer2DModel": {"axes_dim": [8, 8]},
    "OmniGenTransformer2DModel": {"rope_scaling": {"long_factor": [1] * 8, "short_factor": [1] * 8}, "pad_token_id": 0},
    "StableCascadeUNet": {
        "block_out_channels": (8, 8),
        "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 2),
        "up_num_layers_per_block": (2, 1),
    },
    "T5FilmDecoder": {"d_model": WIDTH, "num_heads": 2, "d_kv": HEAD, "targets_length": GRID, "input_dims": 8},
    "UNet1DModel": {"extra_in_channels": 64, "block_out_channels": (32, 32, 64)},
    "UNet2DModel": _UNET
    | {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
    "UNet2DConditionModel": _UNET
    | {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "UNet3DConditionModel": _VIDEO_UNET,
    "UNetMotionModel": {
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "num_attention_heads": 2,
        "motion_num_attention_heads": 2,
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    },
    "UNetSpatioTemporalConditionModel": {
        "block_out_channels": (32, 64),
        "num_attention_heads": (2, 2),
        "projection_class_embeddings_input_dim": 96,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "addition_time_embed_dim": 32,
    },
    "WanAnimateTransformer3DModel": {
        "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16},
        "motion_encoder_size": 16,
        "motion_dim": 4,
        "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 2,
    },
    "WanVACETransformer3DModel": {"vace_layers": [0, 2]},
}
