"""U-ViT: the public code's numbers, what actions mean for merge blocks, loading, and its arithmetic."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks import registry
from exeunt.backends.networks.uvit import UVIT_NOISES, UViT, UViTNetwork
from exeunt.backends.plan import Add, Call, Op, Read, Run, Skip
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

pytestmark = pytest.mark.cpu

SMALL = {"input_size": 8, "patch_size": 2, "channels": 3, "width": 48, "depth": 5, "num_heads": 3, "hidden": 192}
LABELLED = {
    "input_size": 8, "patch_size": 4, "channels": 4, "width": 32, "depth": 3, "num_heads": 2, "hidden": 64,
    "num_labels": 7, "qkv_bias": True, "time_mlp": True, "conv": False,
}  # fmt: skip

# Depth, width, heads (table 1 of the paper, and its public code); the number behind the slash is the patch size.
UVIT_SIZES = {"U-ViT-S": (13, 512, 8), "U-ViT-M": (17, 768, 12), "U-ViT-L": (21, 1024, 16), "U-ViT-H": (29, 1152, 16)}


def fill(module: torch.nn.Module) -> None:
    """Weights by formula, the same on every machine and in the run of the original that made the golden numbers."""
    with torch.no_grad():
        for k, (name, value) in enumerate(sorted(module.state_dict().items())):
            i = torch.arange(value.numel(), dtype=torch.float64)
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_((torch.sin(i * 0.7311 + k * 1.37) * 0.15 + offset).reshape(value.shape).float())


def small_uvit(noise: str = "vp", **changes: int | bool) -> UViTNetwork:
    module = UViT(**{**SMALL, **changes})  # type: ignore[arg-type]
    fill(module)
    return UViTNetwork(module, name="small", weights_sha256=None, num_classes=None, noise=noise)


def labelled_uvit(num_classes: int = 6) -> UViTNetwork:
    module = UViT(**LABELLED)  # type: ignore[arg-type]
    fill(module)
    return UViTNetwork(module, name="labelled", weights_sha256=None, num_classes=num_classes, noise="scaled-linear")


def waves(n: int, shape: Sequence[int], phase: float = 0.0) -> Tensor:
    count = n * int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.37 + phase).reshape(n, *shape).float()


def evaluate(network: UViTNetwork, ops: Sequence[Op], slots: list, phase: float = 0.0) -> Tensor:
    call = Call(("conditional",), tuple(ops), ())
    labels = None if network.num_classes is None else torch.tensor([0, 3])
    return network.evaluate(
        NetworkInput(waves(2, network.sample_shape, phase), torch.tensor([3.0, 500.0]), labels), call, slots
    )


class TestPublicCode:
    """Outputs of baofff/U-ViT (libs/uvit.py) with the weights of `fill`, run once on a CPU. Its samplers hand the
    network 999 · t on the VP-SDE, and indices from 1 for discrete processes: here train indices from 0, as ever."""

    def test_unconditional(self) -> None:
        golden = [0.123109, 0.295129, -0.268944, -0.209576, -0.012888, -0.092477, -0.07611, 0.154916]
        golden += [-0.209993, -0.242927, -0.015034, 0.11279, -0.081587, 0.211212, -0.041132, -0.256913]
        network = small_uvit("linear")
        output = network.evaluate(NetworkInput(waves(3, (3, 8, 8)), torch.tensor([0.0, 499.0, 999.0])), None, [])
        assert output.flatten()[::37].tolist() == pytest.approx(golden, abs=1e-5)

    def test_with_labels(self) -> None:
        golden = [-0.207157, 0.062958, -0.443438, -0.093362, 0.361796, -0.254951, 0.233032, 0.49482]
        golden += [0.299804, -0.297352, 0.306809, -0.04851, -0.574582, -0.537496, 0.105845, -0.185642]
        module = UViT(**LABELLED)  # type: ignore[arg-type]
        fill(module)
        network = UViTNetwork(module, name="labelled", weights_sha256=None, num_classes=6, noise="vp")
        times = torch.tensor([0.0, 499.0, 999.0])  # 999 · t = 0.999, 499.5 and 999
        output = network.evaluate(NetworkInput(waves(3, (4, 8, 8)), times, torch.tensor([0, 3, 6])), None, [])
        assert output.flatten()[::37].tolist()[:16] == pytest.approx(golden, abs=1e-5)

    @pytest.mark.parametrize(
        ("name", "input_size", "patch_size", "channels", "num_labels", "conv", "millions"),
        [
            ("U-ViT-S", 32, 2, 3, 0, True, 44),
            ("U-ViT-M", 64, 4, 3, 1000, True, 131),
            ("U-ViT-L", 32, 2, 4, 1001, True, 287),
            ("U-ViT-H", 32, 2, 4, 1001, False, 501),
        ],
    )
    def test_sizes_of_the_paper(
        self, name: str, input_size: int, patch_size: int, channels: int, num_labels: int, conv: bool, millions: int
    ) -> None:
        """Parameters in millions, table 1 of arXiv 2209.12152."""
        depth, width, num_heads = UVIT_SIZES[name]
        with torch.device("meta"):
            module = UViT(
                input_size=input_size, patch_size=patch_size, channels=channels, width=width, depth=depth,
                num_heads=num_heads, hidden=4 * width, num_labels=num_labels, conv=conv,
            )  # fmt: skip
        assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


class TestMergeBlocks:
    def test_kinds(self) -> None:
        assert small_uvit().signature.kinds == (("residual", 3), ("merge", 2))
        assert small_uvit().at("branch").signature.kinds == (
            ("branch", 6), ("merge", 1), ("branch", 1), ("merge", 1), ("branch", 1),
        )  # fmt: skip
        with pytest.raises(InputError, match="block and branch"):
            small_uvit().at("layer")

    def test_dropped_blocks_keep_their_linear_layer(self) -> None:
        """As ASE leaves decoder blocks out: the same network with their attention and MLP silenced."""
        network, silenced = small_uvit(), small_uvit()
        with torch.no_grad():
            for block in silenced.module.out_blocks:
                for layer in (block.attn.proj, block.mlp.fc2):
                    layer.weight.zero_()
                    layer.bias.zero_()
        dropped = evaluate(network, [Run(0, 3), Skip(3, 5)], [])
        assert torch.equal(dropped, evaluate(silenced, [Run(0, 5)], []))
        assert not torch.allclose(dropped, evaluate(network, [Run(0, 5)], []), atol=1e-3)

    @pytest.mark.parametrize("granularity", ["block", "branch"])
    def test_storing_changes_nothing(self, granularity: str) -> None:
        network = small_uvit().at(granularity)
        every = [Run(i, i + 1, i) for i in range(network.num_blocks)]
        slots: list = [None] * network.num_blocks
        whole = evaluate(network, [Run(0, network.num_blocks)], [])
        assert torch.equal(evaluate(network, every, slots), whole)
        again = [Add(i, i + 1, (Read(i, 1.0, "all"),)) for i in range(network.num_blocks)]
        torch.testing.assert_close(evaluate(network, again, slots), whole, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("granularity", ["block", "branch"])
    def test_stored_values_stand_in_at_another_input(self, granularity: str) -> None:
        """Against the public code's own forward pass, with each block's (or branch's) contribution put in by hand."""
        network = small_uvit().at(granularity)
        count, per_block = network.num_blocks, 1 if granularity == "block" else 2
        slots: list = [None] * count
        evaluate(network, [Run(i, i + 1, i) for i in range(count)], slots)
        reused = {0, 2, 3, count - 1}
        ops: list[Op] = [
            Add(i, i + 1, (Read(i, 0.5, "all"), Read(i, 0.5, "all"))) if i in reused else Run(i, i + 1)
            for i in range(count)
        ]
        output = evaluate(network, ops, slots, phase=1.0)
        expected = by_hand(network.module, {i: slots[i] for i in reused}, per_block, waves(2, (3, 8, 8), 1.0))
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)

    def test_two_interleaved_requests_do_not_meet(self) -> None:
        network = small_uvit()
        alone, first, second = [None] * 5, [None] * 5, [None] * 5
        store = [Run(i, i + 1, i) for i in range(5)]
        read: list[Op] = [Run(0, 1), *(Add(i, i + 1, (Read(i, 1.0, "all"),)) for i in range(1, 5))]
        evaluate(network, store, alone)
        expected = evaluate(network, read, alone, 2.0)
        evaluate(network, store, first)
        evaluate(network, store, second, 5.0)
        evaluate(network, read, second, 6.0)
        assert torch.equal(evaluate(network, read, first, 2.0), expected)


