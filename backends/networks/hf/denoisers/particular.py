"""What is particular about the configuration of a class of diffusers, or about what its forward takes.

A class that is not here is made and called by the rules of `tiny` and `inputs` alone. An entry has what these rules
can't see: values that must fit each other, and arguments whose form no name tells.
"""

from collections.abc import Mapping
from typing import Any

import torch

from .example import FRAMES, GRID, HEAD, PROMPT, SIDE, WIDTH, Example, Maker

# What goes on in the outputs of a block, in their order, where neither diffusers' registry nor a look can tell.
STATES: Mapping[str, tuple[str, ...]] = {"CosmosTransformerBlock": ("hidden_states",)}

_UNET = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
_VIDEO_UNET = _UNET | {
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"), "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}  # fmt: skip
_COGVIDEO = {"max_text_seq_length": PROMPT, "sample_frames": 5}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "AceStepTransformer1DModel": {"in_channels": 24, "audio_acoustic_hidden_dim": 8},
    "BriaFibo2Transformer2DModel": {
        "injection_layer_ids": (1, 3), "min_num_gist_tokens": 4, "max_num_gist_tokens": 8, "gist_step": 2,
        "gist_min_text_len": 4, "gist_max_text_len": 16,
    },
    "CogVideoXTransformer3DModel": _COGVIDEO,
    "CogView4Transformer2DModel": {"rope_axes_dim": (8, 8)},
    "ConsisIDTransformer3DModel": _COGVIDEO | {"LFE_depth": 5, "LFE_num_scale": 1, "LFE_output_dim": 21, "is_train_face": True},
    "Cosmos3OmniTransformer": {"num_key_value_heads": 2, "rope_axes_dim": (2, 3, 3), "latent_channel": 4, "patch_latent_dim": 16},
    "DreamLiteUNetModel": {
        "block_out_channels": (8, 16), "down_block_types": ("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        "up_block_types": ("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"), "attention_head_dim": 4,
    },
    "EasyAnimateTransformer3DModel": {"in_channels": 4, "out_channels": 4, "patch_size": 2},
    "HiDreamImageTransformer2DModel": {
        "patch_size": 2, "in_channels": 4, "caption_channels": [WIDTH, WIDTH], "axes_dims_rope": (4, 6, 6),
        "llama_layers": list(range(8)), "force_inference_output": True,
    },
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2},
    "HunyuanVideo15Transformer3DModel": {"task_type": "t2v"},
    "HunyuanVideoFramepackTransformer3DModel": {"has_image_proj": True, "has_clean_x_embedder": True},
    "I2VGenXLUNet": _VIDEO_UNET,
    "Ideogram4Transformer2DModel": {"mrope_section": (4, 2, 2)},
    "Kandinsky3UNet": {"block_out_channels": (8, 8, 8, 8), "groups": 4, "attention_head_dim": 4},
    "LatteTransformer3DModel": {
        "in_channels": 4, "out_channels": 8, "num_layers": 3, "patch_size": 2, "caption_channels": WIDTH,
        "cross_attention_dim": WIDTH, "attention_bias": True, "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_single", "norm_elementwise_affine": False, "video_length": FRAMES,
    },
    "LuminaNextDiT2DModel": {"num_kv_heads": 2},
    "MiniMaxH3Transformer3DModel": {"in_channels": 4, "audio_in_channels": 6, "rope_freq_dim": 2},
    "MiniMaxMusic3Transformer1DModel": {"rotary_dim": 8},
    "PRXTransformer2DModel": {"axes_dim": [8, 8]},
    "OmniGenTransformer2DModel": {"rope_scaling": {"long_factor": [1] * 8, "short_factor": [1] * 8}, "pad_token_id": 0},
    "StableCascadeUNet": {
        "block_out_channels": (8, 8), "num_attention_heads": (2, 2), "down_num_layers_per_block": (1, 2),
        "up_num_layers_per_block": (2, 1),
    },
    "T5FilmDecoder": {"d_model": WIDTH, "num_heads": 2, "d_kv": HEAD, "targets_length": GRID, "input_dims": 8},
    "UNet1DModel": {"extra_in_channels": 64, "block_out_channels": (32, 32, 64)},
    "UNet2DModel": _UNET | {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
    "UNet2DConditionModel": _UNET | {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "UNet3DConditionModel": _VIDEO_UNET,
    "UNetMotionModel": {
        "block_out_channels": (8, 16), "norm_num_groups": 4, "num_attention_heads": 2, "motion_num_attention_heads": 2,
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    },
    "UNetSpatioTemporalConditionModel": {
        "block_out_channels": (32, 64), "num_attention_heads": (2, 2), "projection_class_embeddings_input_dim": 96,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "addition_time_embed_dim": 32,
    },
    "WanAnimateTransformer3DModel": {
        "in_channels": 12, "latent_channels": 4, "out_channels": 4, "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16},
        "motion_encoder_size": 16, "motion_dim": 4, "face_encoder_num_heads": 2, "inject_face_latents_blocks": 2,
    },
    "WanVACETransformer3DModel": {"vace_layers": [0, 2], "vace_in_channels": 48},
}  # fmt: skip


def _after(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _frames_first(given: Example) -> torch.Tensor:
    """(N, T, C, H, W)."""
    return given.noise(FRAMES, given.channels, GRID, GRID)


def _channels_last(given: Example) -> torch.Tensor:
    """(N, T, H, W, C), with what Kandinsky puts beside the noisy channels."""
    channels = given.channels * (2 if given.get("visual_cond") is not False else 1) + bool(
        given.get("visual_cond") is not False
    )
    return given.noise(FRAMES, GRID, GRID, channels)


def _sequence(given: Example) -> torch.Tensor:
    """(N, C, L)."""
    return given.noise(given.channels, 16)


def _video_tokens(given: Example) -> torch.Tensor:
    return given.noise(FRAMES * SIDE * SIDE, given.channels)


def _rotary(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines for a sequence, (L, channels of a head) each."""
    angles = torch.arange(length)[:, None] * torch.linspace(1, 0.1, HEAD)
    return angles.cos(), angles.sin()


_GRID_OF_VIDEO: Mapping[str, Maker] = {
    "num_frames": lambda given: FRAMES, "height": lambda given: SIDE, "width": lambda given: SIDE,
}  # fmt: skip
_KANDINSKY: Mapping[str, Maker] = {"hidden_states": _channels_last}
INPUTS: Mapping[str, Mapping[str, Maker]] = {
    "AceStepTransformer1DModel": {
        "hidden_states": lambda given: given.noise(16, 8), "context_latents": lambda given: given.fixed(16, 16),
    },
    "AnyFlowTransformer3DModel": {
        "hidden_states": _frames_first, "timestep": lambda given: given.full(0.5, FRAMES),
        "r_timestep": lambda given: given.full(0.25, FRAMES),
    },
    "AnyFlowFARTransformer3DModel": {
        "hidden_states": lambda given: given.noise(4, given.channels, GRID, GRID),
        "timestep": lambda given: given.full(0.5, 4), "r_timestep": lambda given: given.full(0.25, 4),
        "chunk_partition": lambda given: [2, 2],
    },
    "BriaFiboTransformer2DModel": {"text_encoder_layers": lambda given: [given.prompt()] * 8},
    "BriaFibo2Transformer2DModel": {"encoder_hidden_states": lambda given: given.prompt(3, PROMPT)},
    "CogVideoXTransformer3DModel": {"hidden_states": _frames_first},
    "ConsisIDTransformer3DModel": {
        "hidden_states": _frames_first, "id_cond": lambda given: given.fixed(WIDTH),
        "id_vit_hidden": lambda given: [given.fixed(2, WIDTH)],
    },
    "Cosmos3OmniTransformer": {
        "input_ids": lambda given: torch.tensor([1, 2]), "text_indexes": lambda given: torch.tensor([0, 1]),
        "position_ids": lambda given: torch.arange(6).expand(3, 6), "und_len": lambda given: 2, "sequence_length": lambda given: 6,
        "vision_tokens": lambda given: [given.noise(4, 1, 4, 4)[:1]], "vision_token_shapes": lambda given: [(1, 2, 2)],
        "vision_sequence_indexes": lambda given: torch.arange(2, 6), "vision_mse_loss_indexes": lambda given: torch.arange(2, 6),
        "vision_timesteps": lambda given: torch.ones(4), "vision_noisy_frame_indexes": lambda given: [torch.tensor([0])],
    },
    "CosmosTransformer3DModel": {"padding_mask": lambda given: torch.zeros(1, 1, GRID, GRID), "fps": lambda given: 30},
    "ErnieImageTransformer2DModel": {
        "text_bth": Example.prompt, "text_lens": lambda given: given.whole() * PROMPT,
    },
    "GlmImageTransformer2DModel": {
        "prior_token_id": lambda given: given.whole(SIDE * SIDE), "prior_token_drop": lambda given: given.whole(SIDE * SIDE) == 0,
    },
    "HiDreamImageTransformer2DModel": {
        "hidden_states": lambda given: given.noise(given.channels, GRID, GRID), "img_ids": lambda given: None,
        "encoder_hidden_states_t5": Example.prompt,
        "encoder_hidden_states_llama3": lambda given: given.prompt(8, PROMPT).transpose(0, 1),
    },
    "HunyuanDiT2DModel": {
        "encoder_hidden_states": lambda given: given.prompt(77), "text_embedding_mask": lambda given: given.ones(77),
        "encoder_hidden_states_t5": lambda given: given.prompt(256), "text_embedding_mask_t5": lambda given: given.ones(256),
        "image_meta_size": lambda given: given.full(64.0, 6), "style": lambda given: given.whole() * 0,
        "image_rotary_emb": lambda given: _rotary(SIDE * SIDE),
    },
    "HunyuanVideo15Transformer3DModel": {
        "encoder_hidden_states_2": lambda given: given.prompt(4), "encoder_attention_mask_2": lambda given: given.ones(4),
        "image_embeds": lambda given: given.fixed(3, WIDTH) * 0,
    },
    "HunyuanVideoFramepackTransformer3DModel": {
        "image_embeds": Example.prompt, "indices_latents": lambda given: torch.arange(float(FRAMES)),
        "latents_clean": lambda given: given.fixed(given.channels, 2, GRID, GRID), "indices_latents_clean": lambda given: torch.arange(2.0),
        "latents_history_2x": lambda given: given.fixed(given.channels, 2, GRID, GRID), "indices_latents_history_2x": lambda given: torch.arange(2.0),
        "latents_history_4x": lambda given: given.fixed(given.channels, 4, GRID, GRID), "indices_latents_history_4x": lambda given: torch.arange(4.0),
    },
    "I2VGenXLUNet": {
        "sample": lambda given: given.noise(4, FRAMES, GRID, GRID), "fps": lambda given: given.whole() * 8,
        "image_latents": lambda given: given.fixed(4, FRAMES, GRID, GRID), "image_embeddings": lambda given: given.fixed(WIDTH),
    },
    "Ideogram4Transformer2DModel": {
        "hidden_states": lambda given: torch.cat([given.fixed(4, given.channels) * 0, given.noise(4, given.channels)], dim=1),
        "encoder_hidden_states": lambda given: given.prompt(8), "position_ids": lambda given: torch.arange(8).view(1, 8, 1).expand(given.rows, 8, 3),
        "segment_ids": lambda given: given.whole(8), "indicator": lambda given: torch.cat([given.whole(4) * 3, given.whole(4) * 2], dim=1),
    },
    "JoyImageEditPlusTransformer3DModel": {
        "hidden_states": lambda given: given.noise(2, given.channels, 1, 2, 2),
        "shape_list": lambda given: [[(1, 1, 1), (1, 1, 1)]] * given.rows,
    },
    "Kandinsky3UNet": {"encoder_attention_mask": lambda given: given.ones(PROMPT)},
    "Kandinsky5Transformer3DModel": _KANDINSKY | {
        "visual_rope_pos": lambda given: [torch.arange(FRAMES), torch.arange(SIDE), torch.arange(SIDE)],
        "text_rope_pos": lambda given: torch.arange(PROMPT),
    },
    "Kandinsky6Transformer3DModel": _KANDINSKY | {"audio_hidden_states": lambda given: given.noise(9, WIDTH)},
    "Kandinsky6SRTransformer3DModel": {"hidden_states": lambda given: given.noise(FRAMES, GRID, GRID, 2 * WIDTH + 1)},
    "Krea2Transformer2DModel": {
        "hidden_states": lambda given: given.noise(SIDE * SIDE, given.channels),
        "encoder_hidden_states": lambda given: given.prompt(PROMPT, given.get("num_text_layers")),
        "position_ids": lambda given: torch.cat([torch.zeros(PROMPT, 3), given.coordinates()]),
    },
    "LongCatAudioDiTTransformer": {"hidden_states": lambda given: given.noise(16, given.channels)},
    "LTXVideoTransformer3DModel": _GRID_OF_VIDEO | {"hidden_states": _video_tokens},
    "LTX2VideoTransformer3DModel": _GRID_OF_VIDEO | {
        "hidden_states": _video_tokens, "audio_hidden_states": lambda given: given.noise(9, given.get("audio_in_channels")),
        "audio_encoder_hidden_states": Example.prompt, "audio_num_frames": lambda given: 9,
    },
    "LuminaNextDiT2DModel": {"cross_attention_kwargs": lambda given: {}, "image_rotary_emb": lambda given: torch.polar(torch.ones(384, 384, 8), torch.rand(384, 384, 8, generator=_after(0)))},
    "MiniMaxH3Transformer3DModel": {
        "hidden_states": lambda given: given.noise(8, 16), "audio_hidden_states": lambda given: given.noise(4, 6),
        "timestep_indices": lambda given: torch.zeros(18, dtype=torch.long), "token_tags": lambda given: torch.tensor([0] * 6 + [1] * 8 + [2] * 4),
        "position_ids": lambda given: torch.arange(18.0)[:, None].expand(18, 3), "text_indices": lambda given: torch.arange(6),
        "video_indices": lambda given: torch.arange(6, 14), "audio_indices": lambda given: torch.arange(14, 18),
    },
    "MiniMaxMusic3Transformer1DModel": {
        "hidden_states": _sequence, "encoder_hidden_states": lambda given: given.prompt(16),
    },
    "OmniGenTransformer2DModel": {
        "input_ids": lambda given: given.whole(PROMPT), "input_img_latents": lambda given: [], "input_image_sizes": lambda given: {},
        "attention_mask": lambda given: given.full(1.0, PROMPT + 17, PROMPT + 17), "position_ids": lambda given: torch.arange(PROMPT + 17).expand(given.rows, -1),
    },
    "PriorTransformer": {
        "hidden_states": lambda given: given.noise(WIDTH), "proj_embedding": lambda given: given.fixed(WIDTH),
        "encoder_hidden_states": lambda given: given.prompt(given.get("num_embeddings")),
    },
    "QwenImage21Transformer2DModel": {
        "img_mask": lambda given: torch.cat([given.ones(PROMPT) == 0, given.ones(SIDE)], dim=1),
    },
    "SanaWMTransformer3DModel": {
        "timestep": lambda given: given.full(500.0, 1, FRAMES), "encoder_hidden_states": lambda given: given.prompt(1, PROMPT),
        "encoder_attention_mask": lambda given: given.ones(PROMPT),
    },
    "SanaWMLTX2RefinerTransformer3DModel": {
        "hidden_states": _video_tokens, "timestep": lambda given: given.full(0.5, FRAMES * SIDE * SIDE),
        "video_rotary_emb": lambda given: tuple(each[None, :, None].expand(1, -1, 2, -1).flatten(2) for each in _rotary(FRAMES * SIDE * SIDE)),
    },
    "StableAudioDiTModel": {
        "hidden_states": _sequence, "global_hidden_states": lambda given: given.prompt(1),
        "rotary_embedding": lambda given: tuple(each[:, : HEAD // 2] for each in _rotary(17)),
    },
    "StableAudio3DiTModel": {"hidden_states": _sequence},
    "StableCascadeUNet": {"timestep_ratio": lambda given: given.full(0.5), "clip_text_pooled": lambda given: given.prompt(1)},
    "T5FilmDecoder": {
        "encodings_and_masks": lambda given: [(given.prompt(), given.ones(PROMPT))],
        "decoder_input_tokens": lambda given: given.noise(GRID, 8), "decoder_noise_time": lambda given: given.full(0.5),
    },
    "UNet1DModel": {"sample": lambda given: given.noise(2, 256)},
    "UNet2DModel": {"class_labels": lambda given: None},
    "UNetMotionModel": {"sample": lambda given: given.noise(4, FRAMES, GRID, GRID), "encoder_hidden_states": lambda given: given.prompt().repeat_interleave(FRAMES, 0)},
    "UNet3DConditionModel": {"sample": lambda given: given.noise(4, FRAMES, GRID, GRID)},
    "UNetSpatioTemporalConditionModel": {
        "sample": lambda given: given.noise(FRAMES, 8, GRID, GRID), "encoder_hidden_states": lambda given: given.prompt(1),
        "added_time_ids": lambda given: given.full(1.0, 3),
    },
    "WanAnimateTransformer3DModel": {
        "hidden_states": lambda given: given.noise(12, 3, GRID, GRID), "pose_hidden_states": lambda given: given.fixed(4, 2, GRID, GRID),
        "face_pixel_values": lambda given: given.fixed(3, 5, 16, 16), "encoder_hidden_states_image": Example.prompt,
    },
    "WanVACETransformer3DModel": {"control_hidden_states": lambda given: given.fixed(48, FRAMES, GRID, GRID)},
    "ZImageTransformer2DModel": {
        "x": lambda given: list(given.noise(given.channels, 1, GRID, GRID)), "cap_feats": lambda given: list(given.prompt()),
    },
}  # fmt: skip
