"""A small random CLIP with its processor, in a folder as a published one lies there."""

from pathlib import Path

import torch
from tiny_pipelines import clip_tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor


def save_tiny_clip(folder: Path) -> None:
    """Images of 16 pixels a side, texts of letters."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 54, "max_position_embeddings": 24}
    special = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    vision = {**sizes, "image_size": 16, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config={**text, **special}, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, clip_tokenizer()).save_pretrained(folder)
