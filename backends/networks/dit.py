"""A DiT checkpoint as a network that can leave early.

The step plan is an argument of the pass: dropped blocks cost nothing, their adaLN modulation included.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from ..checkpoints.weights import Checkpoint, load_strictly, read_checkpoint, weights_sha256
from ..errors import InputError
from ..network import Chain, ChainNetwork, Pass, ResidualChain, State, Weights
from ..schedule import NetworkSignature, Noise
from .decoders import BundledDecoder, DecodedNetwork, Decoder, KLDecoder, PixelDecoder
from .transformer.module import FREQUENCIES, DiT, DiTBlock, Modulation, Rotary, gated
from .transformer.reading import FlowConvention, read
from .transformer.shapes import dit_arguments, for_sampling, label_count, seen

_KINDS = {"block": ("residual", 1), "branch": ("branch", 2)}  # by granularity: the kind, and how many of it a block has


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
        tensors, changes = for_sampling(found.tensors)
        arguments = dit_arguments(tensors)
        classes, has_null = label_count(found, arguments.pop("num_rows"), num_classes)
        given = {"num_heads": num_heads, "noise": noise, "prediction": prediction}
        taken = read(found, seen(found.tensors, arguments), given)
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
