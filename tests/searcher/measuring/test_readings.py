"""Checkpoints that don't say how they must be read: real images decide, else the user is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.network import NetworkInput
from exeunt.backends.networks.dit import DiT, DiTNetwork
from exeunt.backends.networks.transformer.reading import DIT_NOISES
from exeunt.backends.solvers.noise_schedules import marginal
from exeunt.searcher.measuring.setup import load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.store import open_store
from torch import Tensor

SIDE, HEADS = 8, 2


def stripes(count: int) -> Tensor:
    """(N, 3, 8, 8) in [-1, 1], of two kinds of stripes: far from what a linear guess denoises."""
    rng = torch.Generator().manual_seed(count)
    sign = torch.randint(0, 2, (count, 1, 1, 1), generator=rng) * 2.0 - 1
    upright = torch.randint(0, 2, (count, 1, 1, 1), generator=rng).bool()
    rows = torch.arange(SIDE).view(1, 1, SIDE, 1).expand(count, 3, SIDE, SIDE) // 2 % 2
    height = torch.rand(count, 1, 1, 1, generator=rng) * 0.3 + 0.6
    return (torch.where(upright, rows, rows.transpose(2, 3)) * 2.0 - 1) * sign * height


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained on cosine noise to predict v, and one that was not trained; neither file says so."""
    folder = tmp_path_factory.mktemp("readings")
    pixels = ((stripes(64) + 1) * 127.5).round().to(torch.uint8)
    np.savez(folder / "real.npz", images=pixels.permute(0, 2, 3, 1).numpy())
    torch.manual_seed(0)
    module = DiT(input_size=SIDE, patch_size=4, channels=3, width=32, depth=2, num_heads=HEADS, num_classes=1)
    torch.save(module.state_dict(), folder / "untrained.pt")
    module.initialize()
    network = DiTNetwork(
        module, name="small", weights_sha256=None, num_classes=1, prediction="v", noise=DIT_NOISES["cosine"]
    )
    at = [marginal(network.noise, float(t)) for t in range(1000)]
    scales = [torch.tensor([getattr(each, name) for each in at]) for name in ("alpha", "sigma")]
    module.requires_grad_(True)
    optimizer, data = torch.optim.AdamW(module.parameters(), lr=3e-3), stripes(512)
    for _ in range(250):
        x, t = data[torch.randint(0, 512, (64,))], torch.randint(0, 1000, (64,))
        alpha, sigma = (scale[t].view(-1, 1, 1, 1) for scale in scales)
        noise = torch.randn_like(x)
        out = network.evaluate(NetworkInput(alpha * x + sigma * noise, t.float(), torch.ones(64).long()), None, [])
        optimizer.zero_grad()
        (out - alpha * noise + sigma * x).square().mean().backward()
        optimizer.step()
    torch.save(module.state_dict(), folder / "trained.pt")
    return folder


def config(files: Path, name: str, **options: object) -> StudyConfig:
    return override(
        StudyConfig(name="read"),
        {
            "checkpoint.path": str(files / f"{name}.pt"),
            "checkpoint.baseline_weights": (),
            "checkpoint.options": options,
            "quality.reference": str(files / "real.npz"),
            "quality.metric": "fd-pixels",
            "throughput.device": "cpu",
        },
    )


def test_the_reading_that_denoises_best_is_taken_and_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_setup(config(files, "trained", num_heads=HEADS))
    assert dict(found.config.checkpoint.options) == {"num_heads": HEADS, "noise": "cosine", "prediction": "v"}
    assert (found.network.prediction, found.network.noise.kind) == ("v", "cosine")
    said = capsys.readouterr().err
    assert "noise: linear is assumed" in said
    assert "noise=cosine, prediction=v has the least loss" in said
    assert found.pins["checkpoint.reading"] == "num_heads=2, noise=cosine, prediction=v"


def test_a_small_network_is_read_in_the_same_way(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = config(files, "trained", num_heads=HEADS, noise="cosine", prediction="v")
    beside = {"checkpoint.small": large.checkpoint.path, "checkpoint.small_options": {"num_heads": HEADS}}
    found = load_setup(override(large, beside))
    assert dict(found.config.checkpoint.small_options) == {"num_heads": HEADS, "noise": "cosine", "prediction": "v"}
    assert found.small is not None
    assert (found.small.prediction, found.small.noise.kind) == ("v", "cosine")
    assert found.pins["checkpoint.small_reading"] == "num_heads=2, noise=cosine, prediction=v"
    given = {**beside["checkpoint.small_options"], "noise": "linear", "prediction": "epsilon"}
    with pytest.raises(InputError, match=r"its prediction is epsilon, not v\. .* --network-arg small\.KEY=VALUE"):
        load_setup(override(large, {**beside, "checkpoint.small_options": given}))
    monkeypatch.setattr("exeunt.backends.networks.readings.CLEAR", 1e6)
    with pytest.raises(InputError, match=r"`--network-arg small\.noise=cosine --network-arg small\.prediction=v`"):
        load_setup(override(large, beside))


def test_what_the_user_gives_is_taken_as_it_is(files: Path) -> None:
    given = config(files, "trained", num_heads=HEADS, noise="linear", prediction="epsilon")
    assert load_setup(given).config.checkpoint.options == given.checkpoint.options


def test_where_losses_are_too_near_the_user_is_asked(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exeunt.backends.networks.readings.CLEAR", 1e6)
    with pytest.raises(
        InputError, match=r"noise=cosine, prediction=v: 0\.\d+; .*`--network-arg noise=cosine --network"
    ):
        load_setup(config(files, "trained", num_heads=HEADS))


def test_weights_that_denoise_nothing_are_said_to(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_setup(config(files, "untrained", num_heads=HEADS)).network.reading.endswith("prediction=epsilon")
    assert "the weights may be untrained" in capsys.readouterr().err


def test_a_study_and_its_database_refuse_another_reading(files: Path, tmp_path: Path) -> None:
    first = load_setup(config(files, "untrained"))
    with open_store(f"sqlite:///{tmp_path / 'study.db'}") as store:
        store.studies.put_config(first.config, first.pins)
        store.studies.check_config(first.config, first.pins)
        other = first.pins | {"checkpoint.reading": "num_heads=4, noise=linear, prediction=epsilon"}
        with pytest.raises(InputError, match=r"reads its checkpoint with num_heads=1, .* now read with num_heads=4"):
            store.studies.check_config(first.config, other)
        with pytest.raises(InputError, match=r"study `read` of this database reads the same weights with num_heads=1"):
            store.studies.put_config(override(first.config, {"name": "other"}), other)
        store.studies.put_config(override(first.config, {"name": "other"}), first.pins)