def by_hand(module: UViT, reused: dict[int, Tensor], per_block: int, x: Tensor) -> Tensor:
    """U-ViT's forward pass, written out, in which some contributions are given."""
    h = module.embed(x, (torch.tensor([3.0, 500.0]) + 1) * 0.999, None)
    skips: list[Tensor] = []
    half = len(module.in_blocks)
    for number, block in enumerate(module.blocks):
        if number > half:
            h = block.skip_linear(torch.cat([h, skips.pop()], dim=-1))
        if per_block == 1:
            inner = h + block.attn(block.norm1(h))
            h = h + reused[number] if number in reused else inner + block.mlp(block.norm2(inner))
        else:
            h = h + reused.get(2 * number, block.attn(block.norm1(h)))
            h = h + reused.get(2 * number + 1, block.mlp(block.norm2(h)))
        if number < half:
            skips.append(h)
    return module.head(h)


class TestArithmetic:
    @pytest.mark.parametrize("make", [small_uvit, labelled_uvit])
    @pytest.mark.parametrize("granularity", ["block", "branch"])
    def test_flops_are_those_that_torch_counts(self, make, granularity: str) -> None:
        network = make().at(granularity)
        labels = None if network.num_classes is None else torch.tensor([2])
        x, time = waves(1, network.sample_shape), torch.tensor([500.0])
        for run in (range(network.num_blocks), range(3), (0, network.num_blocks - 1), ()):
            ops = [Run(i, i + 1) if i in run else Skip(i, i + 1) for i in range(network.num_blocks)]
            with FlopCounterMode(display=False) as counter:
                network.evaluate(NetworkInput(x, time, labels), Call(("conditional",), tuple(ops), ()), [])
            assert network.flops(run) == counter.get_total_flops()


