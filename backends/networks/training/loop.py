"""The training loop, on Hugging Face accelerate: AdamW, a moving average of the weights, and a state to go on from."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from .state import TrainingError, read_state, save_state

DIVERGED = 10.0  # times the first mean loss: beyond it a training is stopped
WINDOW = 500  # steps whose mean loss is one point of the curve


def make_accelerator(precision: str = "no", *, cpu: bool = False) -> Any:
    """accelerate's `Accelerator`: one process, or one of those that a launcher started.

    Raises:
        InputError: accelerate is not installed.
    """
    try:
        accelerate: Any = import_module("accelerate")
    except ImportError as error:
        raise InputError(
            "finetune: needs accelerate, which is not installed. `pip install 'exeunt[finetune]'`."
        ) from error
    unused = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)  # those of blocks that are dropped
    return accelerate.Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[unused])


@dataclass(frozen=True)
class Recipe:
    """How weights are trained.

    Attributes:
        num_steps: of the optimizer.
        batch_size: samples of a step, over all processes.
        learning_rate: the highest.
        warmup: steps over which it grows to that.
        ema_decay: of the moving average, once it has run for a while.
        seed: of all that is drawn.
        cosine: whether the rate falls to zero at the end; it stays else.
        weight_decay, betas: AdamW's.
        accumulation: parts in which a step's batch is computed, one after the other.
        window: steps whose mean loss is one point of the curve.
        save_seconds: between two savings of the state.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    ema_decay: float
    seed: int
    cosine: bool = True
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    accumulation: int = 1
    window: int = WINDOW
    save_seconds: float = 60.0

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then constant or half a cosine down to zero."""
        rising = (step + 1) / max(1, self.warmup)
        progress = (step - self.warmup) / max(1, self.num_steps - self.warmup)
        falling = 0.5 * (1 + math.cos(math.pi * max(0.0, progress))) if self.cosine else 1.0
        return self.learning_rate * min(rising, falling, 1.0)


class Listener:
    """What a training tells; this one keeps silent."""

    def check(self) -> None:
        """Raises to stop the training after a step; its state is saved then."""

    def step(self, trainer: "Trainer") -> None:
        """A step is done."""

    def window(self, trainer: "Trainer") -> None:
        """A window is done: `trainer.losses` has one point more."""

    def saved(self, trainer: "Trainer") -> None:
        """The state was saved; what goes with it is written here."""


class Trainer:
    """Weights in training.

    Args:
        model: has the weights; those that require gradients are trained.
        objective: a module with `model` in it, whose forward gives the loss of a batch.
        recipe: how.
        state_file: where the state is kept; a training goes on from it.
        accelerator: accelerate's.
        settings: what must be the same when a training goes on; JSON-able.

    Attributes:
        step, seconds: done so far.
        losses: (step, mean loss since the point before).

    Raises:
        InputError: the state is damaged, or is of a training with other settings.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        recipe: Recipe,
        state_file: Path,
        accelerator: Any,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe, self.state_file, self.accelerator = recipe, state_file, accelerator
        self.model = model.to(accelerator.device)
        self.settings = dict(settings or {})
        named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        self.names, self.parameters = [name for name, _ in named], [each for _, each in named]
        self.average = [each.detach().clone() for each in self.parameters]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=recipe.betas
        )
        self.objective, self.optimizer = accelerator.prepare(objective, optimizer)
        self.step, self.seconds, self.losses = 0, 0.0, list[tuple[int, float]]()
        self._total, self._since = torch.zeros((), device=accelerator.device), 0
        self.resumed = state_file.exists()
        if self.resumed:
            self._restore()

    def _restore(self) -> None:
        state = read_state(self.state_file, self.accelerator.device)
        refuse_difference(state.get("settings", {}), self.settings)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], [tuple(row) for row in state["losses"]]
        self._total, self._since = state.get("total", self._total), state.get("since", self.step)

    def save(self) -> None:
        """Write the state, whole or not at all.

        Raises:
            TrainingError: the disk is full, or the loss is no number; what was saved before is intact.
        """
        self._refuse_divergence(float(self._total.cpu()))
        scaler = self.accelerator.scaler
        if self.accelerator.is_main_process:
            state = {
                "model": self.model.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "losses": self.losses,
                "total": self._total,
                "since": self._since,
                "settings": self.settings,
            }
            save_state(self.state_file, state)

    def run(
        self,
        batch: Callable[[int, int, int, torch.device], Sequence[Any]],
        *,
        max_seconds: float = math.inf,
        listener: Listener | None = None,
    ) -> None:
        """Train to the recipe's last step or for `max_seconds`; the state is saved every minute, and at the end.

        Args:
            batch: makes one of several equal parts of a step's batch, which the objective takes: of the step, the
                part's number, the number of parts and the device.

        Raises:
            TrainingError: the loss has grown, or the disk is full.
        """
        told, start = listener or Listener(), time.monotonic()
        before, saved = self.seconds, start
        while self.step < self.recipe.num_steps and time.monotonic() - start < max_seconds:
            self._total += self._step(batch)
            self.step += 1
            self.seconds = before + time.monotonic() - start
            if self.step % self.recipe.window == 0:
                self._close_window()
                told.window(self)
            told.step(self)
            try:
                told.check()
            except BaseException:
                self._save(told)
                raise
            if time.monotonic() - saved > self.recipe.save_seconds:
                self._save(told)
                saved = time.monotonic()
        self._save(told)

    def _save(self, told: Listener) -> None:
        self.save()
        if self.accelerator.is_main_process:
            told.saved(self)

    def _step(self, batch: Callable[[int, int, int, torch.device], Sequence[Any]]) -> Tensor:
        """One step of the optimizer; the mean loss of this process's share."""
        accelerator, parts = self.accelerator, self.recipe.accumulation
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        total = torch.zeros((), device=accelerator.device)
        for part in range(parts):
            number = part * accelerator.num_processes + accelerator.process_index
            given = batch(self.step, number, parts * accelerator.num_processes, accelerator.device)
            last = part == parts - 1
            with nullcontext() if last else accelerator.no_sync(self.objective):
                loss = self.objective(*given) / parts
                accelerator.backward(loss)
            total += loss.detach()
        accelerator.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average.lerp_(parameter.detach(), 1 - decay)
        return total

    def _close_window(self) -> None:
        """One point of the curve, the mean over all processes."""
        total = float(self.accelerator.reduce(self._total, "mean").cpu())
        self._refuse_divergence(total)
        self.losses.append((self.step, total / (self.step - self._since)))
        self._total, self._since = torch.zeros_like(self._total), self.step

    def _refuse_divergence(self, total: float) -> None:
        """Raises TrainingError where the loss since the last point is no number, or many times the first."""
        mean = total / max(1, self.step - self._since)
        first = self.losses[0][1] if self.losses else math.inf
        if not math.isfinite(mean) or mean > DIVERGED * first:
            raise TrainingError(
                f"finetune: the loss must stay finite and below {DIVERGED:.0f} times its first value, but is "
                f"{mean:.4g} at step {self.step}. What was saved before is intact; give another output and a lower "
                "--learning-rate, or --precision no."
            )

    def averaged(self) -> dict[str, Tensor]:
        """The state dict with the moving average in place of the trained parameters."""
        return {**self.model.state_dict(), **dict(zip(self.names, self.average, strict=True))}


def refuse_difference(stored: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raises InputError where a training would go on with other settings."""
    changed = [name for name in own if name in stored and stored[name] != own[name]]
    if changed:
        shown = ", ".join(f"{name} is {own[name]}, was {stored[name]}" for name in changed)
        raise InputError(
            f"output: a training goes on with the settings that it began with, but {shown}. Give the same flags, or "
            "another output."
        )
