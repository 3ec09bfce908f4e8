"""The contract between Exeunt and a diffusion network.

A network is a chain of `num_blocks` blocks between an embedding and an output head. One call of `Network.evaluate` runs
one call of a step plan (see `plan.py`): it embeds its input, goes through the chain doing for each span of blocks
what the plan says (run, put stored values in their place, leave out), and applies the head. The plan is an argument and
the network keeps no state between calls. What must be remembered from step to step lives in `slots`, which belong to
the caller, so that two interleaved requests never meet.

A state `h` flows from block to block: a tensor, or a (nested) tuple of them where blocks hand on several. What a block
stores for later steps has such a form too. A chain of blocks lives for one call only.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from .errors import InputError
from .plan import Add, Call, Read, Run, Skip, fuses
from .schedule import NetworkSignature, Noise, Schedule

State: TypeAlias = Tensor | tuple["State", ...]
Slots: TypeAlias = list[State | None]


class Chain(ABC):
    """A network's blocks during one call, in execution order.

    As it stands it is a chain of residual blocks, out = in + f(in). Blocks of other kinds say by `compute`, `apply` and
    `skip` what the actions mean for them (the table of kinds in docs/schedule-format.md):

    * branch: `compute` is its output before its gate, `apply` adds that under this step's gate.
    * merge: `compute` is its residual part, `skip` runs the linear layer over the long skip alone, and `apply` does
      that and adds the residual part.
    * replace: `compute` is all that it hands on, `apply` hands that on; it can't be skipped.

    In a network with merge blocks `compute`, `apply` and `skip` of residual blocks are called too, one block at a time,
    so that they can put aside what a long skip hands on.

    No method may modify its arguments.

    Attributes:
        kinds: of each block, as in the network's signature.
    """

    kinds: Sequence[str]

    @abstractmethod
    def run(self, index: int, h: State) -> State:
        """The state after block `index`."""

    def compute(self, index: int, h: State) -> State:
        """What the block stores when it runs on `h`. `apply(index, h, compute(index, h))` is `run(index, h)`."""
        return add(self.run(index, h), h, -1.0)

    def apply(self, index: int, h: State, value: State) -> State:
        """The state after the block with `value` in place of what it would compute."""
        return add(h, value)

    def skip(self, index: int, h: State) -> State:
        """The state after the block where it is dropped."""
        return h

    def run_and_store(self, index: int, h: State) -> tuple[State, State]:
        """The state after the block, and what it stores: `compute` and `apply`, where nothing cheaper gives both."""
        value = self.compute(index, h)
        return self.apply(index, h, value), value


class ResidualChain(Chain):
    """Residual blocks, given as a function from index and state to the next state."""

    def __init__(self, num_blocks: int, run_block: Callable[[int, Tensor], Tensor]) -> None:
        self.kinds = ("residual",) * num_blocks
        self._run_block = run_block

    def run(self, index: int, h: State) -> State:
        assert isinstance(h, Tensor)
        return self._run_block(index, h)


def execute(call: Call, slots: Slots, h: State, chain: Chain) -> State:
    """Take `h` through a chain as `call` says, and return the state after its last block.

    Args:
        call: spans to run (perhaps storing what they made), to replace by stored values, or to leave out.
        slots: the stored values; `call.release` names those that no later step reads.
        h: the state before block 0.
        chain: the blocks.
    """
    for op in call.ops:
        match op:
            case Run(start, stop, slot) if slot is not None:
                h, slots[slot] = _run_and_store(chain, start, stop, h)
            case Run(start, stop):
                for index in range(start, stop):
                    h = chain.run(index, h)
            case Add(start, _, reads):
                h = _stand_in(chain, start, h, slots, reads)
            case Skip(start, stop):
                for index in range(start, stop):
                    h = chain.skip(index, h)
    for slot in call.release:
        slots[slot] = None
    return h


def _run_and_store(chain: Chain, start: int, stop: int, h: State) -> tuple[State, State]:
    """The state after blocks[start:stop], and what they store: one sum for a residual span, else one block's value."""
    if not _is_fusible(chain, start):
        return chain.run_and_store(start, h)
    before = h
    for index in range(start, stop):
        h = chain.run(index, h)
    return h, add(h, before, -1.0)


def _stand_in(chain: Chain, start: int, h: State, slots: Slots, reads: Sequence[Read]) -> State:
    """The state after a span for which stored values stand in."""
    if _is_fusible(chain, start):
        for read in reads:
            h = add(h, stored(slots, read), read.weight)
        return h
    return chain.apply(start, h, combined(slots, reads))


def combined(slots: Slots, reads: Sequence[Read]) -> State:
    """The weighted sum of stored values that stands in for what one block would compute."""
    first, *others = reads
    value = stored(slots, first)
    if first.weight != 1:
        value = scaled(value, first.weight)
    for read in others:
        value = add(value, stored(slots, read), read.weight)
    return value


def _is_fusible(chain: Chain, index: int) -> bool:
    """Whether a block is one of a residual span that is stored and added as a whole."""
    return chain.kinds[index] == "residual" and fuses(chain.kinds)


