"""The Diffusion Transformer with adaLN-Zero (Peebles & Xie 2023, arXiv 2212.09748), as a network that can leave early.

The state dict has the names and shapes of the paper's public code, so its checkpoints load. The step plan is an
argument of `forward`: dropped blocks cost nothing, their adaLN modulation included.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path, PurePath
from typing import Any, Literal, NoReturn, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.weights import Checkpoint, checked_shape, load_strictly, read_checkpoint, weights_sha256
from ..errors import InputError, nearest
from ..network import Chain, ChainNetwork, Pass, ResidualChain, State, Weights
from ..schedule import PREDICTIONS, NetworkSignature, Noise, noise_of
from .decoders import BundledDecoder, DecodedNetwork, Decoder, KLDecoder, PixelDecoder
from .readings import heads_for, readings

# Table 1 of the paper and its public code: depth, width, heads; the number behind the slash is the patch size.
DIT_SIZES = {"DiT-S": (12, 384, 6), "DiT-B": (12, 768, 12), "DiT-L": (24, 1024, 16), "DiT-XL": (28, 1152, 16)}
_KINDS = {"block": ("residual", 1), "branch": ("branch", 2)}  # by granularity: the kind, and how many of it a block has
PUBLIC_NOISE = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
FLOW_NOISES = ("flow", "sit")
_SIT_NOTE = "prediction: read as SiT's velocity on its linear path, in which time 1 is the data"
# The noise schedules that a DiT may be told to have. SiT's (Ma et al. 2024, arXiv 2401.08740) is flow matching counted
# the other way: its time is 1 at the data, and its output is data - noise.
DIT_NOISES = {
    "linear": PUBLIC_NOISE,
    "scaled-linear": Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000),
    "cosine": Noise("cosine", num_train_timesteps=1000),
    "flow": Noise("flow"),
    "sit": Noise("flow"),
}
DIT_READINGS = (
    *product(("linear", "scaled-linear", "cosine"), ("epsilon", "v", "sample")),
    *((noise, "flow") for noise in FLOW_NOISES),
)
# Tensors that tell a DiT's sizes, with their dimensions.
_TELLING = {
    "x_embedder.proj.weight": 4,
    "pos_embed": 3,
    "y_embedder.embedding_table.weight": 2,
    "final_layer.linear.weight": 2,
}
FREQUENCIES = 256  # width of the sinusoidal timestep embedding


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (N, T, D), shift and scale (N, D) -> x · (1 + scale) + shift."""
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