class TestLabels:
    def test_the_row_after_the_classes_is_the_null_label(self) -> None:
        assert labelled_uvit(6).null_conditions(2).tolist() == [6, 6]
        with pytest.raises(InputError, match="num_classes=6"):
            labelled_uvit(7).null_conditions(2)
        with pytest.raises(InputError, match="takes no labels"):
            small_uvit().null_conditions(1)

    @pytest.mark.parametrize(("rows", "given", "expected"), [(1001, None, 1000), (10, None, 10), (11, 10, 10)])
    def test_how_many_are_classes(self, tmp_path: Path, rows: int, given: int | None, expected: int) -> None:
        loaded = registry.load_network(save(tmp_path, num_labels=rows), num_heads=3, num_classes=given)
        assert loaded.num_classes == expected

    def test_other_numbers_of_classes_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must be 10, or 9"):
            registry.load_network(save(tmp_path, num_labels=10), num_heads=3, num_classes=5)
        with pytest.raises(InputError, match="takes no labels"):
            registry.load_network(save(tmp_path), num_heads=3, num_classes=5)


def save(folder: Path, **changes: int | bool) -> Path:
    """A checkpoint as the public training code writes it: the EMA weights' state dict alone."""
    module = UViT(**{**SMALL, **changes})  # type: ignore[arg-type]
    fill(module)
    torch.save(module.state_dict(), folder / "nnet_ema.pth")
    return folder / "nnet_ema.pth"