def stored(slots: Slots, read: Read) -> State:
    """The rows of a stored value that one guidance branch reads."""
    value = slots[read.slot]
    assert value is not None, f"slot {read.slot} is read before it is written"
    return value if read.rows == "all" else _half(value, first=read.rows == "conditional")


def add(h: State, value: State, weight: float = 1.0) -> State:
    """h + weight · value, part by part."""
    if isinstance(h, Tensor):
        assert isinstance(value, Tensor)
        return torch.add(h, value, alpha=weight)
    return tuple(add(one, other, weight) for one, other in zip(h, value, strict=True))


def scaled(value: State, weight: float | Tensor) -> State:
    """weight · value, part by part."""
    return value * weight if isinstance(value, Tensor) else tuple(scaled(part, weight) for part in value)


def _half(value: State, *, first: bool) -> State:
    if isinstance(value, Tensor):
        half = value.shape[0] // 2
        return value[:half] if first else value[half:]
    return tuple(_half(part, first=first) for part in value)


def copied(value: State) -> State:
    """The same values in tensors of their own."""
    return value.clone() if isinstance(value, Tensor) else tuple(copied(part) for part in value)


@dataclass(frozen=True)
class UsualSampler:
    """What a pipeline samples with that takes a number of steps and no times of ours.

    Attributes:
        solver, spacing: by their registered names.
        options: what the spacing takes.
        order: the solver's; its default if None.
        clip: bound on predicted data; no bound if None.
        variance: of the solver's noise; its default if None.
        by_default: whether it is searched by default, where no solver is named.
    """

    solver: str
    spacing: str
    options: tuple[tuple[str, float], ...] = ()
    order: int | None = None
    clip: float | None = None
    variance: str | None = None
    by_default: bool = True


@dataclass(frozen=True)
class NetworkInput:
    """What one call evaluates the network on.

    Attributes:
        x: (N, *sample_shape) noisy samples. For a joint call the conditional rows come first, then as many
            unconditional.
        time: (N,) the schedule's `network_time`, float.
        conditions: (N,) integers, labels or indices of embedded prompts, the null condition in unconditional rows; None
            for an unconditional network.
        guidance: (N,) scale for a network that takes it as an input; None elsewhere.
    """

    x: Tensor
    time: Tensor
    conditions: Tensor | None = None
    guidance: Tensor | None = None


@dataclass(frozen=True)
class Weights:
    """What of a network is trained, and how a file of it says what the tensors don't.

    Attributes:
        module: whose parameters they are; `evaluate` computes with them.
        fixed: beginnings of the names of parameters that are left alone: constants, and the time's embedder, as ASE
            does (Moon et al. 2024, arXiv 2408.05927).
        metadata: what a safetensors file says beside its tensors, so that it is loaded as this network is.
        files: which the metadata names, and which stand beside it.
    """

    module: nn.Module
    fixed: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Successor:
    """The network that takes over from another one in the course of sampling, as Wan 2.2's low-noise expert does.

    Attributes:
        network: for the same samples and conditions, of as many blocks of the same kinds.
        below: the `network_time` under which its steps are; at it, the other network's still.
    """

    network: "Network"
    below: float


