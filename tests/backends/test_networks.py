"""The conformance suite for networks: what `backends/network.py` promises, checked on every kind there is."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from exeunt.backends import network as networks
from exeunt.backends.dit import DiT, DiTNetwork
from exeunt.backends.errors import DeviceError, InputError
from exeunt.backends.network import Network
from exeunt.backends.plan import compile_plan
from exeunt.backends.schedule import DROP, REUSE, RUN, Action, Noise, Schedule, forecast
from exeunt.backends.solvers import make_schedule
from torch import Tensor

LINEAR = Noise(kind="linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
SMALL = {"input_size": 8, "patch_size": 2, "channels": 4, "width": 48, "depth": 6, "num_heads": 3, "num_classes": 7}


def fill(module: torch.nn.Module) -> None:
    """Weights by formula, the same on every machine and in the run of the original that made the golden numbers."""
    with torch.no_grad():
        for k, (name, value) in enumerate(sorted(module.state_dict().items())):
            if name != "pos_embed":
                i = torch.arange(value.numel(), dtype=torch.float64)
                value.copy_((torch.sin(i * 0.7311 + k * 1.37) * 0.08).reshape(value.shape).float())


def small_dit(depth: int = 6, **changes: int | bool) -> DiTNetwork:
    module = DiT(**{**SMALL, **changes, "depth": depth})
    fill(module)
    return DiTNetwork(module, name="small", weights_sha256=None, num_classes=7, prediction="epsilon", noise=LINEAR)


@pytest.fixture(params=["dit", "dit-branches", "dit-learned-range", "closed-form", "fashion-dit", "fashion-dit-exits"])
def network(request: pytest.FixtureRequest) -> Network:
    match request.param:
        case "dit":
            return small_dit()
        case "dit-branches":
            return small_dit().at("branch")
        case "dit-learned-range":
            return small_dit(learned_range=True)
        case name:
            return networks.load(name)


def inputs(network: Network, n: int = 3) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((n, *network.sample_shape), generator=generator, dtype=network.dtype)
    time = torch.tensor([3.0, 500.0, 999.0])[:n].to(network.dtype)
    labels = None if network.num_classes is None else torch.arange(n) % network.num_classes
    return x, time, labels


def with_actions(network: Network, columns: list[list[Action]], guidance: float | None = None) -> Schedule:
    """A schedule of the network with the given actions, one list of `num_blocks` a step."""
    full = make_schedule(
        network.signature, network.noise, network.prediction, num_steps=len(columns), guidance=guidance
    )
    from dataclasses import replace

    steps = tuple(replace(step, blocks=tuple(column)) for step, column in zip(full.steps, columns, strict=True))
    return replace(full, steps=steps)


def evaluate_plan(network: Network, schedule: Schedule, xs: list[Tensor], labels: Tensor | None) -> list[Tensor]:
    """Every step's network output, conditional branch alone, on given inputs."""
    plan = compile_plan(schedule)
    slots: list[Tensor | None] = [None] * plan.num_slots
    outputs: list[Tensor] = []
    for step, x in zip(plan.steps, xs, strict=True):
        (call,) = step.calls
        outputs.append(network.evaluate(x, torch.full((len(x),), 500.0, dtype=x.dtype), labels, call, slots))
    return outputs


def random_columns(num_blocks: int, num_steps: int, seed: int) -> list[list[Action]]:
    rng = np.random.default_rng(seed)
    choices = [RUN, RUN, DROP, REUSE, forecast(1), forecast(2)]
    later = [[choices[k] for k in rng.integers(len(choices), size=num_blocks)] for _ in range(num_steps - 2)]
    return [[RUN] * num_blocks, [RUN] * num_blocks, *later]


