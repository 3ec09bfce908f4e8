"""The DiT: against the public code's outputs, networks that are really shorter, and caches written by hand."""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from exeunt.backends.errors import InputError
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks import registry
from exeunt.backends.networks.conformance.checks import Check, NetworkUnderTest, NotApplicable, Passed, outcome
from exeunt.backends.networks.conformance.suite import CHECKS
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.readings import heads_for
from exeunt.backends.networks.transformer.module import sincos_positions
from exeunt.backends.networks.transformer.reading import DIT_SIZES, heads_of
from exeunt.backends.plan import compile_plan
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import sample_batch
from exeunt.backends.schedule import DROP, REUSE, RUN, Action, Guidance, Noise, Schedule, forecast
from exeunt.backends.solvers.tables import make_schedule, solver_rows
from torch import Tensor
from torch.nn import functional as F

pytestmark = pytest.mark.cpu

LINEAR = Noise(kind="linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SMALL = {"input_size": 8, "patch_size": 2, "channels": 4, "width": 48, "depth": 6, "num_heads": 3, "num_classes": 7}
GRANULARITIES = ("block", "branch")
LONGEST = ("actions", "actions, guided", "no state")  # checks of 74 to 253 evaluations; the others are at most 16


def fill(module: torch.nn.Module) -> None:
    """Weights by formula, the same on every machine and in the run of the original that made the golden numbers."""
    with torch.no_grad():
        for k, (name, value) in enumerate(sorted(module.state_dict().items())):
            if name != "pos_embed" and not name.startswith("feat_rope."):
                i = torch.arange(value.numel(), dtype=torch.float64)
                value.copy_((torch.sin(i * 0.7311 + k * 1.37) * 0.08).reshape(value.shape).float())


def small_dit(depth: int = 6, **changes: int | bool) -> DiTNetwork:
    module = DiT(**{**SMALL, **changes, "depth": depth})
    fill(module)
    return as_network(module)


def as_network(module: DiT, num_classes: int = 7) -> DiTNetwork:
    return DiTNetwork(
        module, name="small", weights_sha256=None, num_classes=num_classes, prediction="epsilon", noise=LINEAR
    )


def paper_size(name: str, patch_size: int, *, device: str = "meta") -> DiT:
    depth, width, heads = DIT_SIZES[name]
    with torch.device(device):
        return DiT(
            input_size=32, patch_size=patch_size, channels=4, width=width, depth=depth, num_heads=heads,
            num_classes=1000, learned_range=True,
        )  # fmt: skip


def inputs(network: DiTNetwork, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn((n, *network.sample_shape), generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([3.0, 500.0, 999.0])[:n], torch.arange(n) % 7


def with_actions(network: DiTNetwork, columns: list[list[Action]], guidance: Guidance | None = None) -> Schedule:
    """A schedule of the network with the given actions, one list of `num_blocks` a step."""
    full = make_schedule(
        network.signature, network.noise, network.prediction, num_steps=len(columns), guidance=guidance
    )
    steps = tuple(replace(step, blocks=tuple(column)) for step, column in zip(full.steps, columns, strict=True))
    return replace(full, steps=steps)


def evaluate_plan(network: DiTNetwork, schedule: Schedule, xs: list[Tensor], labels: Tensor) -> list[Tensor]:
    """Every step's network output, conditional branch alone, on given inputs."""
    plan = compile_plan(schedule)
    slots: list = [None] * plan.num_slots
    outputs: list[Tensor] = []
    with torch.inference_mode():
        for step, x in zip(plan.steps, xs, strict=True):
            (call,) = step.calls
            outputs.append(network.evaluate(NetworkInput(x, torch.full((len(x),), 500.0), labels), call, slots))
    return outputs


def random_columns(num_blocks: int, num_steps: int, seed: int) -> list[list[Action]]:
    rng = np.random.default_rng(seed)
    choices = [RUN, RUN, DROP, REUSE, forecast(1), forecast(2)]
    later = [[choices[k] for k in rng.integers(len(choices), size=num_blocks)] for _ in range(num_steps - 2)]
    return [[RUN] * num_blocks, [RUN] * num_blocks, *later]


# ---- the public code -------------------------------------------------------------------------------------------------


def outputs(arguments: dict[str, int | bool]) -> list[float]:
    module = DiT(**arguments)
    fill(module)
    x = torch.sin(torch.arange(3 * 4 * 64, dtype=torch.float64) * 0.37).reshape(3, 4, 8, 8).float()
    with torch.inference_mode():
        output = module(x, torch.tensor([3.0, 500.0, 999.0]), torch.tensor([0, 3, arguments["num_classes"]]))
    return output.flatten()[::97].tolist()


def test_golden_numbers_of_the_public_code() -> None:
    """Outputs of facebookresearch/DiT (models.py, timm 0.9.16) with the weights of `fill`, run once on a CPU."""
    small = {"depth": 4, "width": 48, "num_heads": 3, "num_classes": 7, "learned_range": True}
    golden = [-0.593294, 1.107415, -0.63416, 0.005432, 0.320823, -0.716394, 0.240413, -0.409155]
    golden += [-0.553608, -0.438744, 0.644008, 0.119833, 0.39667, -0.569969, 0.437938, -0.283945]
    assert outputs({**SMALL, **small}) == pytest.approx(golden, abs=1e-5)
    wide = {"patch_size": 4, "depth": 3, "width": 32, "num_heads": 2, "num_classes": 5}
    golden = [-0.043744, -0.155134, -0.007949, -0.161488, 0.103922, 0.026609, 0.042465, 0.038532]
    assert outputs({**SMALL, **wide}) == pytest.approx(golden, abs=1e-5)


@pytest.mark.parametrize(
    ("style", "golden"),
    [
        (
            {"swiglu": True, "rms_norm": True, "rotary": True, "qk_norm": "rms", "shifts": False},
            [-0.041278, -0.236376, -0.199991, 0.206124, 0.244377, 0.024206, 0.029356, -0.013178],
        ),
        (
            {"swiglu": True, "rotary": True, "qk_norm": "layer"},
            [-0.731993, -0.903929, -0.416492, 0.82881, 0.179515, 0.310626, 0.254508, -0.018555],
        ),
        ({"qk_norm": "layer"}, [0.269189, 0.108459, -0.256291, 0.210406, 0.26578, -0.242899, -0.252769, 0.504966]),
    ],
)
def test_golden_numbers_of_its_relatives_public_code(
    style: dict[str, Any], golden: list[float], tmp_path: Path
) -> None:
    """Outputs of hustvl/LightningDiT, twice, and of sihyun-yu/REPA with the weights of `fill`, run once on a CPU;
    a file of the same weights is read as the same network."""
    hidden = 128 if style.get("swiglu") else 192
    module = DiT(**{**SMALL, "depth": 4, "num_heads": 4, "mlp_ratio": hidden / 48}, **style)
    fill(module)
    time, labels = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 3, 7])
    with torch.inference_mode():
        output = module(wave(0), time, labels)
    assert output.flatten()[::97].tolist() == pytest.approx(golden, abs=1e-5)
    torch.save(module.state_dict(), tmp_path / "relative.pt")
    loaded = registry.load_network(tmp_path / "relative.pt", noise="repa")
    assert loaded.reading == "num_heads=4, noise=repa, prediction=flow"
    for granularity in GRANULARITIES:
        found = loaded.at(granularity).evaluate(NetworkInput(wave(0), 1000 * time, labels), None, [])
        torch.testing.assert_close(found, output)


def test_guided_samples_of_the_public_code() -> None:
    """Samples of facebookresearch/DiT's `p_sample_loop` with `forward_with_cfg` at scale 4, run once on a CPU.

    Learned variance, guidance on three channels, and the process respaced to the times below (`"5,0,0,0"`).
    """
    golden = [2.01958, 3.65511, 4.4242, 2.27683, 2.41101, 0.29498, -2.01123, -2.5888, -0.70699, 1.55325]
    golden += [1.83761, 0.53372, 0.32779, -0.06299, -1.23002]
    network = small_dit(4, learned_range=True)
    schedule = make_schedule(
        network.signature, network.noise, network.prediction, solver="ddpm", variance="learned-range",
        spacing=[249.0, 187.0, 124.0, 62.0, 0.0], guidance=Guidance(4.0, 3),
    )  # fmt: skip
    labels = torch.tensor([0, 3, 6])
    found = sample_batch([network], schedule, wave(0), [wave(number) for number in range(1, 5)], labels)
    assert found.flatten()[::53].tolist() == pytest.approx(golden, abs=2e-5)
    all_channels = replace(schedule, guidance=Guidance(4.0))
    other = sample_batch([network], all_channels, wave(0), [wave(number) for number in range(1, 5)], labels)
    assert (other - found).abs().max() > 0.1


def wave(number: int) -> Tensor:
    """(3, 4, 8, 8) of about unit deviation, by formula, which stood in for the original's noises."""
    i = torch.arange(3 * 4 * 64, dtype=torch.float64)
    return (1.4 * torch.sin(i * (0.37 + 0.11 * number) + number)).reshape(3, 4, 8, 8).float()


def test_sizes_of_the_paper() -> None:
    """Parameters in millions, Table 1 and 4 of arXiv 2212.09748: DiT-S/2 33, B/2 130, L/2 458, XL/2 675."""
    for name, millions in {"DiT-S": 33, "DiT-B": 130, "DiT-L": 458, "DiT-XL": 675}.items():
        count = sum(p.numel() for p in paper_size(name, 2).parameters())
        assert count / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_flops_of_the_paper(granularity: str) -> None:
    """118.64 GMACs for DiT-XL/2 at 256 pixels (the paper's Table 4 says 118.6 Gflops, counting multiply-adds)."""
    network = as_network(paper_size("DiT-XL", 2), 1000).at(granularity)
    assert network.flops(range(network.num_blocks)) / 2e9 == pytest.approx(118.6, rel=0.005)


def test_position_embedding_is_the_papers() -> None:
    """Row 0 is position (0, 0): sin 0 and cos 0 for both axes."""
    table = sincos_positions(8, 3)[0]
    assert table[0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert table[1, 0].item() == pytest.approx(math.sin(1))  # columns come first


# ---- files -----------------------------------------------------------------------------------------------------------


def save(tmp_path: Path, network: DiTNetwork, **entries: object) -> Path:
    path = tmp_path / "0050000.pt"
    torch.save({"model": {}, "ema": network.module.state_dict(), "opt": {}, **entries}, path)
    return path


def test_pt_file_with_ema_and_without_metadata(tmp_path: Path) -> None:
    module = small_dit(learned_range=True).module
    loaded = registry.load_network(save(tmp_path, as_network(module)), num_heads=3)
    assert (loaded.num_blocks, loaded.learned_range, loaded.num_classes) == (6, True, 7)
    assert loaded.guidance_channels == 3
    x, time, labels = inputs(loaded)
    with torch.inference_mode():
        assert torch.equal(loaded.evaluate(NetworkInput(x, time, labels), None, []), module(x, time, labels))


@pytest.mark.parametrize(
    "size", [{"patch_size": 4}, {"width": 36, "depth": 2}, {"mlp_ratio": 1.25}, {"channels": 3}, {"input_size": 12}]
)
def test_sizes_come_from_the_shapes(tmp_path: Path, size: dict[str, int]) -> None:
    network = small_dit(**size) if "depth" in size else small_dit(2, **size)
    loaded = registry.load_network(save(tmp_path, network), num_heads=3)
    x, time, labels = inputs(network)
    with torch.inference_mode():
        expected = network.evaluate(NetworkInput(x, time, labels), None, [])
        assert torch.equal(loaded.evaluate(NetworkInput(x, time, labels), None, []), expected)
    assert loaded.sample_shape == network.sample_shape
    assert loaded.guidance_channels == (3 if network.sample_shape[0] == 4 else "all")


def test_the_training_programs_arguments_say_how_many_classes_there_are(tmp_path: Path) -> None:
    """Without label dropout the public code makes no null label, and only `args` can tell."""
    network = small_dit(2, num_classes=8, has_null=False)
    arguments = argparse.Namespace(num_classes=8, model="DiT-S/2", image_size=64, vae="ema")
    loaded = registry.load_network(save(tmp_path, network, args=arguments), num_heads=3)
    assert loaded.num_classes == 8
    with pytest.raises(InputError, match="without a null label"):
        loaded.null_conditions(1)
    path = save(tmp_path, network)
    assert registry.load_network(path, num_heads=3).num_classes == 7
    assert registry.load_network(path, num_heads=3, num_classes=8).num_classes == 8
    with pytest.raises(InputError, match=r"8 label embeddings, so it must be 7 with a null label or 8 without.*got 5"):
        registry.load_network(path, num_heads=3, num_classes=5)


def test_heads_are_the_papers_where_nobody_says_otherwise() -> None:
    assert {heads_of(width, None) == heads for _, width, heads in DIT_SIZES.values()} == {True}
    assert heads_of(256, None) == 4
    for wrong in (5, 0, -3, "3", 3.0, True):
        with pytest.raises(InputError, match="num_heads: must divide the width 48"):
            heads_of(48, wrong)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("x_embedder.proj.weight", (48, 4), r"4 dimensions.*\(48, 4\)"),
        ("pos_embed", (1, 15, 48), "square of tokens.*15 tokens"),
        ("final_layer.linear.weight", (52, 48), "13 channels"),
        ("y_embedder.embedding_table.weight", (0, 48), r"\(0, 48\)"),
        ("blocks.1.mlp.fc1.weight", (192, 40), r"blocks\.1\.mlp\.fc1\.weight.*\(192, 48\).*\(192, 40\)"),
        ("blocks.nine.attn.qkv.weight", (3, 3), r"unexpected `blocks\.nine"),
    ],
)
def test_foreign_shapes_are_refused_by_name(tmp_path: Path, name: str, shape: tuple[int, ...], words: str) -> None:
    state = small_dit(2).module.state_dict()
    state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "foreign.pt")
    with pytest.raises(InputError, match=words):
        registry.load_network(tmp_path / "foreign.pt", network="DiT", num_heads=3)


