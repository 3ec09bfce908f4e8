"""What trains the bundled checkpoint: Fashion-MNIST's gzipped IDX files, batches of their rows, and the loop.

A stage has a recipe, and a state that is saved and gone on from.
"""

import gzip
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

DATA = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
NUM_TRAINING_IMAGES = 55_000


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array in a gzipped IDX file: images (N, 28, 28) or labels (N,)."""
    with gzip.open(path) as file:
        content = file.read()
    num_dimensions = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_dimensions, 4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape)


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


@dataclass(frozen=True)
class Recipe:
    """How one stage is trained."""

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    ema_decay: float
    seed: int


class Trainer:
    """One model in training: AdamW with warm-up and cosine decay, an exponential moving average, and a state file."""

    def __init__(self, model: nn.Module, recipe: Recipe, state_file: Path) -> None:
        self.model, self.recipe, self.state_file = model, recipe, state_file
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.99)
        )
        self.step, self.seconds, self.losses = 0, 0.0, list[tuple[int, float]]()
        if state_file.exists():
            self._restore()

    def _restore(self) -> None:
        state = torch.load(self.state_file, map_location=self.parameters[0].device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], [tuple(row) for row in state["losses"]]
        click.echo(f"resumed {self.state_file.name} at step {self.step}")

    def save(self) -> None:
        """Write the whole state, whole or not at all, and beside it the averaged weights in single precision."""
        state = {"model": self.model.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}
        partial = self.state_file.with_suffix(".partial")
        torch.save({**state, "step": self.step, "seconds": self.seconds, "losses": self.losses}, partial)
        partial.replace(self.state_file)
        weights = self.state_file.with_name(self.state_file.name.replace(".state.pt", ".fp32.safetensors"))
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in self.averaged().items()}, weights)

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        r = self.recipe
        progress = (self.step - r.warmup) / max(1, r.num_steps - r.warmup)
        return r.learning_rate * min((self.step + 1) / r.warmup, 0.5 * (1 + math.cos(math.pi * max(0.0, progress))))

    def run(self, loss: Callable[[], Tensor], *, max_seconds: float) -> None:
        """Train to the recipe's last step or for `max_seconds`, saving every minute."""
        start = saved = time.monotonic()
        base_seconds, since, total = self.seconds, self.step, torch.zeros((), device=self.parameters[0].device)
        while self.step < self.recipe.num_steps and time.monotonic() - start < max_seconds:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
            for average, parameter in zip(self.average, self.parameters, strict=True):
                average.lerp_(parameter.detach(), 1 - decay)
            self.step += 1
            total += value.detach()
            if self.step % 500 == 0:
                self.seconds = base_seconds + time.monotonic() - start
                self.losses.append((self.step, float(total.cpu()) / (self.step - since)))
                since = self.step
                total.zero_()
                click.echo(f"step {self.step:6d}  loss {self.losses[-1][1]:.4f}  {self.seconds:6.0f} s", err=True)
            if time.monotonic() - saved > 60:
                self.save()
                saved = time.monotonic()
        self.seconds = base_seconds + time.monotonic() - start
        self.save()

    def averaged(self) -> dict[str, Tensor]:
        """The state dict with the moving average in place of the trained parameters."""
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        return {**self.model.state_dict(), **dict(zip(names, self.average, strict=True))}