class Network(ABC):
    """A diffusion network that can leave early.

    Every implementation keeps these promises, which one conformance suite checks:

    * At full depth the output equals the original implementation's (bit for bit in float32 on the CPU where that is a
      dependency, stored golden numbers to 1e-5 elsewhere).
    * For a chain of residual blocks, `Run(0, d), Skip(d, n)` equals the same network with its block list cut at d.
    * `reuse` and `forecast` equal a slow reference written from the format's definitions.
    * Each row of a batch depends on that row alone, and no call synchronises the host with the device.

    Attributes:
        signature: architecture, granularity, kinds of the blocks in execution order and the weights' SHA-256.
        prediction: what the output means: "epsilon", "v", "sample", "flow" or "edm".
        noise: the noise schedule that the network was trained on.
        learned_range: whether the output has 2 × C channels, the second half an interpolated log-variance
            (Nichol & Dhariwal 2021, eq. 15).
        sample_shape: (C, H, W) of what the sampler works on (pixels or latents); a video has (C, T, H, W).
        image_shape: (3, H, W) of what `decode` returns.
        condition_kind: "none", "labels", or "prompts", of which `embed` has made a table.
        num_classes: number of class labels; None without labels.
        takes_guidance: whether guidance is an input of the network (distilled guidance, as in FLUX).
        name: how the network is called in reports: a bundled name or a file name.
        keeps_norm: whether guided outputs are scaled to the norm of the conditional ones, each row of the last axis to
            its own, as the network's pipeline does.
        guidance_channels: how many leading channels the network's own code guides; "all" where it knows no such limit.
        decoder_sha256: of a decoder that is no part of the checkpoint, since other images come of another one.
        notes: what was chosen and removed when the weights were read, for people to read.
        assumptions: what the file doesn't say, what was taken for it and why, for people to read.
        reading: the values of what files may leave open, such as `num_heads=4, noise=linear`; empty elsewhere.
        open_readings: arguments under which the same weights could be loaded, the one that was taken first; empty
            where the file or the user says everything.
        code_sha256: of the file of a class that is no part of this package, since other code makes other images.
        usual_guidance: the scale of guidance that it is sampled with by default; None for no guidance.
        usual_shift: the default shift of its times, for flow matching; None for none.
        usual_sampler: solver and times of the pipeline that serves it, where that takes no others; None elsewhere.
        successor: the network that takes its pipeline's later steps; None where it takes them all.
        text_seconds: what encoding one prompt took when `embed` made the table; None before, and without prompts.
    """

    signature: NetworkSignature
    prediction: str
    noise: Noise
    learned_range: bool
    sample_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    num_classes: int | None
    name: str
    takes_guidance: bool = False
    keeps_norm: bool = False
    guidance_channels: int | Literal["all"] = "all"
    decoder_sha256: str | None = None
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    reading: str = ""
    open_readings: tuple[dict[str, Any], ...] = ()
    code_sha256: str | None = None
    usual_guidance: float | None = None
    usual_shift: float | None = None
    usual_sampler: UsualSampler | None = None
    successor: Successor | None = None
    text_seconds: float | None = None

    @property
    def condition_kind(self) -> Literal["none", "labels", "prompts"]:
        """What `conditions` of a `NetworkInput` are indices of."""
        return "none" if self.num_classes is None else "labels"

    @property
    def num_blocks(self) -> int:
        """The number of skippable blocks, in execution order."""
        return self.signature.num_blocks

    @property
    def num_conditions(self) -> int | None:
        """How many conditions there are without the null one: labels or embedded prompts; None for none."""
        return self.num_classes

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are, and where inputs must be."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights and of the samples that they are given."""

    @abstractmethod
    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        """Run one call of a step plan.

        Args:
            inputs: samples, times and conditions.
            call: what to do with each block; None runs them all.
            slots: stored values, read and written as `call` says.

        Returns:
            (N, *sample_shape), with twice the channels with `learned_range`.
        """

    @abstractmethod
    def null_conditions(self, num_images: int) -> Tensor:
        """(num_images,) conditions of the unconditional branch. Raises InputError if the network has none."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Turn samples (N, C, H, W) into RGB images, uint8 (N, 3, H, W)."""

    @abstractmethod
    def flops(self, blocks: Sequence[int]) -> int:
        """Floating-point operations (2 per multiply-add) of one evaluation of one image in one guidance branch.

        Args:
            blocks: the indices of the blocks that run.
        """

    @abstractmethod
    def decode_flops(self) -> int:
        """Floating-point operations of decoding one image."""

    def check_decodes(self) -> None:
        """Raise InputError where samples can't be made images: latents whose decoder is elsewhere and was not given."""
        return

    def at(self, granularity: str) -> "Network":
        """The same weights with their blocks counted at "block" or "branch" granularity.

        Raises:
            InputError: this network has only its own.
        """
        if granularity == self.signature.granularity:
            return self
        raise InputError(
            f"granularity: `{self.name}` has only {self.signature.granularity}, but got `{granularity}`. "
            f"Use {self.signature.granularity}."
        )

    def weights(self) -> Weights:
        """What is trained where this network is fine-tuned.

        Raises:
            InputError: this network can't be.
        """
        raise InputError(
            f"finetune: `{self.name}` is a {type(self).__name__}, which can't be fine-tuned here. Give a checkpoint of "
            "a DiT or of one of its relatives."
        )

    def embed(self, prompts: Sequence[str]) -> None:
        """Make the table of embeddings whose rows `conditions` are indices of, and free the text encoders.

        The null condition, which has the index `len(prompts)`, is the empty prompt. What encoding took goes to
        `text_seconds`.

        Raises:
            InputError: this network takes no prompts.
        """
        raise InputError(f"conditions: `{self.name}` takes no prompts. Give labels, or omit `--conditions`.")


def in_turns(network: Network, schedule: Schedule) -> list[Network]:
    """A network and the one that takes over from it, as far as a schedule names them."""
    both = [network] if network.successor is None else [network, network.successor.network]
    return both[: len(schedule.networks)]


class Pass(NamedTuple):
    """One evaluation of a chain: the state before block 0, the blocks, and the output head."""

    h: State
    chain: Chain
    finish: Callable[[Any], Tensor]


class ChainNetwork(Network):
    """A network that shows its chain: it embeds, hands over its blocks, and applies the head."""

    @abstractmethod
    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        """Embed the fields of a `NetworkInput`."""

    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        h, chain, finish = self.begin(inputs.x, inputs.time, inputs.conditions, inputs.guidance)
        whole = Call(("conditional",), (Run(0, len(chain.kinds)),), ())
        start = [h]  # handed over, so that its memory serves the blocks after the first
        del h
        return finish(execute(call or whole, slots, start.pop(), chain))