def test_latents_are_decoded_by_the_given_autoencoder(tmp_path: Path) -> None:
    vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4)  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    path = save(tmp_path, small_dit(2))
    loaded = registry.load_network(path, num_heads=3, vae=str(tmp_path / "vae"))
    loaded.check_decodes()
    assert loaded.image_shape == (3, 16, 16)
    assert loaded.decode_flops() > 0
    assert loaded.decoder_sha256 is not None
    assert loaded.at("branch").decode(torch.zeros(2, 4, 8, 8)).shape == (2, 3, 16, 16)
    with pytest.raises(InputError, match="--vae FOLDER"):
        registry.load_network(path, num_heads=3).check_decodes()
    with pytest.raises(InputError, match="autoencoder of its own"):
        registry.load_network("fashion-dit", vae=str(tmp_path / "vae"))


def test_the_bundled_checkpoint_decodes_to_grey_images() -> None:
    network = registry.load_network("fashion-dit")
    images = network.decode(torch.zeros(2, *network.sample_shape))
    assert images.shape == (2, 3, 28, 28)
    assert torch.equal(images[:, 0], images[:, 1])


# ---- whole blocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 3, 6])
def test_exit_depth_equals_a_cut_block_list(depth: int) -> None:
    whole, cut = small_dit(6), small_dit(6)
    cut.module.blocks = cut.module.blocks[:depth]
    x, time, labels = inputs(whole)
    call = compile_plan(with_actions(whole, [[RUN] * depth + [DROP] * (6 - depth)])).steps[0].calls[0]
    assert torch.equal(
        whole.evaluate(NetworkInput(x, time, labels), call, []), cut.evaluate(NetworkInput(x, time, labels), None, [])
    )


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("seed", range(5))
def test_actions_equal_a_slow_reference(seed: int, granularity: str) -> None:
    """Random action matrices against arithmetic written from the format's definitions, one value at a time."""
    network = small_dit().at(granularity)
    columns = random_columns(network.num_blocks, 6, seed)
    generator = torch.Generator().manual_seed(seed)
    xs = [torch.randn((2, 4, 8, 8), generator=generator) for _ in columns]
    times = [torch.full((2,), 500.0)] * len(xs)
    labels = torch.tensor([1, 5])
    found = evaluate_plan(network, with_actions(network, columns), xs, labels)
    slow = (slow_blocks if granularity == "block" else slow_branches)(network.module, columns, xs, times, labels)
    for expected, output in zip(slow, found, strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def slow_blocks(
    module: DiT, columns: list[list[Action]], xs: list[Tensor], times: list[Tensor], labels: Tensor
) -> Iterator[Tensor]:
    """Network outputs from the format's definitions: a block's value is what it adds."""
    history: dict[int, list[tuple[int, Tensor]]] = {j: [] for j in range(len(module.blocks))}
    for s, (column, x, time) in enumerate(zip(columns, xs, times, strict=True)):
        with torch.inference_mode():
            h = module.x_embedder(x) + module.pos_embed
            c = module.t_embedder(time) + module.y_embedder(labels)
            for j, action in enumerate(column):
                if action.kind == "run":
                    history[j].insert(0, (s, module.blocks[j](h, c) - h))
                if action.kind != "drop":
                    h = h + taylor(s, history[j], action.order)
            yield module.unpatchify(module.final_layer(h, c))


def slow_branches(
    module: DiT, columns: list[list[Action]], xs: list[Tensor], times: list[Tensor], labels: Tensor
) -> Iterator[Tensor]:
    """Network outputs from the format's definitions: a branch's value is its output, added under this step's gate."""
    history: dict[int, list[tuple[int, Tensor]]] = {j: [] for j in range(2 * len(module.blocks))}
    for s, (column, x, time) in enumerate(zip(columns, xs, times, strict=True)):
        with torch.inference_mode():
            h = module.x_embedder(x) + module.pos_embed
            c = module.t_embedder(time) + module.y_embedder(labels)
            for j, action in enumerate(column):
                block = module.blocks[j // 2]
                parts = block.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
                shift, scale, gate = parts[:3] if j % 2 == 0 else parts[3:]
                if action.kind == "run":
                    normed = F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift
                    history[j].insert(0, (s, (block.attn if j % 2 == 0 else block.mlp)(normed)))
                if action.kind != "drop":
                    h = h + gate * taylor(s, history[j], action.order)
            yield module.unpatchify(module.final_layer(h, c))


def taylor(s: int, history: list[tuple[int, Tensor]], order: int) -> Tensor:
    """y0 + k·d + ½·k²·(d − d′)/(r0 − r1), with as many terms as the order and the history allow."""
    (r0, y0), rest = history[0], history[1:]
    value, k = y0, s - r0
    if order >= 1 and rest:
        r1, y1 = rest[0]
        slope = (y0 - y1) / (r0 - r1)
        value = value + k * slope
        if order == 2 and len(rest) > 1:
            r2, y2 = rest[1]
            value = value + 0.5 * k * k * (slope - (y1 - y2) / (r1 - r2)) / (r0 - r1)
    return value


# ---- attention and MLP by themselves ---------------------------------------------------------------------------------


def test_full_plan_of_branches_is_the_whole_network_bit_for_bit() -> None:
    whole = small_dit(learned_range=True)
    branches = whole.at("branch")
    assert branches.signature.kinds == (("branch", 12),)
    assert branches.at("block").signature == whole.signature
    x, time, labels = inputs(whole)
    expected = whole.evaluate(NetworkInput(x, time, labels), None, [])
    columns = [[RUN] * 12, [REUSE] * 12]  # so that the first step also stores every value
    for call in (None, *compile_plan(with_actions(branches, columns)).steps[0].calls):
        assert torch.equal(branches.evaluate(NetworkInput(x, time, labels), call, [None] * 12), expected)


def test_flops_of_branches_add_up_to_blocks() -> None:
    whole = small_dit()
    branches = whole.at("branch")
    for depth in range(7):
        assert branches.flops(range(2 * depth)) == whole.flops(range(depth))
    increments = [b - a for a, b in pairwise(branches.flops(range(d)) for d in range(13))]
    assert increments == [*increments[:2]] * 6
    tokens, width = 16, 48
    assert increments[0] == 2 * (4 * tokens * width**2 + 2 * tokens**2 * width + 3 * width**2)
    assert increments[1] == 2 * (8 * tokens * width**2 + 3 * width**2)


def test_other_granularities_are_refused() -> None:
    with pytest.raises(InputError, match="block and branch, but got `head`"):
        small_dit().at("head")


def test_fora_by_hand() -> None:
    """Fast-Forward Caching (arXiv 2407.01425): every third step computes, the others reuse under their own gates."""
    network = small_dit()
    fresh = [[s % 3 == 0] * 12 for s in range(7)]
    assert_samples_equal_a_cache_by_hand(network, fresh)


def test_learning_to_cache_by_hand() -> None:
    """Learning-to-Cache (arXiv 2406.01733): at every second step its router says which attentions and MLPs compute."""
    network = small_dit()
    router = np.random.default_rng(0).random((8, 12)) < 0.4
    fresh = [[s % 2 == 0 or bool(router[s, j]) for j in range(12)] for s in range(8)]
    assert_samples_equal_a_cache_by_hand(network, fresh)


def assert_samples_equal_a_cache_by_hand(network: DiTNetwork, fresh: list[list[bool]]) -> None:
    """Whole guided trajectories of our loop, beside a loop with a dictionary of branch outputs."""
    columns = [[RUN if each else REUSE for each in step] for step in fresh]
    schedule = with_actions(network.at("branch"), columns, Guidance(2.0))
    noise, labels = noises(0, range(3), network.sample_shape, 1)[0], torch.tensor([0, 2, 4])
    cache: dict[int, Tensor] = {}
    x, history = noise, []
    both = torch.cat([labels, torch.full((3,), 7)])
    with torch.inference_mode():
        for step, row, chosen in zip(schedule.steps, solver_rows(schedule), fresh, strict=True):
            output = cached(network.module, torch.cat([x, x]), torch.full((6,), step.time), both, chosen, cache)
            c, u = output.chunk(2)
            history.insert(0, row.model_x * x + row.model_f * (u + 2.0 * (c - u)))
            x = row.a * x + sum(b * m for b, m in zip(row.b, history, strict=False))
    found = sample_batch([network.at("branch")], schedule, noise, [], labels)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)


def cached(module: DiT, x: Tensor, time: Tensor, labels: Tensor, fresh: list[bool], cache: dict[int, Tensor]) -> Tensor:
    """One evaluation as caching codes write it: `x + gate * (layer(x) or what the cache has)`."""
    h, c = module.embed(x, time, labels)
    for index, block in enumerate(module.blocks):
        shift1, scale1, gate1, shift2, scale2, gate2 = block.adaLN_modulation(c).unsqueeze(1).chunk(6, dim=2)
        if fresh[2 * index]:
            cache[2 * index] = block.attn(block.norm1(h) * (1 + scale1) + shift1)
        h = h + gate1 * cache[2 * index]
        if fresh[2 * index + 1]:
            cache[2 * index + 1] = block.mlp(block.norm2(h) * (1 + scale2) + shift2)
        h = h + gate2 * cache[2 * index + 1]
    return module.head(h, c)


# ---- the paper's largest, at full size -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_size() -> DiTNetwork:
    """DiT-XL/2 with random weights, 675 million of them."""
    module = paper_size("DiT-XL", 2).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.02, generator=generator)
    module.pos_embed.data.copy_(sincos_positions(1152, 16))
    network = as_network(module, 1000)
    network.signature = replace(network.signature, weights_sha256="0" * 64)
    return network


