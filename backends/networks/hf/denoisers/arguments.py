"""What is particular about the arguments of a class's forward, beyond what their names tell (`inputs`)."""

from collections.abc import Mapping

import torch

from .example import FRAMES, GRID, HEAD, PROMPT, SIDE, WIDTH, Example, Maker


def _frames_first(given: Example) -> torch.Tensor:
    """(N, T, C, H, W)."""
    return given.noise(FRAMES, given.channels, GRID, GRID)


def _channels_last(given: Example) -> torch.Tensor:
    """(N, T, H, W, C), with what Kandinsky puts beside the noisy channels."""
    channels = given.channels * (2 if given.get("visual_cond") is not False else 1) + bool(
        given.get("visual_cond") is not False
    )
    return given.noise(FRAMES, GRID, GRID, channels)


def _depth(given: Example) -> int:
    """How many blocks it has."""
    return given.get("num_layers") + given.get("num_single_layers")


def _sequence(given: Example) -> torch.Tensor:
    """(N, C, L)."""
    return given.noise(given.channels, 16)


def _video_tokens(given: Example) -> torch.Tensor:
    return given.noise(FRAMES * SIDE * SIDE, given.channels)


def rotary(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines for a sequence, (L, channels of a head) each."""
    angles = torch.arange(length)[:, None] * torch.linspace(1, 0.1, HEAD)
    return angles.cos(), angles.sin()


_GRID_OF_VIDEO: Mapping[str, Maker] = {
    "num_frames": lambda given: FRAMES,
    "height": lambda given: SIDE,
    "width": lambda given: SIDE,
}
_KANDINSKY: Mapping[str, Maker] = {"hidden_states": _channels_last}
INPUTS: Mapping[str, Mapping[str, Maker]] = {
    "AceStepTransformer1DModel": {
        "hidden_states": lambda given: given.noise(16, 8),
        "context_latents": lambda given: given.fixed(16, 16),
    },
    "AnyFlowTransformer3DModel": {
        "hidden_states": _frames_first,
        "timestep": lambda given: given.full(0.5, FRAMES),
        "r_timestep": lambda given: given.full(0.25, FRAMES),
    },
    "AnyFlowFARTransformer3DModel": {
        "hidden_states": lambda given: given.noise(4, given.channels, GRID, GRID),
        "timestep": lambda given: given.full(0.5, 4),
        "r_timestep": lambda given: given.full(0.25, 4),
        "chunk_partition": lambda given: [2, 2],
    },
    "BriaFiboTransformer2DModel": {"text_encoder_layers": lambda given: [given.prompt()] * _depth(given)},
    "BriaFibo2Transformer2DModel": {"encoder_hidden_states": lambda given: given.prompt(3, PROMPT)},
    "CogVideoXTransformer3DModel": {
        "hidden_states": _frames_first,
        "ofs": lambda given: given.full(2.0) if given.get("ofs_embed_dim") else None,
    },
    "ConsisIDTransformer3DModel": {
        "hidden_states": _frames_first,
        "id_cond": lambda given: given.fixed(WIDTH),
        "id_vit_hidden": lambda given: [given.fixed(2, WIDTH)],
    },
    "Cosmos3OmniTransformer": {
        "input_ids": lambda given: torch.tensor([1, 2]),
        "text_indexes": lambda given: torch.tensor([0, 1]),
        "position_ids": lambda given: torch.arange(6).expand(3, 6),
        "und_len": lambda given: 2,
        "sequence_length": lambda given: 6,
        "vision_tokens": lambda given: [given.noise(4, 1, 4, 4)[:1]],
        "vision_token_shapes": lambda given: [(1, 2, 2)],
        "vision_sequence_indexes": lambda given: torch.arange(2, 6),
        "vision_mse_loss_indexes": lambda given: torch.arange(2, 6),
        "vision_timesteps": lambda given: torch.ones(4),
        "vision_noisy_frame_indexes": lambda given: [torch.tensor([0])],
    },
    "CosmosTransformer3DModel": {"padding_mask": lambda given: torch.zeros(1, 1, GRID, GRID), "fps": lambda given: 30},
    "ErnieImageTransformer2DModel": {
        "text_bth": Example.prompt,
        "text_lens": lambda given: given.whole() * PROMPT,
    },
    "GlmImageTransformer2DModel": {
        "prior_token_id": lambda given: given.whole(SIDE * SIDE),
        "prior_token_drop": lambda given: given.whole(SIDE * SIDE) == 0,
    },
    "HiDreamImageTransformer2DModel": {
        "hidden_states": lambda given: given.noise(given.channels, GRID, GRID),
        "img_ids": lambda given: None,
        "encoder_hidden_states_t5": Example.prompt,
        "encoder_hidden_states_llama3": lambda given: given.prompt(
            1 + max(given.get("llama_layers")), PROMPT
        ).transpose(0, 1),
    },
    "HunyuanDiT2DModel": {
        "encoder_hidden_states": lambda given: given.prompt(77),
        "text_embedding_mask": lambda given: given.ones(77),
        "encoder_hidden_states_t5": lambda given: given.prompt(256),
        "text_embedding_mask_t5": lambda given: given.ones(256),
        "image_meta_size": lambda given: given.full(64.0, 6),
        "style": lambda given: given.whole() * 0,
        "image_rotary_emb": lambda given: rotary(SIDE * SIDE),
    },
    "HunyuanVideo15Transformer3DModel": {
        "encoder_hidden_states_2": lambda given: given.prompt(4),
        "encoder_attention_mask_2": lambda given: given.ones(4),
        "image_embeds": lambda given: given.fixed(3, WIDTH) * 0,
    },
    "HunyuanVideoFramepackTransformer3DModel": {
        "image_embeds": Example.prompt,
        "indices_latents": lambda given: torch.arange(float(FRAMES)),
        "latents_clean": lambda given: given.fixed(given.channels, 2, GRID, GRID),
        "indices_latents_clean": lambda given: torch.arange(2.0),
        "latents_history_2x": lambda given: given.fixed(given.channels, 2, GRID, GRID),
        "indices_latents_history_2x": lambda given: torch.arange(2.0),
        "latents_history_4x": lambda given: given.fixed(given.channels, 4, GRID, GRID),
        "indices_latents_history_4x": lambda given: torch.arange(4.0),
    },
    "I2VGenXLUNet": {
        "sample": lambda given: given.noise(4, FRAMES, GRID, GRID),
        "fps": lambda given: given.whole() * 8,
        "image_latents": lambda given: given.fixed(4, FRAMES, GRID, GRID),
        "image_embeddings": lambda given: given.fixed(WIDTH),
    },
    "Ideogram4Transformer2DModel": {
        "hidden_states": lambda given: torch.cat(
            [given.fixed(4, given.channels) * 0, given.noise(4, given.channels)], dim=1
        ),
        "encoder_hidden_states": lambda given: given.prompt(8),
        "position_ids": lambda given: torch.arange(8).view(1, 8, 1).expand(given.rows, 8, 3),
        "segment_ids": lambda given: given.whole(8),
        "indicator": lambda given: torch.cat([given.whole(4) * 3, given.whole(4) * 2], dim=1),
    },
    "JoyImageEditPlusTransformer3DModel": {
        "hidden_states": lambda given: given.noise(2, given.channels, 1, 2, 2),
        "shape_list": lambda given: [[(1, 1, 1), (1, 1, 1)]] * given.rows,
    },
    "Kandinsky3UNet": {"encoder_attention_mask": lambda given: given.ones(PROMPT)},
    "Kandinsky5Transformer3DModel": _KANDINSKY
    | {
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
    "LTX2VideoTransformer3DModel": _GRID_OF_VIDEO
    | {
        "hidden_states": _video_tokens,
        "audio_hidden_states": lambda given: given.noise(9, given.get("audio_in_channels")),
        "audio_encoder_hidden_states": Example.prompt,
        "audio_num_frames": lambda given: 9,
    },
    "LuminaNextDiT2DModel": {
        "cross_attention_kwargs": lambda given: {},
        "image_rotary_emb": lambda given: torch.complex(
            *(each[:, None, ::2].expand(-1, 384, -1) for each in rotary(384))
        ),
    },
    "MiniMaxH3Transformer3DModel": {
        "hidden_states": lambda given: given.noise(8, 4 * given.channels),
        "audio_hidden_states": lambda given: given.noise(4, given.get("audio_in_channels")),
        "timestep_indices": lambda given: torch.zeros(18, dtype=torch.long),
        "token_tags": lambda given: torch.tensor([0] * 6 + [1] * 8 + [2] * 4),
        "position_ids": lambda given: torch.arange(18.0)[:, None].expand(18, 3),
        "text_indices": lambda given: torch.arange(6),
        "video_indices": lambda given: torch.arange(6, 14),
        "audio_indices": lambda given: torch.arange(14, 18),
    },
    "MiniMaxMusic3Transformer1DModel": {
        "hidden_states": _sequence,
        "encoder_hidden_states": lambda given: given.prompt(16),
    },
    "OmniGenTransformer2DModel": {
        "input_ids": lambda given: given.whole(PROMPT),
        "input_img_latents": lambda given: [],
        "input_image_sizes": lambda given: {},
        "attention_mask": lambda given: given.full(1.0, PROMPT + 17, PROMPT + 17),
        "position_ids": lambda given: torch.arange(PROMPT + 17).expand(given.rows, -1),
    },
    "PriorTransformer": {
        "hidden_states": lambda given: given.noise(WIDTH),
        "proj_embedding": lambda given: given.fixed(WIDTH),
        "encoder_hidden_states": lambda given: given.prompt(given.get("num_embeddings")),
    },
    "QwenImage21Transformer2DModel": {
        "img_mask": lambda given: torch.cat([~given.ones(PROMPT), given.ones(SIDE)], dim=1),
    },
    "SanaWMTransformer3DModel": {
        "timestep": lambda given: given.full(500.0, 1, FRAMES),
        "encoder_hidden_states": lambda given: given.prompt(1, PROMPT),
        "encoder_attention_mask": lambda given: given.ones(PROMPT),
    },
    "SanaWMLTX2RefinerTransformer3DModel": {
        "hidden_states": _video_tokens,
        "timestep": lambda given: given.full(0.5, FRAMES * SIDE * SIDE),
        "video_rotary_emb": lambda given: tuple(
            each[None, :, None].expand(1, -1, 2, -1).flatten(2) for each in rotary(FRAMES * SIDE * SIDE)
        ),
    },
    "StableAudioDiTModel": {
        "hidden_states": _sequence,
        "global_hidden_states": lambda given: given.prompt(1),
        "rotary_embedding": lambda given: tuple(each[:, : HEAD // 2] for each in rotary(17)),
    },
    "StableAudio3DiTModel": {"hidden_states": _sequence},
    "StableCascadeUNet": {
        "timestep_ratio": lambda given: given.full(0.5),
        "clip_text_pooled": lambda given: given.prompt(1),
    },
    "T5FilmDecoder": {
        "encodings_and_masks": lambda given: [(given.prompt(), given.ones(PROMPT))],
        "decoder_input_tokens": lambda given: given.noise(GRID, 8),
        "decoder_noise_time": lambda given: given.full(0.5),
    },
    "UNet1DModel": {"sample": lambda given: given.noise(2, 256)},
    "UNet2DModel": {"class_labels": lambda given: None},
    "UNetMotionModel": {
        "sample": lambda given: given.noise(4, FRAMES, GRID, GRID),
        "encoder_hidden_states": lambda given: given.prompt().repeat_interleave(FRAMES, 0),
    },
    "UNet3DConditionModel": {"sample": lambda given: given.noise(4, FRAMES, GRID, GRID)},
    "UNetSpatioTemporalConditionModel": {
        "sample": lambda given: given.noise(FRAMES, 8, GRID, GRID),
        "encoder_hidden_states": lambda given: given.prompt(1),
        "added_time_ids": lambda given: given.full(1.0, 3),
    },
    "WanAnimateTransformer3DModel": {
        "hidden_states": lambda given: given.noise(given.channels, 3, GRID, GRID),
        "pose_hidden_states": lambda given: given.fixed(given.get("latent_channels"), 2, GRID, GRID),
        "face_pixel_values": lambda given: given.fixed(3, 5, 16, 16),
        "encoder_hidden_states_image": Example.prompt,
    },
    "WanVACETransformer3DModel": {
        "control_hidden_states": lambda given: given.fixed(given.get("vace_in_channels"), FRAMES, GRID, GRID)
    },
    "ZImageTransformer2DModel": {
        "x": lambda given: list(given.noise(given.channels, 1, GRID, GRID)),
        "cap_feats": lambda given: list(given.prompt()),
    },
}
