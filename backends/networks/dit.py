"""The Diffusion Transformer with adaLN-Zero (Peebles & Xie 2023, arXiv 2212.09748), as a network that can leave early.

The state dict has the names and shapes of the paper's public code, so its checkpoints load, and those of SiT, REPA and
LightningDiT, which kept them. The step plan is an argument of `forward`: dropped blocks cost nothing, their adaLN
modulation included.
"""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, Self, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.weights import Checkpoint, checked_shape, load_strictly, read_checkpoint, weights_sha256
from ..errors import InputError
from ..network import Chain, ChainNetwork, Pass, ResidualChain, State, Weights
from ..schedule import NetworkSignature, Noise
from .decoders import BundledDecoder, DecodedNetwork, Decoder, KLDecoder, PixelDecoder
from .dit_reading import FlowConvention, Seen, read

QkNorm: TypeAlias = Literal["none", "layer", "rms"]
PROJECTORS = "projectors."  # what REPA aligns hidden states by in training
_KINDS = {"block": ("residual", 1), "branch": ("branch", 2)}  # by granularity: the kind, and how many of it a block has
# Tensors that tell a DiT's sizes, with their dimensions.
_TELLING = {
    "x_embedder.proj.weight": 4,
    "pos_embed": 3,
    "y_embedder.embedding_table.weight": 2,
    "final_layer.linear.weight": 2,
}
_LATER = r"^decoder_blocks\.(\d+)\."
_ROTARY = "feat_rope.freqs_cos"
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


class BranchChain(Chain):
    """The attention and the MLP of each block, one after the other; their outputs are stored before the gate.

    A block's modulation is worked out once a call, and only its gate where nothing of the block runs.
    """

    def __init__(self, blocks: nn.ModuleList, c: Tensor, rotary: Rotary | None = None) -> None:
        self.kinds = ("branch",) * (2 * len(blocks))
        self._blocks, self._c, self._rotary = blocks, c, rotary
        self._modulations: dict[int, tuple[Modulation, Modulation]] = {}

    def run(self, index: int, h: State) -> State:
        return self.apply(index, h, self.compute(index, h))

    def compute(self, index: int, h: State) -> State:
        assert isinstance(h, Tensor)
        number, branch = divmod(index, 2)
        block = cast(DiTBlock, self._blocks[number])
        if number not in self._modulations:
            self._modulations[number] = block.modulations(self._c)
        return block.branch(branch, h, self._modulations[number][branch], self._rotary)

    def apply(self, index: int, h: State, value: State) -> State:
        assert isinstance(h, Tensor)
        assert isinstance(value, Tensor)
        return gated(h, self._gate(*divmod(index, 2)), value)

    def _gate(self, number: int, branch: int) -> Tensor:
        if number in self._modulations:
            return self._modulations[number][branch].gate
        return cast(DiTBlock, self._blocks[number]).gate(branch, self._c)


def dit_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """DiT's arguments as far as the shapes of a state dict tell them.

    Raises:
        InputError: a tensor that every DiT has is missing, or has a shape that no DiT gives it.
    """
    _, _, rows, out = (checked_shape(tensors, name, ndim, "DiT") for name, ndim in _TELLING.items())
    width, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
    side = math.isqrt(tensors["pos_embed"].shape[1])
    out_channels = out[0] // (patch * patch)
    if side**2 != tensors["pos_embed"].shape[1] or out_channels not in (channels, 2 * channels):
        raise InputError(
            f"checkpoint: a DiT has a square of tokens and gives back its {channels} channels once or twice, but this "
            f"one has {tensors['pos_embed'].shape[1]} tokens and {out_channels} channels. "
            "Describe it in a file of your own and give `--network FILE.py:Class`."
        )
    return {
        "input_size": side * patch,
        "patch_size": patch,
        "channels": channels,
        "width": width,
        "depth": num_blocks(tensors),
        **_style(tensors, width),
        "learned_range": out_channels == 2 * channels,
        "num_rows": rows[0],
    }


def num_blocks(tensors: Mapping[str, Tensor]) -> int:
    """How many different blocks the names speak of."""
    return len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})


def _style(tensors: Mapping[str, Tensor], width: int) -> dict[str, Any]:
    """How the blocks are made, from the first one's tensors; as in the paper where there are none."""
    first = "blocks.0."
    modulation, w3 = tensors.get(f"{first}adaLN_modulation.1.weight"), tensors.get(f"{first}mlp.w3.weight")
    hidden = tensors.get(f"{first}mlp.fc1.weight") if w3 is None else w3.T
    qk_norm = "none"
    if f"{first}attn.q_norm.weight" in tensors:
        qk_norm = "layer" if f"{first}attn.q_norm.bias" in tensors else "rms"
    return {
        "mlp_ratio": 4 if hidden is None else hidden.shape[0] / width,
        "swiglu": w3 is not None,
        "rms_norm": f"{first}norm1.weight" in tensors,
        "rotary": _ROTARY in tensors,
        "qk_norm": qk_norm,
        "shifts": modulation is None or modulation.shape[0] != 4 * width,
    }