class Attention(nn.Module):
    """Multi-head self-attention over tokens."""

    def __init__(self, width: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = (
            self.qkv(x).view(n, t, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        )  # (N, heads, T, D/heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class GeluMlp(nn.Module):
    """Two linear layers with a GELU between, exact ("none") or approximated by "tanh"."""

    def __init__(self, width: int, hidden: int, approximate: Literal["none", "tanh"]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self._approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self._approximate))


class DiTBlock(nn.Module):
    """A transformer block whose normalisations and gates are functions of the condition (adaLN-Zero)."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = GeluMlp(width, round(width * mlp_ratio), "tanh")
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        parts = self.modulation(c)
        x = gated(x, parts[2], self.branch(0, x, parts))
        return gated(x, parts[5], self.branch(1, x, parts))

    def modulation(self, c: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the attention, then of the MLP, (N, D) each."""
        return self.adaLN_modulation(c).chunk(6, dim=1)

    def branch(self, branch: int, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """What the attention (0) or the MLP (1) makes of x (N, T, D), before its gate."""
        if branch == 0:
            return self.attn(modulate(self.norm1(x), parts[0], parts[1]))
        return self.mlp(modulate(self.norm2(x), parts[3], parts[4]))

    def gate(self, branch: int, c: Tensor) -> Tensor:
        """The gate (N, D) alone, a sixth of the modulation's arithmetic."""
        linear = cast(nn.Linear, self.adaLN_modulation[1])
        width = linear.in_features
        rows = slice((2 + 3 * branch) * width, (3 + 3 * branch) * width)
        return F.linear(F.silu(c), linear.weight[rows], linear.bias[rows])


class FinalLayer(nn.Module):
    """The output head: (N, T, D) -> (N, T, patch² · C)."""

    def __init__(self, width: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
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
        self.blocks = nn.ModuleList(DiTBlock(width, num_heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch_size, self.out_channels)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """x (N, C, H, W), time (N,), labels (N,) -> (N, C or 2C, H, W), every block run."""
        h, c = self.embed(x, time, labels)
        for block in self.blocks:
            h = block(h, c)
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

    def __init__(self, blocks: nn.ModuleList, c: Tensor) -> None:
        self.kinds = ("branch",) * (2 * len(blocks))
        self._blocks, self._c = blocks, c
        self._modulations: dict[int, tuple[Tensor, ...]] = {}

    def run(self, index: int, h: State) -> State:
        return self.apply(index, h, self.compute(index, h))

    def compute(self, index: int, h: State) -> State:
        assert isinstance(h, Tensor)
        number, branch = divmod(index, 2)
        block = cast(DiTBlock, self._blocks[number])
        if number not in self._modulations:
            self._modulations[number] = block.modulation(self._c)
        return block.branch(branch, h, self._modulations[number])

    def apply(self, index: int, h: State, value: State) -> State:
        assert isinstance(h, Tensor)
        assert isinstance(value, Tensor)
        return gated(h, self._gate(*divmod(index, 2)), value)

    def _gate(self, number: int, branch: int) -> Tensor:
        if number in self._modulations:
            return self._modulations[number][2 + 3 * branch]
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
    first = "blocks.0.mlp.fc1.weight"
    return {
        "input_size": side * patch,
        "patch_size": patch,
        "channels": channels,
        "width": width,
        "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        # The paper's width inside the MLPs where there are no blocks.
        "mlp_ratio": tensors[first].shape[0] / width if first in tensors else 4,
        "learned_range": out_channels == 2 * channels,
        "num_rows": rows[0],
    }


def heads_of(width: int, given: Any) -> int:
    """The number of attention heads, which shapes don't tell; if not given, as in the paper, else 64 channels each.

    Raises:
        InputError: it is no whole number that divides the width.
    """
    paper = {wide: heads for _, wide, heads in DIT_SIZES.values()}
    heads = paper.get(width, max(1, width // 64)) if given is None else given
    if type(heads) is not int or heads < 1 or width % heads:
        raise InputError(
            f"num_heads: must divide the width {width}, but got {heads}. Give `--network-arg num_heads=N`."
        )
    return heads


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
        counts_from_noise: bool = False,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name, self.num_classes, self.prediction, self.noise = name, num_classes, prediction, noise
        self.guidance_channels, self.notes = guidance_channels, notes
        self.sample_shape = module.sample_shape
        self.set_decoder(decoder or PixelDecoder(module.sample_shape, name))
        self._counts_from_noise = counts_from_noise  # as SiT does
        self._latent, self._folder = dict[str, Any](), Path()  # of a file that has its autoencoder beside it
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
        arguments = dit_arguments(found.tensors)
        classes, has_null = _classes(found, arguments.pop("num_rows"), num_classes)
        taken = _reading(found, arguments, {"num_heads": num_heads, "noise": noise, "prediction": prediction})
        heads = taken.num_heads
        with torch.device("meta"):
            module = DiT(**arguments, num_heads=heads, num_classes=classes, has_null=has_null)
        load_strictly(module, found.tensors, path)
        module.to(device=device, dtype=dtype)
        made = cls(
            module,
            name=name,
            weights_sha256=weights_sha256(found.tensors),
            num_classes=classes,
            prediction=taken.prediction,
            noise=taken.noise,
            decoder=_decoder(found, module, vae, name),
            guidance_channels=_guided(found, module.sample_shape[0]),
            notes=(*found.notes, *([_SIT_NOTE] if taken.noise_name == "sit" else [])),
            counts_from_noise=taken.noise_name == "sit",
        )
        made.assumptions, made.open_readings = taken.assumptions, taken.open_readings
        made.reading = f"num_heads={heads}, noise={taken.noise_name}, prediction={taken.prediction}"
        made._latent = {key: value for key, value in found.metadata.items() if key == "latent"}
        made._folder = found.path.parent
        return made

    @property
    def device(self) -> torch.device:
        return self.module.pos_embed.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.pos_embed.dtype

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        assert conditions is not None, "a DiT is class-conditional"
        blocks = self.module.blocks
        h, c = self.module.embed(x, 1 - time / 1000 if self._counts_from_noise else time, conditions)
        if self.signature.granularity == "branch":
            chain: Chain = BranchChain(blocks, c)
        else:
            chain = ResidualChain(len(blocks), lambda index, value: blocks[index](value, c))
        return Pass(h, chain, lambda value: self._meaning(self.module.head(value, c)))

    def _meaning(self, out: Tensor) -> Tensor:
        """The output as `prediction` says it."""
        if self.noise.kind == "flow":
            out = out[:, : self.sample_shape[0]]
        return -out if self._counts_from_noise else out

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
            "noise": "sit" if self._counts_from_noise else noise,
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
        """Multiplications of one attention and of one MLP, each with its half of the modulation."""
        module = self.module
        tokens, width = module.pos_embed.shape[1], module.pos_embed.shape[2]
        hidden = cast(DiTBlock, module.blocks[0]).mlp.fc1.out_features if len(module.blocks) else 0
        attention = 4 * tokens * width * width + 2 * tokens * tokens * width
        return attention + 3 * width * width, 2 * tokens * width * hidden + 3 * width * width


@dataclass(frozen=True)
class _Reading:
    """The settings of a DiT that the shapes don't show, given or assumed.

    Attributes:
        noise_name: in `DIT_NOISES`; "file" where the file's metadata describes the noise.
        assumptions, open_readings: see `Network`.
    """

    num_heads: int
    noise_name: str
    noise: Noise
    prediction: str
    assumptions: tuple[str, ...]
    open_readings: tuple[dict[str, Any], ...]


def _reading(found: Checkpoint, sizes: Mapping[str, Any], given: Mapping[str, Any]) -> _Reading:
    """What the user gives, then what the file says, then what the public code does; the last is open.

    Raises:
        InputError: a value is not known, two contradict each other, or the file says what is not known here.
    """
    said = _said(found, sizes) | {name: value for name, value in given.items() if value is not None}
    width, depth = sizes["width"], sizes["depth"]
    heads = heads_of(width, said.get("num_heads"))
    pairs = [
        (noise, prediction)
        for noise, prediction in DIT_READINGS
        if said.get("noise", noise) in (noise, "file") and said.get("prediction", prediction) == prediction
    ]
    if said.get("noise") == "file":
        pairs = [("file", said.get("prediction", "epsilon"))]
    if not pairs:
        pairs = [_contradiction(said)]
    noise, prediction = pairs[0]
    in_paper = (depth, width, heads) in DIT_SIZES.values()
    open_heads = {} if "num_heads" in said or in_paper else {"num_heads": heads_for(width, heads)}
    why = "as in the paper" if in_paper else f"{width // heads} channels a head"
    assumptions = [] if "num_heads" in said else [assumed("num_heads", heads, why)]
    for name, value in (("noise", noise), ("prediction", prediction)):
        if name not in said:
            assumptions.append(
                assumed(name, value, "as in the public code" if len(pairs) > 1 else "to match the other setting")
            )
    if assumptions:
        assumptions.append("patches: the pixels are assumed in the order of the public code (row, column, channel)")
        if sizes["learned_range"] and prediction != "flow":
            assumptions.append(
                "learned sigma: the second half of the outputs is assumed to be the variance, as in the public code"
            )
    described = noise_of(found.metadata["noise"], str(found.path)) if noise == "file" else DIT_NOISES[noise]
    return _Reading(heads, noise, described, prediction, tuple(assumptions), readings(open_heads, pairs))


def assumed(name: str, value: object, why: str) -> str:
    return (
        f"{name}: {value} is assumed, {why}, since the file doesn't state it; `--network-arg {name}=VALUE` changes it"
    )


def _contradiction(said: Mapping[str, Any]) -> NoReturn:
    """Names the value that no DiT has, or the two that no network has both."""
    known = {"noise": list(DIT_NOISES), "prediction": list(PREDICTIONS[:4])}
    for name, values in known.items():
        if name in said and said[name] not in values:
            raise InputError(f"{name}: `{said[name]}` is not known of a DiT. {nearest(str(said[name]), values)}")
    raise InputError(
        f"prediction: a DiT with noise {said['noise']} can't predict {said['prediction']}. Flow matching ("
        f"{' or '.join(FLOW_NOISES)}) goes with prediction flow, and no other noise does."
    )


def _said(found: Checkpoint, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says itself, in its metadata or in the arguments of its training program.

    Raises:
        InputError: it says what is not known here.
    """
    said = {name: found.metadata[name] for name in ("num_heads", "prediction") if name in found.metadata}
    if "prediction" in said and said["prediction"] not in PREDICTIONS:
        known = ", ".join(PREDICTIONS)
        raise InputError(
            f"checkpoint: `{found.path}` must predict one of {known}, but says {said['prediction']}. Fix it."
        )
    if "noise" in found.metadata:
        said["noise"] = "sit" if found.metadata["noise"] == "sit" else "file"
    if found.metadata:  # a file of ours says what differs from the public code
        return {"noise": "linear", "prediction": "epsilon"} | said
    model = str(found.arguments.get("model", ""))
    size = DIT_SIZES.get(model.partition("/")[0].replace("SiT", "DiT"))
    if size is not None and size[:2] == (sizes["depth"], sizes["width"]):
        said["num_heads"] = size[2]
    if model.startswith("SiT") or "path_type" in found.arguments:
        return said | _said_by_sit(found)
    return said | ({"noise": "linear", "prediction": "epsilon"} if model.startswith("DiT-") else {})


def _said_by_sit(found: Checkpoint) -> dict[str, Any]:
    """SiT's reading, from its training program's own arguments. Raises InputError for its other paths and outputs."""
    path, prediction = found.arguments.get("path_type", "Linear"), found.arguments.get("prediction", "velocity")
    if (path, prediction) != ("Linear", "velocity"):
        raise InputError(
            f"checkpoint: `{found.path}` is a SiT with path {path} that predicts {prediction}, by its training "
            "program's arguments; known here is the linear path with velocity. "
            "Describe it in a file of your own and give `--network FILE.py:Class`."
        )
    return {"noise": "sit", "prediction": "flow"}


def _guided(found: Checkpoint, channels: int) -> int | Literal["all"]:
    """How many channels are guided: as the file says, or three of four latent ones where it is none of ours."""
    said = found.metadata.get("guidance_channels", "all" if found.metadata or channels != 4 else 3)
    return said if type(said) is int and 0 < said <= channels else "all"


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
