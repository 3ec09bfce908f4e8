"""The conformance suite on every network there is, each loaded from a file as users load it, and on broken ones."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exeunt.backends.network import Chain, Network, NetworkInput, Pass, ResidualChain, Slots, State
from exeunt.backends.networks import registry
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.conformance.checks import Check, Failed, NetworkUnderTest, NotApplicable, Passed, outcome
from exeunt.backends.networks.conformance.suite import CHECKS, suite
from exeunt.backends.networks.transformer.module import DiT
from exeunt.backends.networks.uvit import UViT
from exeunt.backends.plan import Add, Call
from tiny_pipelines import tiny
from torch import Tensor, nn

pytestmark = pytest.mark.cpu

Load = Callable[[torch.device, torch.dtype], Network]
CPU = torch.device("cpu")
SUPPORT = Path(__file__).parents[3] / "support"

DIT = {"input_size": 8, "patch_size": 2, "channels": 4, "width": 48, "depth": 5, "num_heads": 3, "num_classes": 7}
UVIT = {"input_size": 8, "patch_size": 2, "channels": 3, "width": 48, "depth": 5, "num_heads": 3, "hidden": 96}
LABELLED = {
    "input_size": 8, "patch_size": 4, "channels": 4, "width": 32, "depth": 3, "num_heads": 2, "hidden": 64,
    "num_labels": 7, "qkv_bias": True, "time_mlp": True, "conv": False,
}  # fmt: skip


def saved(module: nn.Module, path: Path) -> Path:
    """A checkpoint of the module with random weights, none of them zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    torch.save({"ema": module.state_dict()}, path)
    return path


class Unchained(Network):
    """A network that shows no chain, as one that works by hooks: everything is asked of the one inside."""

    def __init__(self, inside: Network) -> None:
        self.inside = inside
        for name in ("signature", "prediction", "noise", "learned_range", "sample_shape", "image_shape", "num_classes"):
            setattr(self, name, getattr(inside, name))
        self.name = inside.name

    @property
    def device(self) -> torch.device:
        return self.inside.device

    @property
    def dtype(self) -> torch.dtype:
        return self.inside.dtype

    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        return self.inside.evaluate(inputs, call, slots)

    def at(self, granularity: str) -> Network:
        return type(self)(self.inside.at(granularity))

    def null_conditions(self, num_images: int) -> Tensor:
        return self.inside.null_conditions(num_images)

    def decode(self, x: Tensor) -> Tensor:
        return self.inside.decode(x)

    def flops(self, blocks: Sequence[int]) -> int:
        return self.inside.flops(blocks)

    def decode_flops(self) -> int:
        return self.inside.decode_flops()


class ReadsOnce(Unchained):
    """Sums only the first of what it is to sum."""

    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        if call is not None:
            ops = [replace(op, reads=op.reads[:1]) if isinstance(op, Add) else op for op in call.ops]
            call = replace(call, ops=tuple(ops))
        return self.inside.evaluate(inputs, call, slots)


def from_file(path: str | Path | None, **options: object) -> Load:
    return lambda device, dtype: registry.load_network(path, device, dtype, **options)  # type: ignore[arg-type]


def unchained(load: Load) -> Load:
    return lambda device, dtype: Unchained(load(device, dtype))


def piped(folder: Path, kind: str, **options: object) -> Load:
    """A pipeline's folder as diffusers saves it."""
    tiny(kind).save_pretrained(folder / kind)
    return from_file(folder / kind, **options)