def _seen(tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> Seen:
    """What tensors show of how they must be read; those with one value a channel of a head tell the heads."""
    width = arguments["width"]
    telling = [tensors[name].shape[-1] for name in (_ROTARY, "blocks.0.attn.q_norm.weight") if name in tensors]
    own = arguments["swiglu"] or arguments["rms_norm"] or arguments["rotary"] or not arguments["shifts"]
    return Seen(
        width,
        arguments["depth"],
        arguments["channels"],
        arguments["learned_range"],
        num_heads=width // telling[0] if telling and telling[0] and width % telling[0] == 0 else None,
        is_lightning=own,
        is_repa=any(name.startswith(PROJECTORS) for name in tensors),
    )


class DiTNetwork(DecodedNetwork, ChainNetwork):
    """A DiT checkpoint with what surrounds it: its noise schedule, and the decoder whose latents it samples."""

    def __init__(
        self,
        module: DiT,
        *,
        name: str,
        weights_sha256: str | None,
        num_classes: int,
        prediction: str,
        noise: Noise,
        decoder: Decoder | None = None,
        guidance_channels: int | Literal["all"] = "all",
        notes: tuple[str, ...] = (),
        flow: FlowConvention | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name, self.num_classes, self.prediction, self.noise = name, num_classes, prediction, noise
        self.guidance_channels, self.notes = guidance_channels, notes
        self.sample_shape = module.sample_shape
        self.set_decoder(decoder or PixelDecoder(module.sample_shape, name))
        self._flow = flow  # None where time and output are as the rest of Exeunt has them
        self._noise_name, self._folder, self._latent = "file", Path(), dict[str, Any]()  # of a checkpoint's metadata
        # Flow matching has no variance to learn: SiT's second half is never read.
        self.learned_range = module.out_channels == 2 * module.sample_shape[0] and noise.kind != "flow"
        self.signature = NetworkSignature("DiT", "block", (("residual", len(module.blocks)),), weights_sha256)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        name: str,
        weights_key: str | None = None,
        num_heads: int | None = None,
        num_classes: int | None = None,
        noise: str | None = None,
        prediction: str | None = None,
        vae: str | None = None,
    ) -> Self:
        """Load a .safetensors or .pt file with DiT's names.

        What shapes can't tell comes from these arguments, from the file's metadata or from the training program's own
        arguments in it; without any, it is as in the public code, and open: the paper's heads, a null label at the end,
        epsilon prediction, linear schedule, 1,000 steps, and guidance on the first three of four latent channels.

        Args:
            path: the file.
            device, dtype: where and in what the network computes.
            name: how it is called.
            weights_key: which set of weights of the file; see `read_checkpoint`.
            num_heads: attention heads.
            num_classes: number of labels, without the null label.
            noise: a name in `DIT_NOISES`.
            prediction: see `Network`.
            vae: the folder of the diffusers autoencoder whose latents it samples.

        Raises:
            InputError: tensors are missing, are too many or have other shapes; or an argument does not fit.
        """
        found = read_checkpoint(path, weights_key)
        tensors, changes = _for_sampling(found.tensors)
        arguments = dit_arguments(tensors)
        classes, has_null = _classes(found, arguments.pop("num_rows"), num_classes)
        given = {"num_heads": num_heads, "noise": noise, "prediction": prediction}
        taken = read(found, _seen(found.tensors, arguments), given)
        with torch.device("meta"):
            module = DiT(**arguments, num_heads=taken.num_heads, num_classes=classes, has_null=has_null)
        load_strictly(module, tensors, path)
        module.to(device=device, dtype=dtype)
        made = cls(
            module,
            name=name,
            weights_sha256=weights_sha256(tensors),
            num_classes=classes,
            prediction=taken.prediction,
            noise=taken.noise,
            decoder=_decoder(found, module, vae, name),
            guidance_channels=taken.guidance_channels,
            notes=(*found.notes, *changes, *taken.notes),
            flow=taken.flow,
        )
        made.assumptions, made.open_readings = taken.assumptions, taken.open_readings
        made.reading = f"num_heads={taken.num_heads}, noise={taken.noise_name}, prediction={taken.prediction}"
        made._noise_name, made._folder = taken.noise_name, found.path.parent
        made._latent = {key: value for key, value in found.metadata.items() if key == "latent"}
        return made

    @property
    def device(self) -> torch.device:
        return self.module.pos_embed.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.pos_embed.dtype

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        assert conditions is not None, "a DiT is class-conditional"
        blocks, rotary, flow = self.module.blocks, self.module.feat_rope, self._flow
        x, own_time = (x, time) if flow is None else flow.inputs(x, time)
        h, c = self.module.embed(x, own_time, conditions)
        if self.signature.granularity == "branch":
            chain: Chain = BranchChain(blocks, c, rotary)
        else:
            chain = ResidualChain(len(blocks), lambda index, value: blocks[index](value, c, rotary))

        def finish(value: Tensor) -> Tensor:
            out = self.module.head(value, c)
            if self.noise.kind == "flow":
                out = out[:, : self.sample_shape[0]]
            return out if flow is None else flow.velocity(out, x, time)

        return Pass(h, chain, finish)

    def at(self, granularity: str) -> "DiTNetwork":
        if granularity not in _KINDS:
            raise InputError(
                f"granularity: a DiT has {' and '.join(_KINDS)}, but got `{granularity}`. Use one of them."
            )
        kind, parts = _KINDS[granularity]
        other = copy.copy(self)
        count = len(self.module.blocks) * parts
        other.signature = NetworkSignature("DiT", granularity, ((kind, count),), self.signature.weights_sha256)
        return other

    def weights(self) -> Weights:
        noise = {name: value for name, value in asdict(self.noise).items() if value is not None and name != "extras"}
        metadata = {
            "architecture": "DiT",
            "num_heads": cast(DiTBlock, self.module.blocks[0]).attn.num_heads,
            "num_classes": self.num_classes,
            "prediction": self.prediction,
            "noise": noise if self._flow is None else self._noise_name,
            "guidance_channels": self.guidance_channels,
        }
        files = tuple(self._folder / str(latent["autoencoder"]) for latent in self._latent.values())
        return Weights(self.module, ("t_embedder.", "pos_embed"), metadata | self._latent, files)

    def null_conditions(self, num_images: int) -> Tensor:
        assert self.num_classes is not None
        if self.module.y_embedder.embedding_table.num_embeddings == self.num_classes:
            raise InputError(
                f"guidance: `{self.name}` was trained without a null label, so it can't be guided. Omit `--guidance`."
            )
        return torch.full((num_images,), self.num_classes, dtype=torch.long, device=self.device)

    def flops(self, blocks: Sequence[int]) -> int:
        module = self.module
        tokens, width = module.pos_embed.shape[1], module.pos_embed.shape[2]
        head = tokens * width * module.final_layer.linear.out_features + 2 * width * width
        embed = tokens * module.x_embedder.proj.weight.numel() + FREQUENCIES * width + width * width
        branches = self._branch_multiplications()
        if self.signature.granularity == "branch":
            run = sum(branches[index % 2] for index in blocks)
        else:
            run = len(blocks) * sum(branches)
        return 2 * (run + head + embed)

    def _branch_multiplications(self) -> tuple[int, int]:
        """Multiplications of one attention and of one MLP; all blocks are alike."""
        blocks = self.module.blocks
        return cast(DiTBlock, blocks[0]).multiplications(self.module.pos_embed.shape[1]) if len(blocks) else (0, 0)


def _for_sampling(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors that sampling needs, under DiT's names, with notes on what REPA's files have beside or instead."""
    needed = {name: value for name, value in tensors.items() if not name.startswith(PROJECTORS)}
    count = len(tensors) - len(needed)
    notes = [f"weights: {count} tensors of `{PROJECTORS}` left out, which only REPA's training uses"] if count else []
    first = num_blocks(needed)
    named = {re.sub(_LATER, lambda found: f"blocks.{first + int(found[1])}.", name): needed[name] for name in needed}
    if named.keys() != needed.keys():
        notes.append(f"weights: the blocks of `decoder_blocks.` counted from {first} on, as REPA's older code had them")
    return named, tuple(notes)


def _classes(found: Checkpoint, rows: int, given: int | None) -> tuple[int, bool]:
    """The number of labels, and whether the table of `rows` embeddings has a null label after them."""
    known = (given, found.metadata.get("num_classes"), found.arguments.get("num_classes"))
    classes = next((each for each in known if type(each) is int), rows - 1)
    if classes not in (rows - 1, rows) or classes < 1:
        raise InputError(
            f"num_classes: the checkpoint has {rows} label embeddings, so it must be {rows - 1} with a null label or "
            f"{rows} without, but got {classes}. Give `--network-arg num_classes={rows - 1}`."
        )
    return classes, classes < rows


def _decoder(found: Checkpoint, module: DiT, vae: str | None, name: str) -> Decoder:
    """What makes images of the network's samples."""
    device, dtype = module.pos_embed.device, module.pos_embed.dtype
    latent = found.metadata.get("latent")
    if latent is not None and vae is not None:
        raise InputError(f"vae: `{name}` has an autoencoder of its own. Omit `--vae`.")
    if latent is not None:
        file = latent["autoencoder"]
        if not isinstance(file, str) or PurePath(file).name != file:
            raise InputError(
                f"checkpoint: the autoencoder of `{name}` must be a file beside it, but its metadata names `{file}`. "
                "Download it again."
            )
        return BundledDecoder.from_file(found.path.parent / file, latent, device, dtype)
    if vae is not None:
        return KLDecoder.from_folder(Path(vae), module.sample_shape, device, dtype)
    return PixelDecoder(module.sample_shape, name)
