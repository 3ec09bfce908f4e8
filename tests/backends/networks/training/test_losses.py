"""The loss at the exits, against the network run by itself at each exit."""

from pathlib import Path

import pytest
import tiny_dit
import torch
from exeunt.backends.errors import InputError
from exeunt.backends.network import NetworkInput, Weights
from exeunt.backends.networks.registry import load_network
from exeunt.backends.networks.training.exits import RandomExits, ScheduledExits, exit_call
from exeunt.backends.networks.training.losses import ExitLoss, by_call, full_and_early, leaving
from exeunt.backends.networks.training.process import Process
from exeunt.backends.schedule import REUSE, Noise, with_exits

COUNT = 7


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit.tiny_dit(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def inputs() -> NetworkInput:
    torch.manual_seed(1)
    return NetworkInput(torch.randn(COUNT, 1, 8, 8), torch.rand(COUNT) * 999, torch.randint(4, (COUNT,)))


def labels(inputs: NetworkInput) -> torch.Tensor:
    assert inputs.conditions is not None
    return inputs.conditions


def test_each_sample_leaves_at_its_own_depth(checkpoint: Path, inputs: NetworkInput) -> None:
    network = load_network(checkpoint)
    depths = [3, 1, 4, 4, 2, 1, 3]
    fields = zip(inputs.x, inputs.time, labels(inputs), strict=True)
    rows = [NetworkInput(*(each[None] for each in row)) for row in fields]
    alone = torch.cat([network.evaluate(row, exit_call(depth, 4), []) for row, depth in zip(rows, depths, strict=True)])
    calls = [exit_call(depth, 4) for depth in depths]
    full, early = full_and_early(network, inputs, depths)
    for found in (leaving(network, inputs, depths), by_call(network, inputs, calls), early):
        torch.testing.assert_close(found, alone)
    torch.testing.assert_close(full, network.evaluate(inputs, None, []))


def test_blocks_that_do_not_run_are_not_computed(checkpoint: Path, inputs: NetworkInput) -> None:
    network = load_network(checkpoint)
    rows = list[int]()
    for block in network.weights().module.blocks:
        block.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    leaving(network, inputs, [3, 1, 3, 3, 2, 1, 3])
    assert rows == [7, 5, 4]


def test_gradients_reach_what_runs_alone_and_are_those_of_the_loss(checkpoint: Path) -> None:
    network = load_network(checkpoint)
    weights = network.weights()
    assert isinstance(weights, Weights)
    weights.module.requires_grad_(True)
    process = Process.of(network, "min-snr")
    objective = ExitLoss(network, weights.module, process, [exit_call(2, 4)], with_full=False)
    torch.manual_seed(2)
    data, noise = torch.randn(2, 3, 1, 8, 8)
    index, labels = torch.tensor([10, 500, 990]), torch.tensor([0, 1, 3])
    loss = objective(data, noise, index, labels, [0, 0, 0])
    loss.backward()
    output = network.evaluate(
        NetworkInput(process.noisy(data, noise, index), index.float(), labels), exit_call(2, 4), []
    )
    errors = (output - process.target(data, noise, index)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss, (process.weight[index] * errors).mean())
    blocks = weights.module.blocks
    assert blocks[1].mlp.fc1.weight.grad.abs().sum() > 0
    assert blocks[2].mlp.fc1.weight.grad is None


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_min_snr_weights_say_the_same_of_the_data_whatever_is_predicted(prediction: str) -> None:
    """Hang et al. 2023: the weight of the data's error is min(SNR, 5)."""
    noise = Noise("linear", beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    process = Process.from_noise(noise, prediction, "min-snr")
    index = torch.tensor([0, 200, 600, 999])
    torch.manual_seed(3)
    data, eps, other = torch.randn(3, 4, 1, 2, 2)
    x = process.noisy(data, eps, index)
    wrong = process.target(other, (x - _rows(process.alpha, index) * other) / _rows(process.sigma, index), index)
    error = (wrong - process.target(data, eps, index)).square()
    snr = (process.alpha / process.sigma)[index].square()
    expected = snr.clamp(max=5).view(-1, 1, 1, 1) * (other - data).square()
    torch.testing.assert_close(process.weight[index].view(-1, 1, 1, 1) * error, expected, rtol=2e-3, atol=1e-4)


def _rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return values[index].view(-1, 1, 1, 1)


def test_a_schedule_gives_each_time_the_depth_of_its_nearest_step(checkpoint: Path) -> None:
    network = load_network(checkpoint)
    schedule = tiny_dit.staircase(checkpoint)
    choice = ScheduledExits.of(schedule, network, Process.of(network))
    for step, depth in zip(schedule.steps, (1, 2, 3, 4), strict=True):
        number = int(choice(torch.tensor([round(step.time)]), torch.Generator()))
        assert choice.calls[number] == exit_call(depth, 4)


def test_what_can_not_be_trained_is_refused(checkpoint: Path) -> None:
    network = load_network(checkpoint)
    process, schedule = Process.of(network), tiny_dit.staircase(checkpoint)
    with pytest.raises(InputError, match="reuses or forecasts"):
        ScheduledExits.of(with_exits(schedule, [4, 4, 2, 4], REUSE), network, process)
    with pytest.raises(InputError, match="its block kinds is 12 blocks, not 4 blocks"):
        ScheduledExits.of(tiny_dit.staircase(Path("fashion-dit"), (12, 12)), network, process)
    with pytest.raises(InputError, match="depths must be from 1 to 3"):
        RandomExits.of((2, 7), 4)
    with pytest.raises(InputError, match="can't be fine-tuned"):
        load_network("closed-form").weights()


def test_the_shallowest_depth_is_in_every_batch() -> None:
    choice = RandomExits.of((), 12)
    for seed in range(20):
        assert 0 in choice(torch.zeros(3, dtype=torch.long), torch.Generator().manual_seed(seed)).tolist()