MAKERS: dict[str, Callable[[Path], Load]] = {
    "dit": lambda folder: from_file(saved(DiT(**DIT), folder / "dit.pt"), num_heads=3),
    "dit-learned-range": lambda folder: from_file(
        saved(DiT(**DIT, learned_range=True), folder / "range.pt"), num_heads=3
    ),
    "u-vit": lambda folder: from_file(saved(UViT(**UVIT), folder / "uvit.pth"), num_heads=3),  # type: ignore[arg-type]
    "u-vit-labels": lambda folder: from_file(
        saved(UViT(**LABELLED), folder / "labels.pth"),  # type: ignore[arg-type]
        num_heads=2, num_classes=6,
    ),
    "closed-form": lambda folder: from_file("closed-form", components=3, num_blocks=5),
    "prompted": lambda folder: from_file(
        None, network=f"{SUPPORT / 'prompted.py'}:PromptedNetwork", components=3, num_blocks=4
    ),
    "unchained": lambda folder: unchained(
        from_file(saved(UViT(**LABELLED), folder / "u.pth"), num_heads=2, num_classes=6)  # type: ignore[arg-type]
    ),
    "diffusers-dit": lambda folder: piped(folder, "dit"),
    "diffusers-pixart-alpha": lambda folder: piped(folder, "pixart-alpha"),
    "diffusers-pixart-sigma": lambda folder: piped(folder, "pixart-sigma"),
    "diffusers-sd3": lambda folder: piped(folder, "sd3"),
    "diffusers-flux": lambda folder: piped(folder, "flux", height=32, width=32),
    "diffusers-wan": lambda folder: piped(folder, "wan", height=32, width=32, num_frames=5),
    "fashion-dit": lambda folder: from_file("fashion-dit"),
    "fashion-dit-exits": lambda folder: from_file("fashion-dit-exits"),
}  # fmt: skip

# What does not apply on a machine without CUDA, besides the two checks that need it.
WITHOUT: dict[str, set[str]] = {
    "dit": {"decoding"},
    "dit-learned-range": {"decoding"},
    "u-vit": {"actions, guided"},
    "u-vit-labels": {"decoding"},
    "closed-form": {"granularities"},
    "prompted": {"granularities"},
    "unchained": {"decoding"},
    "diffusers-dit": set(),
    "diffusers-pixart-alpha": set(),
    "diffusers-pixart-sigma": set(),
    "diffusers-sd3": {"granularities"},
    "diffusers-flux": {"granularities", "actions, guided"},
    "diffusers-wan": set(),
    "fashion-dit": set(),
    "fashion-dit-exits": set(),
}


@pytest.fixture(scope="module")
def subject_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], NetworkUnderTest]:
    folder = tmp_path_factory.mktemp("checkpoints")

    @functools.cache
    def make(name: str) -> NetworkUnderTest:
        load = MAKERS[name](folder)
        return NetworkUnderTest(load(CPU, torch.float32), load)

    return make


# The same architecture, at the same size, as `fashion-dit`.
TWIN = pytest.param("fashion-dit-exits", marks=pytest.mark.slow)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", [*(name for name in MAKERS if name != "fashion-dit-exits"), TWIN])
def test_networks_keep_their_promises(name: str, check: Check, subject_of: Callable[[str], NetworkUnderTest]) -> None:
    found = outcome(check, subject_of(name))
    if check.name in WITHOUT[name]:
        assert isinstance(found, NotApplicable), found
    elif isinstance(found, NotApplicable):
        assert check.name in ("devices", "synchronisation"), found
        assert not torch.cuda.is_available()
    else:
        assert isinstance(found, Passed), found


@pytest.mark.gpu
@pytest.mark.parametrize("name", MAKERS)
def test_networks_keep_their_promises_on_cuda(name: str, tmp_path: Path) -> None:
    load = MAKERS[name](tmp_path)
    found = dict(suite(NetworkUnderTest(load(torch.device("cuda:0"), torch.float32), load)))
    assert not {check.name: each for check, each in found.items() if isinstance(each, Failed)}


# ---- the suite finds what is wrong -----------------------------------------------------------------------------------


class Broken(ClosedFormNetwork):
    """A network that keeps every promise; its heirs break one each."""

    @classmethod
    def make(cls, device: torch.device, dtype: torch.dtype) -> "Broken":
        return cls.from_checkpoint(None, device=device, dtype=dtype, name="broken", components=3, num_blocks=4)


class ForgetsTime(Broken):
    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        return super().begin(x, torch.full_like(time, 500.0), conditions, guidance)


class MixesRows(Broken):
    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        return super().begin(x - 0.1 * x.mean(dim=0, keepdim=True), time, conditions, guidance)


class WritesToItsInput(Broken):
    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        output = super().evaluate(inputs, call, slots)
        inputs.x.mul_(0.5)
        return output


class DrawsNoise(Broken):
    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        return super().begin(x + 0.01 * torch.randn_like(x), time, conditions, guidance)