class TestLoading:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"depth": 1}, {"num_labels": 4, "time_mlp": True}, {"qkv_bias": True, "conv": False, "patch_size": 4}],
    )
    def test_shapes_tell_the_configuration(self, tmp_path: Path, changes: dict[str, int | bool]) -> None:
        loaded = registry.load_network(save(tmp_path, **changes), num_heads=3)
        made = UViT(**{**SMALL, **changes})  # type: ignore[arg-type]
        fill(made)
        assert isinstance(loaded, UViTNetwork)
        assert loaded.num_blocks == changes.get("depth", 5)
        labels = torch.tensor([1, 3]) if "num_labels" in changes else None
        x, time = waves(2, (3, 8, 8)), torch.tensor([3.0, 500.0])
        given = UViTNetwork(made, name="made", weights_sha256=None, num_classes=changes.get("num_labels"))
        output = loaded.evaluate(NetworkInput(x, time, labels), None, [])
        assert torch.equal(output, given.evaluate(NetworkInput(x, time, labels), None, []))

    @pytest.mark.parametrize(
        ("changes", "kind"),
        [
            ({}, "vp"),  # pixels
            ({"channels": 4, "num_labels": 9}, "vp"),  # latents as the public L models
            ({"channels": 4, "num_labels": 9, "conv": False}, "scaled-linear"),  # as the public H models
            ({"channels": 4}, "scaled-linear"),
        ],
    )
    def test_noise_by_what_it_samples(self, tmp_path: Path, changes: dict[str, int | bool], kind: str) -> None:
        path = save(tmp_path, **changes)
        assert registry.load_network(path, num_heads=3).noise == UVIT_NOISES[kind][0]
        assert registry.load_network(path, num_heads=3, noise="linear").noise.kind == "linear"
        with pytest.raises(InputError, match="scaled-linear"):
            registry.load_network(path, num_heads=3, noise="scaled_linear")

    def test_other_predictions(self, tmp_path: Path) -> None:
        path = save(tmp_path)
        assert registry.load_network(path, num_heads=3, prediction="sample").prediction == "sample"
        with pytest.raises(InputError, match="epsilon, v or sample"):
            registry.load_network(path, num_heads=3, prediction="noise")

    def test_heads_are_those_of_the_public_code(self, tmp_path: Path) -> None:
        for width, heads in ((512, 8), (1152, 16)):
            path = save(tmp_path, width=width, hidden=8, depth=1, num_heads=1)
            assert registry.load_network(path).module.mid_block.attn.num_heads == heads  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="divide the width"):
            registry.load_network(path, num_heads=5)

    def test_latents_need_a_decoder(self, tmp_path: Path) -> None:
        network = registry.load_network(save(tmp_path, channels=4), num_heads=3)
        with pytest.raises(InputError, match="--vae"):
            network.check_decodes()

    def test_texts_are_refused_by_name(self, tmp_path: Path) -> None:
        path = save(tmp_path)
        state = torch.load(path) | {"context_embed.weight": torch.zeros(48, 768), "context_embed.bias": torch.zeros(48)}
        torch.save(state, path)
        with pytest.raises(InputError, match="text-to-image U-ViT"):
            registry.load_network(path)

    @pytest.mark.parametrize(
        ("name", "shape", "rule"),
        [
            ("pos_embed", (1, 18, 48), "square of patches"),
            ("pos_embed", (17, 48), "3 dimensions"),
            ("patch_embed.proj.weight", (48, 12), "4 dimensions"),
            ("label_emb.weight", (0, 48), "2 dimensions"),
        ],
    )
    def test_shapes_of_other_networks_are_refused(
        self, tmp_path: Path, name: str, shape: tuple[int, ...], rule: str
    ) -> None:
        path = save(tmp_path)
        torch.save(torch.load(path) | {name: torch.zeros(shape)}, path)
        with pytest.raises(InputError, match=rule):
            registry.load_network(path, num_heads=3)

    def test_missing_and_misshapen_tensors_are_named(self, tmp_path: Path) -> None:
        path = save(tmp_path)
        state = torch.load(path)
        torch.save({name: value for name, value in state.items() if name != "out_blocks.1.skip_linear.weight"}, path)
        with pytest.raises(InputError, match=r"out_blocks\.1\.skip_linear\.weight"):
            registry.load_network(path, num_heads=3)
        torch.save(state | {"norm.bias": torch.zeros(5)}, path)
        with pytest.raises(InputError, match=r"norm\.bias.*\(48,\).*\(5,\)"):
            registry.load_network(path, num_heads=3)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
    def test_moves_to_other_types(self, tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
        path = save(tmp_path)
        single, other = registry.load_network(path, num_heads=3), registry.load_network(path, dtype=dtype, num_heads=3)
        x, time = waves(2, (3, 8, 8)), torch.tensor([3.0, 500.0])
        output = other.evaluate(NetworkInput(x.to(dtype), time), None, [])
        assert output.dtype == other.dtype == dtype
        torch.testing.assert_close(
            output.float(), single.evaluate(NetworkInput(x, time), None, []), atol=tolerance, rtol=tolerance
        )


def test_every_row_stands_alone() -> None:
    network = labelled_uvit()
    x, time, labels = waves(4, (4, 8, 8)), torch.tensor([0.0, 10.0, 500.0, 999.0]), torch.tensor([0, 5, 6, 2])
    together = network.evaluate(NetworkInput(x, time, labels), None, [])
    for i, j in itertools.pairwise(range(5)):
        alone = network.evaluate(NetworkInput(x[i:j], time[i:j], labels[i:j]), None, [])
        torch.testing.assert_close(alone, together[i:j], atol=1e-5, rtol=1e-5)
