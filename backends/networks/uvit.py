"""U-ViT (Bao et al. 2023, arXiv 2209.12152), as a network that can leave early.

Time, label and patches are all tokens, and long skips join the first half of the blocks to the second. The state dict
has the names and shapes of the paper's public code, so its checkpoints load. A block of the second half begins with a
linear layer over the long skip; as in ASE (Moon et al. 2024) that layer always runs, and what a schedule leaves out or
replaces is the attention and the MLP after it.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, cast

import torch
from torch import Tensor, nn

from ..checkpoints.weights import checked_shape, load_strictly, read_checkpoint, weights_sha256
from ..errors import InputError, nearest
from ..network import Chain, ChainNetwork, Pass, State
from ..schedule import NetworkSignature, Noise
from .decoders import DecodedNetwork, Decoder, KLDecoder, PixelDecoder
from .readings import heads_for, readings
from .transformer.module import Attention, GeluMlp, PatchEmbed, embedding, timestep_embedding
from .transformer.reading import assumed, heads_of

BranchKind: TypeAlias = Literal["attention", "mlp"]


class Block(nn.Module):
    """Attention and MLP, each added to its input; with `merges`, a linear layer over the long skip comes first."""

    def __init__(self, width: int, num_heads: int, hidden: int, qkv_bias: bool, merges: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = GeluMlp(width, hidden, "none")
        self.skip_linear = nn.Linear(2 * width, width) if merges else None

    def branch(self, name: BranchKind, x: Tensor) -> Tensor:
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


def uvit_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
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


# Noise schedules of the public code, and how many of the network's time units one train index is: its VP-SDE receives
# 999 · t where train index i is t = (i + 1) / 1000, and its discrete processes count from 1.
UVIT_NOISES = {
    "vp": (Noise("vp", beta_min=0.1, beta_max=20.0), 0.999),
    "scaled-linear": (Noise("scaled-linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000), 1.0),
    "linear": (Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000), 1.0),
}
LARGEST = 1152  # the width of the public H models, of 16 heads
IMAGENET_WITH_NULL = 1001  # rows of the label embedding of the public checkpoints that were trained for guidance


# ---- its blocks as a chain -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """What a schedule calls a block: a whole one, or one of its two branches.

    Attributes:
        kind: as in the network's signature.
        block: where its weights are.
        branches: what is added to the hidden state, one after the other.
        hands_on: whether its output becomes a long skip.
    """

    kind: str
    block: Block
    branches: tuple[BranchKind, ...]
    hands_on: bool


def units_of(module: UViT, granularity: str) -> list[Unit]:
    """The units of all blocks in execution order, at "block" or "branch" granularity."""
    units: list[Unit] = []
    half = len(module.in_blocks)
    for number, block in enumerate(module.blocks):
        hands_on, merges = number < half, number > half
        if granularity == "block":
            units.append(Unit("merge" if merges else "residual", block, ("attention", "mlp"), hands_on))
        else:
            units.append(Unit("merge" if merges else "branch", block, ("attention",), False))
            units.append(Unit("branch", block, ("mlp",), hands_on))
    return units


class UViTChain(Chain):
    """The state is (tokens, long skips that wait): blocks of the first half put one aside, merges take the last."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.kinds = tuple(unit.kind for unit in units)
        self._units = units

    def run(self, index: int, h: State) -> State:
        x, skips = self._enter(index, h)
        return self._leave(index, self._add_branches(index, x), skips)

    def run_and_store(self, index: int, h: State) -> tuple[State, State]:
        x, skips = self._enter(index, h)
        unit = self._units[index]
        if len(unit.branches) == 1:
            value = unit.block.branch(unit.branches[0], x)
            return self._leave(index, x + value, skips), value
        after = self._add_branches(index, x)
        return self._leave(index, after, skips), after - x

    def compute(self, index: int, h: State) -> State:
        return self.run_and_store(index, h)[1]

    def apply(self, index: int, h: State, value: State) -> State:
        assert isinstance(value, Tensor)
        x, skips = self._enter(index, h)
        return self._leave(index, x + value, skips)

    def skip(self, index: int, h: State) -> State:
        return self._leave(index, *self._enter(index, h))

    def _enter(self, index: int, h: State) -> tuple[Tensor, tuple[State, ...]]:
        """The tokens that a unit's branches get, after the linear layer of a merge, and the skips that still wait."""
        x, skips = cast(tuple[Tensor, tuple[Tensor, ...]], h)
        if self._units[index].kind == "merge":
            return self._units[index].block.merge(x, skips[-1]), skips[:-1]
        return x, skips

    def _leave(self, index: int, x: Tensor, skips: tuple[State, ...]) -> State:
        return x, ((*skips, x) if self._units[index].hands_on else skips)

    def _add_branches(self, index: int, x: Tensor) -> Tensor:
        unit = self._units[index]
        for name in unit.branches:
            x = x + unit.block.branch(name, x)
        return x