class RunsBlocksElsewhere(Broken):
    """As a wrapper does that forgets to hand its blocks over."""

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        h, chain, finish = super().begin(x, time, conditions, guidance)
        for index in range(self.num_blocks):
            h = chain.run(index, h)
        return Pass(h, ResidualChain(self.num_blocks, lambda _, value: value), finish)


class KeepsState(Broken):
    """As a hook does that counts steps by itself."""

    calls = 0

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        self.calls += 1
        return super().begin(x * (1 + 0.01 * self.calls), time, conditions, guidance)


class ReusesTheOutput(Broken):
    """As a cache does that keeps hidden states where residuals are due."""

    class Cache(Chain):
        def __init__(self, chain: Chain) -> None:
            self.chain, self.kinds = chain, chain.kinds

        def run(self, index: int, h: State) -> State:
            return self.chain.run(index, h)

        def compute(self, index: int, h: State) -> State:
            return self.chain.run(index, h)

        def apply(self, index: int, h: State, value: State) -> State:
            return value

    def begin(self, x: Tensor, time: Tensor, conditions: Tensor | None, guidance: Tensor | None = None) -> Pass:
        h, chain, finish = super().begin(x, time, conditions, guidance)
        return Pass(h, self.Cache(chain), finish)


class IgnoresSkips(Broken):
    """Runs what a plan leaves out."""

    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        return super().evaluate(inputs, None, slots)


class HoldsOn(Broken):
    """Frees nothing."""

    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        kept = None if call is None else replace(call, release=())
        return super().evaluate(inputs, kept, slots)


class Understates(Broken):
    def flops(self, blocks: object) -> int:
        return len(list(blocks))  # type: ignore[call-overload]


class DecodesToFloats(Broken):
    def decode(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


class Raises(Broken):
    def decode(self, x: Tensor) -> Tensor:
        raise KeyError("decoder")


class StaysInSingle(Broken):
    @classmethod
    def make(cls, device: torch.device, dtype: torch.dtype) -> Broken:
        return super().make(device, torch.float32)


class HasNoDigest(Broken):
    @property
    def signature(self) -> object:
        return replace(self._signature, weights_sha256=None)

    @signature.setter
    def signature(self, value: object) -> None:
        self._signature = value


@pytest.mark.parametrize(
    ("broken", "name", "words"),
    [
        (ForgetsTime, "time", "time is not used"),
        (MixesRows, "rows", "row alone"),
        (WritesToItsInput, "input", "argument x"),
        (DrawsNoise, "repeats", "draw noise"),
        (RunsBlocksElsewhere, "blocks count", "outside the chain"),
        (KeepsState, "no state", "keeps state"),
        (ReusesTheOutput, "actions", "format's definitions"),
        (ReusesTheOutput, "kinds", "adding nothing is dropping it"),
        (ReusesTheOutput, "actions, guided", "format's definitions"),
        (IgnoresSkips, "actions", "format's definitions"),
        (HoldsOn, "slots", "call.release"),
        (Understates, "operations", "more floating-point operations"),
        (DecodesToFloats, "decoding", "uint8"),
        (Raises, "decoding", "KeyError at line .* of test_suite.py"),
        (StaysInSingle, "types", "its dtype is torch.float32"),
        (HasNoDigest, "description", "weights_sha256"),
    ],
)
def test_broken_networks_fail(broken: type[Broken], name: str, words: str) -> None:
    check = next(check for check in CHECKS if check.name == name)
    found = outcome(check, NetworkUnderTest(broken.make(CPU, torch.float32), broken.make))
    assert isinstance(found, Failed), found
    assert re.search(words, found.reason), found


@pytest.mark.parametrize(("name", "words"), [("actions", "format's definitions"), ("kinds", "adding nothing")])
def test_broken_networks_without_a_chain_fail(name: str, words: str) -> None:
    check = next(check for check in CHECKS if check.name == name)
    found = outcome(check, NetworkUnderTest(ReadsOnce(registry.load_network("closed-form", num_blocks=4))))
    assert isinstance(found, Failed), found
    assert words in found.reason


def test_the_whole_network_that_the_broken_ones_are_of_is_whole() -> None:
    found = dict(suite(NetworkUnderTest(Broken.make(CPU, torch.float32), Broken.make)))
    assert not [each for each in found.values() if isinstance(each, Failed)]