class TestContract:
    def test_describes_itself(self, network: Network) -> None:
        assert network.num_blocks == len(network.signature.block_kinds) > 0
        assert network.prediction in ("epsilon", "v", "sample")
        x, time, labels = inputs(network)
        output = network.evaluate(x, time, labels, None, [])
        channels = network.sample_shape[0] * (2 if network.learned_range else 1)
        assert output.shape == (3, channels, *network.sample_shape[1:])
        assert torch.isfinite(output).all()

    def test_plan_of_the_full_schedule_is_full_depth(self, network: Network) -> None:
        x, time, labels = inputs(network)
        call = compile_plan(with_actions(network, [[RUN] * network.num_blocks])).steps[0].calls[0]
        assert torch.equal(network.evaluate(x, time, labels, call, []), network.evaluate(x, time, labels, None, []))

    def test_rows_are_independent(self, network: Network) -> None:
        x, time, labels = inputs(network)
        together = network.evaluate(x, time, labels, None, [])
        for i in range(3):
            alone = network.evaluate(
                x[i : i + 1], time[i : i + 1], None if labels is None else labels[i : i + 1], None, []
            )
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4 * float(together.abs().max()))

    def test_input_is_not_modified(self, network: Network) -> None:
        x, time, labels = inputs(network)
        kept = x.clone()
        network.evaluate(x, time, labels, None, [])
        assert torch.equal(x, kept)

    def test_reusing_everything_at_the_same_input_is_full_depth(self, network: Network) -> None:
        columns = [[RUN] * network.num_blocks, [REUSE] * network.num_blocks, [forecast(2)] * network.num_blocks]
        x, _, labels = inputs(network)
        first, second, third = evaluate_plan(network, with_actions(network, columns), [x, x, x], labels)
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(third, first, rtol=1e-4, atol=1e-4)

    def test_decodes_to_images(self, network: Network) -> None:
        if network.sample_shape[0] == 4 and network.image_shape[1:] == network.sample_shape[1:]:
            with pytest.raises(InputError, match="--vae"):
                network.decode(inputs(network)[0])
            return
        images = network.decode(inputs(network)[0])
        assert images.dtype == torch.uint8
        assert images.shape == (3, *network.image_shape)

    def test_flops_grow_by_the_block(self, network: Network) -> None:
        flops = [network.flops(range(d)) for d in range(network.num_blocks + 1)]
        increments = {b - a for a, b in pairwise(flops)}
        assert len(increments) == (1 if network.signature.granularity == "block" else 2)
        assert min(increments) > 0

    def test_moves_to_double(self, network: Network) -> None:
        if network.name not in networks.BUNDLED:
            return
        double = networks.load(network.name, dtype=torch.float64)
        x, time, labels = inputs(network)
        exact = double.evaluate(x.double(), time.double(), labels, None, [])
        assert exact.dtype == torch.float64
        torch.testing.assert_close(network.evaluate(x, time, labels, None, []).double(), exact, rtol=1e-3, atol=1e-4)


class TestLoading:
    @pytest.mark.parametrize(
        ("name", "fix"),
        [("fashion-dit-exit", "fashion-dit-exits"), ("nowhere.pt", "fashion-dit"), ("closed_form", "closed-form")],
    )
    def test_unknown_checkpoints_name_the_known_ones(self, name: str, fix: str) -> None:
        with pytest.raises(InputError, match=fix):
            networks.load(name)

    def test_unknown_networks_name_the_known_ones(self) -> None:
        with pytest.raises(InputError, match="DiT"):
            networks.resolve("Dit")
        with pytest.raises(InputError, match="can't be imported"):
            networks.resolve("nowhere.at.all:Network")

    def test_devices(self) -> None:
        with pytest.raises(InputError, match="cuda:N"):
            networks.check_device("gpu0")
        if not torch.cuda.is_available():
            with pytest.raises(DeviceError, match="--device cpu"):
                networks.check_device("cuda:0")

    def test_code_in_a_pickle_does_not_run(self, tmp_path) -> None:
        path = tmp_path / "evil.pt"
        torch.save({"model": Path_like()}, path)
        with pytest.raises(InputError, match="more than tensors"):
            networks.load(path)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04]"])
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_broken_files(self, tmp_path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match="checkpoint"):
            networks.load(path)

    def test_missing_and_misshapen_tensors_are_named(self, tmp_path) -> None:
        state = small_dit().module.state_dict()
        short = {name: value for name, value in state.items() if name != "blocks.2.mlp.fc1.weight"}
        torch.save(short, tmp_path / "short.pt")
        with pytest.raises(InputError, match=r"blocks\.2\.mlp\.fc1\.weight"):
            networks.load(tmp_path / "short.pt", num_heads=3)
        state["blocks.1.attn.proj.bias"] = torch.zeros(5)
        torch.save(state, tmp_path / "wrong.pt")
        with pytest.raises(InputError, match=r"blocks\.1\.attn\.proj\.bias.*\(48,\).*\(5,\)"):
            networks.load(tmp_path / "wrong.pt", num_heads=3)
        with pytest.raises(InputError, match="divide the width"):
            networks.load(tmp_path / "short.pt", num_heads=5)


class Path_like:
    """Stands for any class that a hostile or careless pickle might name."""


def test_weights_digest_does_not_depend_on_the_container(tmp_path) -> None:
    from exeunt.backends.weights import read_weights, weights_sha256
    from safetensors.torch import save_file

    tensors = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1.5], dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save({"ema": tensors}, tmp_path / "w.pt")
    first, second = (weights_sha256(read_weights(tmp_path / name)[0]) for name in ("w.safetensors", "w.pt"))
    assert first == second == weights_sha256(dict(reversed(tensors.items())))
    # Computed apart from the code, from the format's own words.
    import hashlib

    raw = b"a\0BF16\x001\0" + b"\xc0\x3f" + b"b.weight\0F32\x002,3\0" + np.arange(6, dtype="<f4").tobytes()
    assert first == hashlib.sha256(raw).hexdigest()
