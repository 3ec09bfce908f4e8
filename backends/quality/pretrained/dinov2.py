"""DINOv2's vision transformer (Oquab et al. 2023) as a feature extractor, with weights from a local file.

Its features agree better with people than Inception's (Stein et al. 2023). `dinov2` means ViT-B/14. A file of another
size loads too, since the file says its sizes; its weights are part of the extractor's digest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...checkpoints.files import is_file
from ...checkpoints.weights import read_checkpoint
from ...errors import InputError
from ..extractors import Extractor, extractor_digest

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
HEAD_WIDTH = 64  # of every published size
# The authors' names and those of transformers' files.
RENAMED = {
    "cls_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
RENAMED_IN_BLOCKS = {
    "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
RENAMED_IN_VERSION_5 = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


class DinoV2(Extractor):
    """The class token after the last normalisation: 768 features of ViT-B/14."""

    name = "dinov2"
    batch_size = 32
    size: ClassVar[int] = 224
    preprocessing: ClassVar[dict[str, Any]] = {
        "size": 224,
        "resize": "bicubic, antialiased, clamped",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "feature": "class token",
    }

    def __init__(self, *, weights: Path | None, device: torch.device) -> None:
        if weights is None:
            raise InputError(
                f"extractor: `dinov2` needs a file with its weights, but got none. Download {URL} and give the file "
                "with `--set quality.extractor_weights=FILE`, or use `fd-efficientnet-lite0`, which needs no download."
            )
        if not is_file(weights):
            raise InputError(f"extractor: the weights must be a file, but `{weights}` is not one. Check the path.")
        tensors = renamed(read_checkpoint(weights).tensors)
        self.network = build(tensors, weights).to(device)
        self.dim = tensors["embeddings.cls_token"].shape[-1]
        self.digest = extractor_digest(self.preprocessing, tensors)
        self.device = device
        self.mean, self.std = (
            torch.tensor(self.preprocessing[key], device=device)[:, None, None] for key in ("mean", "std")
        )

    def extract(self, images: Tensor) -> Tensor:
        pixels = images.float()  # (N, 3, H, W), 0 … 255
        if pixels.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            pixels = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 255)
        return cast(Tensor, self.network((pixels / 255 - self.mean) / self.std).pooler_output)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of transformers' files, whichever of the two a file has."""
    if "pos_embed" not in tensors:
        return {name.removeprefix("dinov2."): value for name, value in tensors.items()}
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith("blocks."):
            found |= _of_block(name, value)
            continue
        stem, _, end = name.rpartition(".")
        found[RENAMED.get(name) or f"{RENAMED.get(stem, stem)}.{end}"] = value
    return found


def _of_block(name: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor of a block: `blocks.3.attn.qkv.weight` becomes three."""
    _, index, inner = name.split(".", 2)
    start = f"encoder.layer.{index}."
    if inner.startswith("attn.qkv."):
        kinds = ("query", "key", "value")
        parts = zip(kinds, value.chunk(3), strict=False)
        return {f"{start}attention.attention.{kind}.{inner.rpartition('.')[2]}": part for kind, part in parts}
    for old, new in RENAMED_IN_BLOCKS.items():
        inner = inner.replace(old, new)
    return {start + inner: value}


def build(tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """transformers' network with these weights. Raises InputError if it is not installed or they don't fit."""
    try:
        from transformers import Dinov2Config, Dinov2Model
    except ImportError as error:
        raise InputError(
            f"extractor: `dinov2` needs a package that is not installed ({error}). Run: pip install 'exeunt[dinov2]'"
        ) from error
    try:
        config = Dinov2Config(**sizes(tensors))
        with torch.device("meta"):
            network = Dinov2Model(config)
        network.load_state_dict(_as_installed(tensors, network), assign=True)
    except (LookupError, ValueError, RuntimeError, ArithmeticError) as error:
        raise _unfit(path, " ".join(str(error).split())[:120]) from error
    return network.eval().requires_grad_(False)


def _as_installed(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors in float32 under the names of the installed transformers, which version 5 changed."""
    changed = RENAMED_IN_VERSION_5 if any("q_proj" in name for name in network.state_dict()) else {}
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        new = name
        for old, other in changed.items():
            new = new.replace(old, other)
        found[new] = value.float()
    return found


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes of the tensors say of the network."""
    width = tensors["embeddings.cls_token"].shape[-1]
    patch = tensors["embeddings.patch_embeddings.projection.weight"].shape[-1]
    places = tensors["embeddings.position_embeddings"].shape[1] - 1
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    if width % HEAD_WIDTH:
        raise ValueError(f"its width {width} is no multiple of {HEAD_WIDTH}")
    return {
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_WIDTH,
        "patch_size": patch,
        "image_size": round(places**0.5) * patch,
        "mlp_ratio": tensors["encoder.layer.0.mlp.fc1.weight"].shape[0] // width,
        "use_mask_token": "embeddings.mask_token" in tensors,
    }


def _unfit(path: Path, reason: str) -> InputError:
    return InputError(
        f"extractor: `{path}` must hold DINOv2 weights without registers, but does not fit ({reason}). Give the file "
        f"that {URL} is, or `model.safetensors` of facebook/dinov2-base."
    )
