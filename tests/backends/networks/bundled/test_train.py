"""The training program on real data cut small: every stage runs, saves, goes on, and exports what `load` takes."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks import registry
from exeunt.backends.networks.bundled import train
from exeunt.backends.networks.bundled import trainer as training_data
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.transformer.reading import PUBLIC_NOISE
from exeunt.backends.plan import Call, Run, Skip
from safetensors.torch import load_file

pytestmark = pytest.mark.cpu


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in Fashion-MNIST's format: stripes whose angle is the label."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    for name, count in (("train", 320), ("t10k", 40)):
        labels = rng.integers(10, size=count)
        angles = labels[:, None, None] * np.pi / 10
        images = 127.5 * (1 + np.sin(0.6 * (rows * np.sin(angles) + columns * np.cos(angles))))
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture(scope="module", autouse=True)
def precision_afterwards() -> Iterator[None]:
    """The program sets the precision of its whole process, and other tests run in this one."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(train.main, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_idx_files_keep_shape_and_values(data: Path) -> None:
    images = training_data.read_idx(data / "t10k-images-idx3-ubyte.gz")
    assert images.shape == (40, 28, 28)
    assert images.dtype == np.uint8


def test_all_stages_from_data_to_a_checkpoint_that_loads(data: Path, tmp_path: Path) -> None:
    common = ["--data", data, "--out", tmp_path, "--batch-size", 16, "--no-compile"]
    for stage in ("autoencoder", "normal"):
        run(stage, *common, "--num-steps", 3)
    before = load_file(tmp_path / "normal.fp32.safetensors")
    assert "resumed normal.state.pt at step 3" in run("normal", *common, "--num-steps", 5)
    log = json.loads((tmp_path / "normal.log.json").read_text())
    assert log["num_steps_done"] == 5
    assert any(
        not torch.equal(before[name], value) for name, value in load_file(tmp_path / "normal.fp32.safetensors").items()
    )

    run("exits", *common, "--num-steps", 2)
    normal, exits = (load_file(tmp_path / f"{stage}.fp32.safetensors") for stage in ("normal", "exits"))
    frozen = [name for name in normal if name.startswith("t_embedder")]
    assert all(torch.equal(normal[name], exits[name]) for name in frozen)
    assert not torch.equal(normal["blocks.0.mlp.fc1.weight"], exits["blocks.0.mlp.fc1.weight"])

    run("export", *common, "--assets", tmp_path / "assets")
    loaded = registry.load_network(tmp_path / "assets" / "exits.safetensors")
    assert (loaded.num_blocks, loaded.prediction, loaded.num_classes) == (12, "v", 10)
    assert (tmp_path / "assets" / "exits.safetensors").stat().st_size <= 8e6
    assert loaded.decode(torch.zeros(1, *loaded.sample_shape)).shape == (1, 3, 28, 28)


def test_targets_are_v_and_weights_are_min_snr() -> None:
    """At ᾱ = ½ the target is (ε − x)/√2 and the weight min(1, 5)/2; at SNR 20 it is 5/21."""
    torch.manual_seed(0)
    latents = torch.randn(2, 4, 8, 8)
    alpha = torch.tensor([0.5, 20 / 21]).sqrt()
    x, target, weight = train.noised(latents, torch.tensor([0, 1]), alpha, (1 - alpha**2).sqrt())
    noise = (x[0] - alpha[0] * latents[0]) / (1 - alpha[0] ** 2).sqrt()
    torch.testing.assert_close(target[0], (noise - latents[0]) / 2**0.5, rtol=1e-4, atol=1e-5)
    assert weight.tolist() == pytest.approx([0.5, 5 / 21], rel=1e-5)


def test_the_exit_loss_is_the_loss_of_what_an_exit_gives() -> None:
    """The early term of `exits_loss` is the error of the network that leaves at that depth, through the shared head."""
    torch.manual_seed(0)
    model = DiT(**train.DIT)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
    x, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    time, labels, weight = torch.tensor([10.0, 900.0]), torch.tensor([1, 10]), torch.tensor([0.5, 0.2])
    with torch.no_grad():
        loss = train.exits_loss(model, x, time, labels, target, weight, torch.tensor([3, 3]))
        call = Call(("conditional",), (Run(0, 3), Skip(3, 12)), ())
        whole = DiTNetwork(
            model, name="trained", weights_sha256=None, num_classes=10, prediction="v", noise=PUBLIC_NOISE
        )
        outputs = [whole.evaluate(NetworkInput(x, time, labels), how, []) for how in (None, call)]
        errors = [(output - target).square().mean(dim=(1, 2, 3)) for output in outputs]
    torch.testing.assert_close(loss, sum((weight * error).mean() for error in errors))


def test_a_small_network_takes_steps_in_turn_with_the_bundled_one(data: Path, tmp_path: Path) -> None:
    sizes = ["--depth", 2, "--width", 16, "--num-heads", 2]
    run("small", "--data", data, "--out", tmp_path, "--batch-size", 16, "--no-compile", "--num-steps", 2, *sizes)
    large, small = (registry.load_network(each) for each in ("fashion-dit", tmp_path / "small.safetensors"))
    assert (large.num_blocks, small.num_blocks) == (12, 2)
    for name in ("noise", "prediction", "sample_shape", "num_classes", "decoder_sha256"):
        assert getattr(small, name) == getattr(large, name)
