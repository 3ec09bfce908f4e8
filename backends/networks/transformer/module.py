"""The Diffusion Transformer with adaLN-Zero (Peebles & Xie 2023, arXiv 2212.09748) as a PyTorch module.

The state dict has the names and shapes of the paper's public code, so its checkpoints load, and those of SiT, REPA and
LightningDiT, which kept them.
"""

import math
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QkNorm: TypeAlias = Literal["none", "layer", "rms"]
FREQUENCIES = 256  # width of the sinusoidal timestep embedding


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
    """x (N, T, D), shift and scale (N, D) -> x · (1 + scale) + shift."""
    if shift is None:
        return x * (1 + scale.unsqueeze(1))
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


def gated(x: Tensor, gate: Tensor, value: Tensor) -> Tensor:
    """x (N, T, D) + gate (N, D) · value (N, T, D)."""
    return torch.addcmul(x, gate.unsqueeze(1), value)


def timestep_embedding(time: Tensor, width: int = FREQUENCIES) -> Tensor:
    """(N,) times -> (N, width): cosines, then sines, of frequencies from 1 down to 1/10000."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time.device) / half
    angles = time.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sincos_positions(width: int, side: int) -> Tensor:
    """(1, side², width) fixed two-dimensional position embedding: a half of the width for columns, a half for rows.

    On the CPU, because arithmetic on the meta device begins with a second of imports.
    """
    quarter, cpu = width // 4, torch.device("cpu")
    frequencies = 1.0 / 10000 ** (torch.arange(quarter, dtype=torch.float64, device=cpu) / quarter)
    rows, columns = torch.meshgrid(*[torch.arange(side, device=cpu)] * 2, indexing="ij")
    parts = [torch.outer(axis.reshape(-1).double(), frequencies) for axis in (columns, rows)]
    return torch.cat([f(part) for part in parts for f in (torch.sin, torch.cos)], dim=1).float().unsqueeze(0)


class PatchEmbed(nn.Module):
    """(N, C, H, W) -> (N, T, D), a linear layer over patches."""

    def __init__(self, patch_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """(N,) times -> (N, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        return self.mlp(timestep_embedding(time).to(cast(nn.Linear, self.mlp[0]).weight.dtype))


def embedding(rows: int, width: int) -> nn.Embedding:
    """`nn.Embedding(rows, width)`, which on the meta device takes a second of imports to draw nothing."""
    table = torch.empty(rows, width)
    if not table.is_meta:
        nn.init.normal_(table)
    return nn.Embedding(rows, width, _weight=table)


class LabelEmbedder(nn.Module):
    """(N,) labels -> (N, D); row `num_classes` is the null label of classifier-free guidance."""

    def __init__(self, num_classes: int, width: int, has_null: bool = True) -> None:
        super().__init__()
        self.embedding_table = embedding(num_classes + int(has_null), width)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class RMSNorm(nn.Module):
    """x · weight over the root mean square of its last axis, which is taken in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], eps=1e-6).type_as(x) * self.weight


def token_norm(width: int, rms: bool) -> nn.Module:
    """The normalisation before a modulation."""
    return RMSNorm(width) if rms else nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


class Rotary(nn.Module):
    """Rotary embedding of queries and keys in two dimensions (Su et al. 2021; EVA-02's layout): half of a head's
    channels turn with the row, half with the column, neighbouring channels in pairs."""

    def __init__(self, head_width: int, side: int) -> None:
        super().__init__()
        half, cpu = head_width // 2, torch.device("cpu")
        frequencies = 10000.0 ** -(torch.arange(0, half, 2, device=cpu)[: half // 2] / half)
        angles = torch.outer(torch.arange(side, device=cpu).float(), frequencies).repeat_interleave(2, dim=1)
        rows, columns = angles.repeat_interleave(side, dim=0), angles.repeat(side, 1)
        turned = torch.cat([rows, columns], dim=1)  # (T, head_width)
        self.register_buffer("freqs_cos", turned.cos())
        self.register_buffer("freqs_sin", turned.sin())

    def forward(self, x: Tensor) -> Tensor:
        """(N, heads, T, D/heads) -> the same, turned."""
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        crossed = torch.stack([-second, first], dim=-1).flatten(-2)
        return x * cast(Tensor, self.freqs_cos) + crossed * cast(Tensor, self.freqs_sin)


class Attention(nn.Module):
    """Multi-head self-attention over tokens, whose queries and keys may be normalised and turned."""

    def __init__(self, width: int, num_heads: int, qkv_bias: bool = True, qk_norm: QkNorm = "none") -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        kinds = {"none": lambda _: nn.Identity(), "layer": nn.LayerNorm, "rms": RMSNorm}
        self.q_norm, self.k_norm = (kinds[qk_norm](width // num_heads) for _ in range(2))

    def forward(self, x: Tensor, rotary: Rotary | None = None) -> Tensor:
        n, t, d = x.shape
        q, k, v = (
            self.qkv(x).view(n, t, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        )  # (N, heads, T, D/heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class GeluMlp(nn.Module):
    """Two linear layers with a GELU between, exact ("none") or approximated by "tanh"."""

    def __init__(self, width: int, hidden: int, approximate: Literal["none", "tanh"]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self._approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self._approximate))


class SwiGluMlp(nn.Module):
    """Two linear layers with a gate between (Shazeer 2020): w3(silu(a) · b) of a and b, the halves of w12(x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(first) * second)


class Modulation(NamedTuple):
    """What a block takes from the condition for its attention or its MLP, (N, D) each."""

    shift: Tensor | None
    scale: Tensor
    gate: Tensor


class DiTBlock(nn.Module):
    """A transformer block whose normalisations and gates are functions of the condition (adaLN-Zero).

    Args: see `DiT`; `hidden` is the width inside the MLP.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        hidden: int,
        *,
        swiglu: bool = False,
        rms_norm: bool = False,
        qk_norm: QkNorm = "none",
        shifts: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = token_norm(width, rms_norm)
        self.attn = Attention(width, num_heads, qk_norm=qk_norm)
        self.norm2 = token_norm(width, rms_norm)
        self.mlp = SwiGluMlp(width, hidden) if swiglu else GeluMlp(width, hidden, "tanh")
        self._parts = 3 if shifts else 2  # of a modulation
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * self._parts * width))

    def forward(self, x: Tensor, c: Tensor, rotary: Rotary | None = None) -> Tensor:
        for branch, part in enumerate(self.modulations(c)):
            x = gated(x, part.gate, self.branch(branch, x, part, rotary))
        return x

    def modulations(self, c: Tensor) -> tuple[Modulation, Modulation]:
        """Shift, scale and gate of the attention, then of the MLP."""
        parts = self.adaLN_modulation(c).chunk(2 * self._parts, dim=1)
        halves = parts[: self._parts], parts[self._parts :]
        first, second = (Modulation(*half) if self._parts == 3 else Modulation(None, *half) for half in halves)
        return first, second

    def branch(self, branch: int, x: Tensor, part: Modulation, rotary: Rotary | None = None) -> Tensor:
        """What the attention (0) or the MLP (1) makes of x (N, T, D), before its gate."""
        if branch == 0:
            return self.attn(modulate(self.norm1(x), part.shift, part.scale), rotary)
        return self.mlp(modulate(self.norm2(x), part.shift, part.scale))

    def gate(self, branch: int, c: Tensor) -> Tensor:
        """The gate (N, D) alone, a sixth of the modulation's arithmetic."""
        linear = cast(nn.Linear, self.adaLN_modulation[1])
        width, last = linear.in_features, self._parts * (branch + 1)
        rows = slice((last - 1) * width, last * width)
        return F.linear(F.silu(c), linear.weight[rows], linear.bias[rows])

    def multiplications(self, tokens: int) -> tuple[int, int]:
        """Of one image's attention and of its MLP, each with its half of the modulation."""
        width = self.attn.proj.in_features
        modulation = self._parts * width * width
        attention = 4 * tokens * width * width + 2 * tokens * tokens * width
        weights = [each.weight.numel() for each in self.mlp.modules() if isinstance(each, nn.Linear)]
        return attention + modulation, tokens * sum(weights) + modulation


class FinalLayer(nn.Module):
    """The output head: (N, T, D) -> (N, T, patch² · C)."""

    def __init__(self, width: int, patch_size: int, channels: int, rms_norm: bool = False) -> None:
        super().__init__()
        self.norm_final = token_norm(width, rms_norm)
        self.linear = nn.Linear(width, patch_size * patch_size * channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class DiT(nn.Module):
    """The transformer itself.

    Args:
        input_size: H = W of the samples.
        patch_size: pixels or latents a side of a token.
        channels: C of the samples.
        width: D of the tokens.
        depth: number of blocks.
        num_heads: attention heads.
        num_classes: number of labels, without the null label.
        learned_range: whether the output has 2 · C channels.
        has_null: whether there is a null label (the network was trained for classifier-free guidance).
        mlp_ratio: width inside the MLPs over D.
        swiglu: whether the MLPs have a gate, as most of LightningDiT's.
        rms_norm: whether tokens are normalised by their root mean square, under a weight.
        rotary: whether queries and keys are turned by their position, beside the fixed embedding.
        qk_norm: how queries and keys are normalised, head by head.
        shifts: whether the condition shifts, beside scaling.
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
        num_classes: int,
        learned_range: bool = False,
        has_null: bool = True,
        mlp_ratio: float = 4.0,
        swiglu: bool = False,
        rms_norm: bool = False,
        rotary: bool = False,
        qk_norm: QkNorm = "none",
        shifts: bool = True,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.side = input_size // patch_size
        self.sample_shape = (channels, input_size, input_size)
        self.out_channels = channels * (2 if learned_range else 1)
        self.x_embedder = PatchEmbed(patch_size, channels, width)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(num_classes, width, has_null)
        self.pos_embed = nn.Parameter(sincos_positions(width, self.side), requires_grad=False)
        self.feat_rope = Rotary(width // num_heads, self.side) if rotary else None
        style: dict[str, Any] = {"swiglu": swiglu, "rms_norm": rms_norm, "qk_norm": qk_norm, "shifts": shifts}
        hidden = round(width * mlp_ratio)
        self.blocks = nn.ModuleList(DiTBlock(width, num_heads, hidden, **style) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch_size, self.out_channels, rms_norm)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """x (N, C, H, W), time (N,), labels (N,) -> (N, C or 2C, H, W), every block run."""
        h, c = self.embed(x, time, labels)
        for block in self.blocks:
            h = block(h, c, self.feat_rope)
        return self.head(h, c)

    def embed(self, x: Tensor, time: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens (N, T, D) before block 0, and the condition (N, D)."""
        return self.x_embedder(x) + self.pos_embed, self.t_embedder(time) + self.y_embedder(labels)

    def head(self, h: Tensor, c: Tensor) -> Tensor:
        """Tokens (N, T, D) after the last block -> (N, C or 2C, H, W)."""
        return self.unpatchify(self.final_layer(h, c))

    def unpatchify(self, x: Tensor) -> Tensor:
        """(N, T, patch² · C) -> (N, C, H, W)."""
        n, p = x.shape[0], self.patch_size
        x = x.reshape(n, self.side, self.side, p, p, self.out_channels)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(n, self.out_channels, self.side * p, self.side * p)

    def initialize(self) -> None:
        """The paper's initialisation: Xavier linear layers, zero gates and head."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.data.flatten(1))
        bias = self.x_embedder.proj.bias
        assert bias is not None, "patches are embedded with a bias"
        nn.init.zeros_(bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for index in (0, 2):
            nn.init.normal_(cast(nn.Linear, self.t_embedder.mlp[index]).weight, std=0.02)
        modulated = [*(cast(DiTBlock, block) for block in self.blocks), self.final_layer]
        gates = [cast(nn.Linear, layer.adaLN_modulation[1]) for layer in modulated]
        for layer in [*gates, self.final_layer.linear]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