@pytest.mark.slow
def test_exits_at_full_size(full_size: DiTNetwork) -> None:
    x, time, labels = inputs(full_size, 1)
    with torch.inference_mode():
        whole = full_size.evaluate(NetworkInput(x, time, labels), None, [])
        assert torch.equal(whole, full_size.module(x, time, labels))
        assert torch.equal(full_size.at("branch").evaluate(NetworkInput(x, time, labels), None, []), whole)
        call = compile_plan(with_actions(full_size, [[RUN] * 14 + [DROP] * 14])).steps[0].calls[0]
        early = full_size.evaluate(NetworkInput(x, time, labels), call, [])
        h, c = full_size.module.embed(x, time, labels)
        for block in full_size.module.blocks[:14]:
            h = block(h, c)
        assert torch.equal(early, full_size.module.head(h, c))
    assert (early - whole).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_actions_at_full_size(full_size: DiTNetwork, granularity: str) -> None:
    """A step that runs, and one that reuses the middle half, drops two blocks and runs the rest."""
    network = full_size.at(granularity)
    blocks = network.num_blocks
    second = [REUSE if blocks // 4 <= j < 3 * blocks // 4 else RUN for j in range(blocks - 2)] + [DROP, DROP]
    columns = [[RUN] * blocks, second]
    xs, labels = [inputs(network, 1)[0], 0.9 * inputs(network, 1)[0]], torch.tensor([207])
    found = evaluate_plan(network, with_actions(network, columns), xs, labels)
    slow = slow_blocks if granularity == "block" else slow_branches
    times = [torch.full((1,), 500.0)] * 2
    for expected, output in zip(slow(network.module, columns, xs, times, labels), found, strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.name not in LONGEST], ids=lambda check: check.name
)
def test_promises_at_full_size(full_size: DiTNetwork, check: Check) -> None:
    found = outcome(check, NetworkUnderTest(full_size))
    assert isinstance(found, Passed | NotApplicable), found