class UViTNetwork(DecodedNetwork, ChainNetwork):
    """A U-ViT checkpoint with what surrounds it: its noise schedule, and the decoder of its samples.

    Args:
        module: the transformer.
        name: see `Network`.
        weights_sha256: of the state dict, or None.
        num_classes: how many of the label embedding's rows are classes; where one is left, it is the null label.
        noise: a name in `UVIT_NOISES`.
        prediction: see `Network`.
        decoder: of the samples; they are images if not given.
        notes: see `Network`.
    """

    def __init__(
        self,
        module: UViT,
        *,
        name: str,
        weights_sha256: str | None,
        num_classes: int | None,
        noise: str = "vp",
        prediction: str = "epsilon",
        decoder: Decoder | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name, self.num_classes, self.prediction, self.notes = name, num_classes, prediction, notes
        self.noise, self._time_scale = UVIT_NOISES[noise]
        size = module.side * module.patch_size
        self.sample_shape = (module.channels, size, size)
        self.set_decoder(decoder or PixelDecoder(self.sample_shape, name))
        self.learned_range = False
        self._see(module, "block", weights_sha256)

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
        """Load a .pth, .pt or .safetensors file with U-ViT's names.

        What shapes can't tell is as in the public code where it is not given: 16 heads at width 1152, else 64 channels
        a head; noise prediction; 1001 label rows are 1000 classes and the null label, any other number has no null
        label; the VP-SDE in pixels and for latents with labels and a convolution at the end (the public L models),
        else Stable Diffusion's betas.

        Raises:
            InputError: tensors are missing, are too many or have other shapes, or a value is out of range.
        """
        found = read_checkpoint(path, weights_key)
        arguments = uvit_arguments(found.tensors)
        channels, num_labels = arguments["channels"], arguments["num_labels"]
        given = {"num_heads": num_heads, "noise": noise, "prediction": prediction}
        if noise is None:
            noise = "vp" if channels in (1, 3) or (num_labels and arguments["conv"]) else "scaled-linear"
        prediction = prediction or "epsilon"
        if noise not in UVIT_NOISES:
            raise InputError(f"noise: `{noise}` is not known of a U-ViT. {nearest(noise, UVIT_NOISES)}")
        if prediction not in ("epsilon", "v", "sample"):
            raise InputError(f"prediction: must be epsilon, v or sample, but got `{prediction}`. Use one of them.")
        heads = heads_of(arguments["width"], num_heads)
        with torch.device("meta"):
            module = UViT(**arguments, num_heads=heads)
        load_strictly(module, found.tensors, found.path)
        module.to(device=device, dtype=dtype)
        size = arguments["input_size"]
        made = cls(
            module,
            name=name,
            weights_sha256=weights_sha256(found.tensors),
            num_classes=_num_classes(num_labels, num_classes),
            noise=noise,
            prediction=prediction,
            decoder=KLDecoder.from_folder(Path(vae), (channels, size, size), device, dtype) if vae else None,
            notes=found.notes,
        )
        taken = {"num_heads": heads, "noise": noise, "prediction": prediction}
        made.reading = ", ".join(f"{name}={value}" for name, value in taken.items())
        made.open_readings = _open(arguments["width"], taken, given)
        made.assumptions = tuple(assumed(name, taken[name], _WHY[name]) for name in taken if given[name] is None)
        return made

    def _see(self, module: UViT, granularity: str, sha256: str | None) -> None:
        """Count the blocks at a granularity."""
        self._units = units_of(module, granularity)
        kinds = tuple((kind, len(list(same))) for kind, same in groupby(unit.kind for unit in self._units))
        self.signature = NetworkSignature("U-ViT", granularity, kinds, sha256)

    def at(self, granularity: str) -> "UViTNetwork":
        if granularity not in ("block", "branch"):
            raise InputError(f"granularity: a U-ViT has block and branch, but got `{granularity}`. Use one of them.")
        other = copy.copy(self)
        other._see(self.module, granularity, self.signature.weights_sha256)
        return other

    @property
    def device(self) -> torch.device:
        return self.module.pos_embed.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.pos_embed.dtype

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        tokens = self.module.embed(x, (time.float() + 1) * self._time_scale, conditions)
        return Pass((tokens, ()), UViTChain(self._units), lambda h: self.module.head(h[0]))

    def null_conditions(self, num_images: int) -> Tensor:
        if self.num_classes is None or self.module.label_emb is None:
            raise InputError(f"guidance: `{self.name}` takes no labels, so it can't be guided. Omit it.")
        if self.num_classes == self.module.label_emb.num_embeddings:
            raise InputError(
                f"guidance: all {self.num_classes} labels of `{self.name}` are assumed to be classes, so it can't be "
                "guided. Omit `--guidance`; or, if the last one is its null label, add "
                f"`--network-arg num_classes={self.num_classes - 1}`."
            )
        return torch.full((num_images,), self.num_classes, dtype=torch.long, device=self.device)

    def flops(self, blocks: Sequence[int]) -> int:
        module = self.module
        tokens, width = module.pos_embed.shape[1], module.pos_embed.shape[2]
        patches, outputs = module.side**2, module.decoder_pred.out_features
        merges = len(module.out_blocks) * tokens * 2 * width * width  # their linear layers run whatever is dropped
        ends = 2 * patches * width * outputs + sum(p.numel() for p in module.time_embed.parameters() if p.ndim == 2)
        if isinstance(module.final_layer, nn.Conv2d):
            ends += patches * module.patch_size**2 * module.final_layer.weight.numel()
        cost: dict[BranchKind, int] = {
            "attention": 4 * tokens * width * width + 2 * tokens * tokens * width,
            "mlp": 2 * tokens * width * module.mid_block.mlp.fc1.out_features,
        }
        run = sum(cost[name] for index in blocks for name in self._units[index].branches)
        return 2 * (ends + merges + run)


_WHY = {
    "num_heads": "64 channels a head",
    "noise": "as in the public code for such samples",
    "prediction": "as in the public code",
}


def _open(width: int, taken: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """What else the weights may be, where it isn't given; the paper's number of heads at its largest width is known."""
    heads = {"num_heads": heads_for(width, taken["num_heads"])}
    noises = [taken["noise"], *(noise for noise in UVIT_NOISES if noise != taken["noise"])]
    pairs = [
        (noise, prediction)
        for noise in (noises if given["noise"] is None else noises[:1])
        for prediction in (("epsilon", "v", "sample") if given["prediction"] is None else (taken["prediction"],))
    ]
    return readings(heads if given["num_heads"] is None and width != LARGEST else {}, pairs)


def _num_classes(num_labels: int, given: int | None) -> int | None:
    """How many labels are classes, all of them or all but the last."""
    if not num_labels:
        if given is not None:
            raise InputError(f"num_classes: this U-ViT takes no labels, but got {given}. Omit it.")
        return None
    count = given or (num_labels - 1 if num_labels == IMAGENET_WITH_NULL else num_labels)
    if count not in (num_labels, num_labels - 1):
        raise InputError(
            f"num_classes: the checkpoint has {num_labels} labels, so it must be {num_labels}, or {num_labels - 1} "
            f"where the last one is the null label; but got {count}. Use one of them."
        )
    return count
