"""What the bundled checkpoint is trained on, Fashion-MNIST's gzipped IDX files, and its stages as cases of one loop."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from ..training.data import read_idx
from ..training.loop import Listener, Recipe, Trainer, make_accelerator
from ..training.state import save_weights

DATA = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
NUM_TRAINING_IMAGES = 55_000


def training_images(data: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) in [-1, 1] and labels (N,) that the networks are trained on."""
    images = torch.from_numpy(read_idx(data / "train-images-idx3-ubyte.gz")[:NUM_TRAINING_IMAGES].copy())
    labels = torch.from_numpy(read_idx(data / "train-labels-idx1-ubyte.gz")[:NUM_TRAINING_IMAGES].astype(np.int64))
    return images[:, None].float() / 127.5 - 1.0, labels


def held_out_images(data: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The 15,000 images (N, 28, 28) that no stage sees."""
    unused = read_idx(data / "train-images-idx3-ubyte.gz")[NUM_TRAINING_IMAGES:]
    return np.concatenate([unused, read_idx(data / "t10k-images-idx3-ubyte.gz")])


def index_batches(count: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Endless batches of row indices, each row once an epoch."""
    while True:
        order = torch.randperm(count, generator=generator, device=device)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


class StageLoss(nn.Module):
    """The loss of one stage, as the loop takes it.

    Args:
        model: what is trained.
        loss: of the model and what a batch has.
        device, is_half: where it is computed, and whether in bfloat16.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor], device: torch.device, is_half: bool) -> None:
        super().__init__()
        self.model, self._loss, self._device, self._is_half = model, loss, device, is_half

    def forward(self, *given: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_half):
            return self._loss(self.model, *given)


class _Teller(Listener):
    """Prints the loss, and writes the averaged weights in single precision beside each state."""

    def window(self, trainer: Trainer) -> None:
        step, loss = trainer.losses[-1]
        click.echo(f"step {step:6d}  loss {loss:.4f}  {trainer.seconds:6.0f} s", err=True)

    def saved(self, trainer: Trainer) -> None:
        name = trainer.state_file.name.replace(".state.pt", ".fp32.safetensors")
        save_weights(trainer.state_file.with_name(name), trainer.averaged())


def open_stage(objective: StageLoss, recipe: Recipe, state_file: Path, device: torch.device) -> Trainer:
    """A stage's training, gone on from where there is a state of it."""
    trainer = Trainer(objective.model, objective, recipe, state_file, make_accelerator(cpu=device.type == "cpu"))
    if trainer.resumed:
        click.echo(f"resumed {state_file.name} at step {trainer.step}")
    return trainer


def run_stage(trainer: Trainer, draw: Callable[[], Sequence[Tensor]], max_seconds: float) -> None:
    """Train on what `draw` gives, to the recipe's last step or for `max_seconds`."""
    trainer.run(lambda *_: draw(), max_seconds=max_seconds, listener=_Teller())