class TestSiT:
    """SiT has DiT's names; only its training program's arguments tell it apart."""

    @pytest.fixture
    def module(self) -> DiT:
        torch.manual_seed(0)
        return DiT(
            input_size=8, patch_size=2, channels=4, width=32, depth=2, num_heads=2, num_classes=5, learned_range=True
        )

    def saved(self, module: DiT, folder: Path, **said: str) -> Path:
        arguments = argparse.Namespace(model="SiT-S/2", num_classes=5, **said)
        torch.save({"model": module.state_dict(), "ema": module.state_dict(), "args": arguments}, folder / "sit.pt")
        return folder / "sit.pt"

    def test_output_and_time_are_counted_the_other_way(self, module: DiT, tmp_path: Path) -> None:
        """SiT gives data - noise at time 1 - t, in the first half of its channels."""
        network = registry.load_network(
            self.saved(module, tmp_path, path_type="Linear", prediction="velocity"), num_heads=2
        )
        assert (network.prediction, network.noise.kind, network.learned_range) == ("flow", "flow", False)
        x, t, labels = torch.randn(3, 4, 8, 8), torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 3, 5])
        out = network.evaluate(NetworkInput(x, 1000 * t, labels), None, [])
        torch.testing.assert_close(out, -module(x, 1 - t, labels)[:, :4])

    def test_a_path_on_the_circle_becomes_the_straight_one(self, module: DiT, tmp_path: Path) -> None:
        """SiT's GVP: x = sin(πs/2) · data + cos(πs/2) · noise, and the output is that path's derivative in s."""
        x, s, labels = torch.randn(3, 4, 8, 8), torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 3, 5])
        alpha, sigma = (f(s * math.pi / 2).view(-1, 1, 1, 1) for f in (torch.sin, torch.cos))
        out = module(x, s, labels)[:, :4]
        # Both x and the output are combinations of data and noise: [x, out] = M [data, noise].
        determinant = -(alpha * alpha + sigma * sigma) * math.pi / 2
        data = (-alpha * math.pi / 2 * x - sigma * out) / determinant
        noise = (alpha * out - sigma * math.pi / 2 * x) / determinant
        network = registry.load_network(self.saved(module, tmp_path, path_type="GVP"), num_heads=2)
        straight, time = (alpha * data + sigma * noise) / (alpha + sigma), (sigma / (alpha + sigma)).view(-1)
        found = network.evaluate(NetworkInput(straight, 1000 * time, labels), None, [])
        torch.testing.assert_close(found, noise - data, atol=1e-5, rtol=1e-5)
        assert network.notes[-1] == "reading: sit-gvp is SiT's velocity on its GVP path, time 1 at the data"

    def test_repa_without_its_projectors(self, module: DiT, tmp_path: Path) -> None:
        """Its time is 1 at the noise, where its output points; older files count the later blocks for themselves."""
        state = module.state_dict()
        added = {"projectors.0.0.weight": torch.zeros(8, 32), "projectors.0.0.bias": torch.zeros(8)}
        older = {name.replace("blocks.1.", "decoder_blocks.0."): value for name, value in state.items()}
        x, t, labels = torch.randn(3, 4, 8, 8), torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 3, 5])
        for weights in (state, older):
            torch.save(weights | added, tmp_path / "repa.pt")
            network = registry.load_network(tmp_path / "repa.pt", num_heads=2)
            assert network.guidance_channels == "all"
            assert [reading["noise"] for reading in network.open_readings] == ["repa", "repa-cosine"]
            out = network.evaluate(NetworkInput(x, 1000 * t, labels), None, [])
            torch.testing.assert_close(out, module(x, t, labels)[:, :4])
        assert "2 tensors of `projectors.` left out" in network.notes[0]
        assert "counted from 1 on" in network.notes[1]
        said = argparse.Namespace(model="SiT-S/2", path_type="cosine", prediction="v")
        torch.save({"ema": state | added, "args": said}, tmp_path / "repa.pt")
        network = registry.load_network(tmp_path / "repa.pt", num_heads=2)
        assert network.reading == "num_heads=2, noise=repa-cosine, prediction=flow"

    def test_other_paths_and_outputs_are_refused_by_name(self, module: DiT, tmp_path: Path) -> None:
        for said in ({"path_type": "VP"}, {"prediction": "score"}):
            with pytest.raises(InputError, match=rf"{next(iter(said.values()))}.*known are SiT's"):
                registry.load_network(self.saved(module, tmp_path, **said))


