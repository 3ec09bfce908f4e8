"""The transformer of U-ViT (Bao et al. 2023, arXiv 2209.12152), with the public code's names and shapes."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .dit import Attention, PatchEmbed, embedding, timestep_embedding
from .errors import InputError
from .weights import checked_shape

Branch: TypeAlias = Literal["attention", "mlp"]


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each added to its input; with `merges`, a linear layer over the long skip comes first."""

    def __init__(self, width: int, num_heads: int, hidden: int, qkv_bias: bool, merges: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)
        self.skip_linear = nn.Linear(2 * width, width) if merges else None

    def branch(self, name: Branch, x: Tensor) -> Tensor:
        """What the attention or the MLP adds to x (N, T, D)."""
        return self.attn(self.norm1(x)) if name == "attention" else self.mlp(self.norm2(x))

    def merge(self, x: Tensor, skip: Tensor) -> Tensor:
        """x and a long skip (N, T, D) -> (N, T, D)."""
        assert self.skip_linear is not None
        return self.skip_linear(torch.cat([x, skip], dim=-1))


class UViT(nn.Module):
    """The transformer itself.

    Args:
        input_size: H = W of the samples.
        patch_size: pixels or latents a side of a token.
        channels: C of the samples.
        width: D of the tokens.
        depth: number of blocks, odd: as many before the middle one as after it.
        num_heads: attention heads.
        hidden: width inside the MLPs.
        num_labels: rows of the label embedding, a null label included; 0 for an unconditional network.
        qkv_bias: whether queries, keys and values have a bias.
        time_mlp: whether an MLP stands between the sinusoids and the time token.
        conv: whether a convolution smooths the output.
    """

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        channels: int,
        width: int,
        depth: int,
        num_heads: int,
        hidden: int,
        num_labels: int = 0,
        qkv_bias: bool = False,
        time_mlp: bool = False,
        conv: bool = True,
    ) -> None:
        super().__init__()
        self.side, self.patch_size, self.channels = input_size // patch_size, patch_size, channels
        self.extras = 2 if num_labels else 1  # tokens before the patches
        layers = [nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)]
        self.patch_embed = PatchEmbed(patch_size, channels, width)
        self.time_embed = nn.Sequential(*layers) if time_mlp else nn.Identity()
        self.label_emb = embedding(num_labels, width) if num_labels else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extras + self.side**2, width))
        sizes = (width, num_heads, hidden, qkv_bias)
        self.in_blocks = nn.ModuleList(Block(*sizes) for _ in range(depth // 2))
        self.mid_block = Block(*sizes)
        self.out_blocks = nn.ModuleList(Block(*sizes, merges=True) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, patch_size**2 * channels)
        self.final_layer = nn.Conv2d(channels, channels, 3, padding=1) if conv else nn.Identity()

    @property
    def blocks(self) -> list[Block]:
        """All blocks in execution order."""
        return [cast(Block, block) for block in (*self.in_blocks, self.mid_block, *self.out_blocks)]

    def embed(self, x: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        """x (N, C, H, W), time (N,), labels (N,) -> (N, [label, time, patches], D)."""
        patches = self.patch_embed(x)
        width = patches.shape[-1]
        tokens = [self.time_embed(timestep_embedding(time, width).to(patches.dtype)).unsqueeze(1), patches]
        if self.label_emb is not None:
            assert labels is not None, "this network is class-conditional"
            tokens.insert(0, self.label_emb(labels).unsqueeze(1))
        return torch.cat(tokens, dim=1) + self.pos_embed

    def head(self, h: Tensor) -> Tensor:
        """Tokens (N, extras + T, D) after the last block -> (N, C, H, W)."""
        patches = self.decoder_pred(self.norm(h[:, self.extras :]))  # (N, T, patch² · C)
        n, p, side = h.shape[0], self.patch_size, self.side
        patches = patches.reshape(n, side, side, p, p, self.channels)
        return self.final_layer(torch.einsum("nhwpqc->nchpwq", patches).reshape(n, self.channels, side * p, side * p))


def shape_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """UViT's arguments as far as the shapes of a state dict tell them: all but `num_heads`.

    Raises:
        InputError: a tensor that every U-ViT has is missing, or it is one that takes texts.
    """
    if "context_embed.weight" in tensors:
        raise InputError(
            "checkpoint: it has `context_embed.weight`, so it is a text-to-image U-ViT, whose tokens are a CLIP text "
            "encoder's that the file does not hold. Unconditional and class-conditional U-ViTs can be loaded."
        )
    width, channels, patch, _ = checked_shape(tensors, "patch_embed.proj.weight", 4, "U-ViT")
    _, num_tokens, _ = checked_shape(tensors, "pos_embed", 3, "U-ViT")
    num_labels = checked_shape(tensors, "label_emb.weight", 2, "U-ViT")[0] if "label_emb.weight" in tensors else 0
    side = math.isqrt(max(0, num_tokens - (2 if num_labels else 1)))
    if side**2 + (2 if num_labels else 1) != num_tokens or not side:
        raise InputError(
            f"checkpoint: a U-ViT has a square of patches and a token each for time and label, but this one has "
            f"{num_tokens} tokens. Describe it in a file of your own and give `--network FILE.py:Class`."
        )
    return {
        "input_size": side * patch,
        "patch_size": patch,
        "channels": channels,
        "width": width,
        "depth": 1 + 2 * len({name.split(".")[1] for name in tensors if name.startswith("in_blocks.")}),
        "hidden": checked_shape(tensors, "mid_block.mlp.fc1.weight", 2, "U-ViT")[0],
        "num_labels": num_labels,
        "qkv_bias": "mid_block.attn.qkv.bias" in tensors,
        "time_mlp": "time_embed.0.weight" in tensors,
        "conv": "final_layer.weight" in tensors,
    }
