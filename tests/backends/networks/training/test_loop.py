"""The loop goes on from its state as if nothing had been, and stops where the loss is no number."""

import math
from pathlib import Path

import pytest
import torch
from exeunt.backends.networks.training.batches import generator
from exeunt.backends.networks.training.loop import Listener, Recipe, Trainer, make_accelerator
from exeunt.backends.networks.training.state import TrainingError
from torch import Tensor, nn

RECIPE = Recipe(num_steps=12, batch_size=4, learning_rate=1e-2, warmup=3, ema_decay=0.9, seed=0, window=5)


class Stop(Exception):
    pass


class StopAt(Listener):
    def __init__(self, step: int) -> None:
        self._step, self._now = step, 0

    def step(self, trainer: Trainer) -> None:
        self._now = trainer.step

    def check(self) -> None:
        if self._now == self._step:
            raise Stop


class Squares(nn.Module):
    """The squared error of a linear layer."""

    def __init__(self, model: nn.Linear) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.model(x) - y).square().mean()


def batch(step: int, part: int, parts: int, device: torch.device) -> tuple[Tensor, Tensor]:
    x = torch.randn(4, 3, generator=generator(0, step))
    return x, x.sum(dim=1, keepdim=True)


def trainer(state: Path, recipe: Recipe = RECIPE) -> Trainer:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return Trainer(model, Squares(model), recipe, state, make_accelerator(cpu=True))


def test_stopped_anywhere_it_ends_with_the_same_weights_and_losses(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole.pt")
    whole.run(batch)
    for stop in range(1, 12):
        state = tmp_path / f"{stop}.pt"
        with pytest.raises(Stop):
            trainer(state).run(batch, listener=StopAt(stop))
        kept = state.read_bytes()
        if stop < 10:  # what is done after the last saving is lost when the process is killed
            with pytest.raises(Stop):
                trainer(state).run(batch, listener=StopAt(stop + 2))
            state.write_bytes(kept)
        again = trainer(state)
        assert again.resumed
        assert again.step == stop
        again.run(batch)
        assert again.losses == whole.losses
        assert all(torch.equal(again.averaged()[name], value) for name, value in whole.averaged().items())
        assert torch.equal(again.model.state_dict()["weight"], whole.model.state_dict()["weight"])


def test_the_average_and_the_rates_are_those_of_the_recipe(tmp_path: Path) -> None:
    run = trainer(tmp_path / "state.pt", Recipe(1, 4, 1e-2, 0, 0.9, 0))
    before = run.averaged()["weight"].clone()
    run.run(batch)
    after = run.model.state_dict()["weight"]
    torch.testing.assert_close(run.averaged()["weight"], 0.1 * before + 0.9 * after)  # decay (1 + 0) / (10 + 0)
    rates = [RECIPE.rate(step) for step in range(12)]
    assert rates[:3] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2])
    assert rates[-1] == pytest.approx(0.5e-2 * (1 + math.cos(math.pi * 8 / 9)))


def test_a_loss_that_is_no_number_stops_it_and_nothing_is_overwritten(tmp_path: Path) -> None:
    run = trainer(tmp_path / "state.pt", Recipe(5, 4, 1e-2, 0, 0.9, 0, window=5))
    run.run(batch)
    kept = (tmp_path / "state.pt").read_bytes()

    def broken(step: int, part: int, parts: int, device: torch.device) -> tuple[Tensor, Tensor]:
        x, y = batch(step, part, parts, device)
        return (x * math.nan if step == 7 else x), y

    with pytest.raises(TrainingError, match="the loss must stay finite"):
        trainer(tmp_path / "state.pt").run(broken)
    with pytest.raises(TrainingError, match="below 10 times its first value"):
        trainer(tmp_path / "state.pt").run(lambda *given: tuple(100 * each for each in batch(*given)))  # type: ignore[arg-type]
    assert (tmp_path / "state.pt").read_bytes() == kept