class TestReadings:
    def load(self, folder: Path, arguments: argparse.Namespace | None = None, **options: Any) -> DiTNetwork:
        sizes = {"input_size": 8, "patch_size": 2, "channels": 3, "width": 128, "depth": 2, "num_classes": 5}
        weights = DiT(**sizes, num_heads=4).state_dict()
        torch.save(weights if arguments is None else {"ema": weights, "args": arguments}, folder / "small.pt")
        network = registry.load_network(folder / "small.pt", **options)
        assert isinstance(network, DiTNetwork)
        return network

    def test_what_is_taken_is_said_with_the_option_that_overrules_it(self, tmp_path: Path) -> None:
        network = self.load(tmp_path)
        for name in ("num_heads=", "noise=", "prediction="):
            assert any(f"--network-arg {name}VALUE" in said for said in network.assumptions)
        assert network.reading == "num_heads=2, noise=linear, prediction=epsilon"
        assert network.open_readings[0] == {"num_heads": 2, "noise": "linear", "prediction": "epsilon"}
        assert {"num_heads": 4, "noise": "cosine", "prediction": "v"} in network.open_readings

    def test_every_number_of_heads_that_may_be_right_is_compared(self) -> None:
        assert heads_for(96, 1) == [1, 2, 3, 4, 6, 8, 12, 16, 24]
        assert heads_for(1152, 16)[0] == 16

    def test_what_the_user_or_the_training_program_says_is_not_open(self, tmp_path: Path) -> None:
        given = self.load(tmp_path, num_heads=4, noise="cosine", prediction="v")
        assert (given.assumptions, given.open_readings, given.prediction) == ((), (), "v")
        assert given.noise.kind == "cosine"
        trained = self.load(tmp_path, argparse.Namespace(model="DiT-S/2"), num_heads=4)
        assert (trained.assumptions, trained.open_readings) == ((), ())
        assert {reading["prediction"] for reading in self.load(tmp_path, prediction="flow").open_readings} == {"flow"}

    def test_a_training_programs_words_are_read_and_said(self, tmp_path: Path) -> None:
        words = argparse.Namespace(num_heads=8, prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
        network = self.load(tmp_path, words)
        assert network.reading == "num_heads=8, noise=cosine, prediction=v"
        assert (network.assumptions, network.open_readings) == ((), ())
        assert "arguments say (prediction_type=v_prediction, beta_schedule=squaredcos_cap_v2, num_heads=8)" in str(
            network.notes
        )
        assert self.load(tmp_path, argparse.Namespace(predict_xstart=True)).prediction == "sample"
        assert self.load(tmp_path, argparse.Namespace(model="DiT-S/2", objective="flow")).noise.kind == "flow"

    def test_lightnings_table_of_settings_is_read(self, tmp_path: Path) -> None:
        """Its training code keeps a table of tables, and its rotary tables tell the number of heads."""
        sizes = {"input_size": 8, "patch_size": 1, "channels": 16, "width": 64, "depth": 2, "num_classes": 5}
        module = DiT(**sizes, num_heads=4, swiglu=True, rms_norm=True, rotary=True)
        settings = {
            "model": {"model_type": "LightningDiT-XL/1", "use_rope": True},
            "transport": {"path_type": "Linear", "prediction": "velocity"},
            "data": {"num_classes": 5},
        }
        torch.save({"ema": module.state_dict(), "config": settings}, tmp_path / "lightning.pt")
        network = registry.load_network(tmp_path / "lightning.pt")
        assert network.reading == "num_heads=4, noise=sit, prediction=flow"
        assert (network.open_readings, network.guidance_channels, network.num_classes) == ((), 3, 5)
        torch.save(module.state_dict(), tmp_path / "lightning.pt")
        bare = registry.load_network(tmp_path / "lightning.pt")
        assert bare.reading == network.reading
        assert {"noise": "sit-gvp", "prediction": "flow"} in bare.open_readings
        assert any("noise: sit is assumed" in said for said in bare.assumptions)
        with pytest.raises(InputError, match="have 4 heads, but got 2"):
            registry.load_network(tmp_path / "lightning.pt", num_heads=2)

    def test_values_that_are_unknown_or_contradict_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Did you mean `cosine`"):
            self.load(tmp_path, noise="cosin")
        with pytest.raises(InputError, match="noise linear can't predict flow"):
            self.load(tmp_path, noise="linear", prediction="flow")
