"""The main path of fine-tuning: load, check, train, write a checkpoint that every other command takes."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from exeunt import __version__
from torch import Tensor

from ...backends.checkpoints.containers import ENTRY_METADATA, OWN_WEIGHTS
from ...backends.checkpoints.weights import weights_sha256
from ...backends.errors import InputError
from ...backends.network import Network, Weights
from ...backends.networks.decoders import DecodedNetwork, PixelDecoder
from ...backends.networks.training.batches import Draws, Samples
from ...backends.networks.training.data import ImageSource, encoded, open_data
from ...backends.networks.training.exits import Choice, RandomExits, ScheduledExits
from ...backends.networks.training.loop import Listener, Recipe, Trainer
from ...backends.networks.training.losses import ExitLoss
from ...backends.networks.training.process import Process
from ...backends.networks.training.state import save_weights, write_whole
from ...backends.schedule import Schedule
from ..monitoring.progress import ProgressListener
from .card import card_json, card_page

STATE = Path("training") / "state.pt"


@dataclass(frozen=True)
class Request:
    """What is trained, and on what.

    Attributes:
        data: a folder, an .npz or an IDX file; see `open_data`.
        output: the folder that the checkpoint is written to.
        schedule: whose exits are trained; None for random depths.
        depths: those that are drawn from; all where there are none.
        recipe: how.
        weighting: λ(t); see `Process.of`.
        precision: one of accelerate's.
        label_dropout: how often the null label takes a label's place, where the network has one.
        limit: take no more than so many images.
    """

    data: Path
    output: Path
    schedule: Schedule | None
    depths: tuple[int, ...]
    recipe: Recipe
    weighting: str = "constant"
    precision: str = "no"
    label_dropout: float = 0.1
    limit: int | None = None


def finetune(
    network: Network, request: Request, accelerator: Any, watch: ProgressListener, check: Callable[[], None]
) -> dict[str, Any]:
    """Train a network at the exits that are asked for; what it says of the new checkpoint is returned.

    Args:
        network: on accelerate's device, in float32.
        check: raises to stop after a step; the state is kept.

    Raises:
        InputError: network, schedule and data don't fit, or a training with other settings is in the output.
        TrainingError: the loss has grown, or the disk is full.
    """
    weights = network.weights()
    process = Process.of(network, request.weighting, accelerator.device)
    choice = chosen_exits(network, request, process)
    source = open_data(request.data, request.limit)
    null = _null_of(network)
    samples = _samples(network, source, null)
    recipe = request.recipe
    _check_batch(recipe, accelerator.num_processes)
    draws = Draws(samples, recipe.batch_size, len(process), recipe.seed, choice, null, request.label_dropout)
    _require_gradients(weights)
    before = network.signature.weights_sha256
    about = _about(network, request, choice, source, samples)
    objective = ExitLoss(network, weights.module, process, choice.calls, choice.with_full)
    trainer = Trainer(
        weights.module, objective, recipe, request.output / STATE, accelerator, settings=_settings(about, request)
    )
    if trainer.resumed:
        watch.say(f"going on from step {trainer.step:,}")
    writer = _Writer(watch, check, weights, request.output, about | {"from_sha256": before})
    watch.phase("fine-tuning", recipe.num_steps)
    trainer.run(draws, listener=writer)
    return writer.card(trainer)


def chosen_exits(network: Network, request: Request, process: Process) -> Choice:
    """The calls that are trained. Raises InputError where they don't fit the network."""
    if request.schedule is not None:
        return ScheduledExits.of(request.schedule, network, process)
    return RandomExits.of(request.depths, network.num_blocks)


def _null_of(network: Network) -> int | None:
    """The null condition; None where the network has none."""
    try:
        return int(network.null_conditions(1)[0])
    except InputError:
        return None


def _samples(network: Network, source: ImageSource, null: int | None) -> Samples:
    """The data as the network samples them, with a condition each."""
    conditions = _conditions(network, source, null)
    coder = ""
    decoder = network.decoder if isinstance(network, DecodedNetwork) else None
    if decoder is not None and not isinstance(decoder, PixelDecoder):
        coder = f"{decoder.sha256 or _files_digest(network.weights())}"

    def encode(images: Tensor) -> tuple[Tensor, Tensor | None]:
        made = None if decoder is None else decoder.moments(images)
        if made is None:
            raise InputError(
                f"data: images can't be made samples of `{network.name}`, which needs the encoder of its autoencoder. "
                "Add `--vae FOLDER`, or give an .npz with `latents`."
            )
        return made

    mean, deviation = encoded(source, network.sample_shape, network.image_shape[1:], encode, coder)
    return Samples(mean, deviation, conditions)


def _files_digest(weights: Weights) -> str:
    """The autoencoder beside a checkpoint, with the shift and scale that its metadata have."""
    digest = hashlib.sha256(json.dumps(weights.metadata.get("latent"), sort_keys=True).encode())
    for file in weights.files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _conditions(network: Network, source: ImageSource, null: int | None) -> Tensor | None:
    """(N,) labels, all null where the data has none; None for an unconditional network."""
    if network.condition_kind == "none":
        return None
    if network.condition_kind == "prompts":
        raise InputError(f"data: `{network.name}` takes prompts, and data with captions are not known here yet.")
    classes = network.num_classes or 0
    if source.labels is None:
        if null is None:
            raise InputError(
                f"data: `{network.name}` takes labels and has no null label, but `{source.files[0].parent}` has no "
                "labels. Put images into a folder for each class, or give `labels` in the .npz."
            )
        return torch.full((source.count,), null)
    low, high = int(source.labels.min()), int(source.labels.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"data: labels must be from 0 to {classes - 1}, the classes of `{network.name}`, but are from {low} to "
            f"{high}. Give data with these classes."
        )
    return source.labels


def _check_batch(recipe: Recipe, processes: int) -> None:
    parts = recipe.accumulation * processes
    if recipe.batch_size % parts:
        raise InputError(
            f"batch-size: must be a multiple of the {processes} processes times --accumulation {recipe.accumulation}, "
            f"but got {recipe.batch_size}. Give {max(1, recipe.batch_size // parts) * parts}."
        )


def _require_gradients(weights: Weights) -> None:
    for name, parameter in weights.module.named_parameters():
        parameter.requires_grad_(not name.startswith(weights.fixed))


def _about(network: Network, request: Request, choice: Choice, source: ImageSource, samples: Samples) -> dict[str, Any]:
    """What the card says from the start."""
    schedule = request.schedule
    if schedule is not None:
        trained = {
            "what": f"the schedule {schedule.name or schedule.digest[:12]}: at each time its exit",
            "schedule": schedule.digest,
            "steps": schedule.num_steps,
        }
    else:
        depths = ", ".join(map(str, request.depths)) or f"1 to {network.num_blocks - 1}"
        trained = {"what": f"full depth, and random exits at depths {depths}", "depths": list(request.depths)}
    digest = hashlib.sha256(samples.mean.numpy().tobytes()).hexdigest()
    return {
        "checkpoint": network.name,
        "trained": trained,
        "data": {
            "path": str(request.data),
            "images": source.count,
            "labels": source.labels is not None,
            "sha256": digest,
        },
        "recipe": asdict(request.recipe),
        "weighting": request.weighting,
        "precision": request.precision,
        "label_dropout": request.label_dropout,
    }


def _settings(about: dict[str, Any], request: Request) -> dict[str, Any]:
    """What must be the same when a training goes on: all that changes its steps."""
    recipe = {name: value for name, value in about["recipe"].items() if name not in ("save_seconds", "window")}
    if not request.recipe.cosine:
        del recipe["num_steps"]  # more of the same steps may follow
    recipe["betas"] = list(recipe["betas"])
    flat = {**recipe, "exits": about["trained"]["what"], "data": about["data"]["sha256"]}
    return flat | {name: about[name] for name in ("checkpoint", "weighting", "precision", "label_dropout")}


class _Writer(Listener):
    """Tells where a training stands, and writes its checkpoint whenever its state is saved."""

    def __init__(
        self,
        watch: ProgressListener,
        check: Callable[[], None],
        weights: Weights,
        output: Path,
        about: dict[str, Any],
    ) -> None:
        self._watch, self._check, self._weights, self._output, self._about = watch, check, weights, output, about

    def check(self) -> None:
        self._check()

    def step(self, trainer: Trainer) -> None:
        self._watch.advance(trainer.step, trainer.recipe.batch_size)

    def window(self, trainer: Trainer) -> None:
        left = (trainer.recipe.num_steps - trainer.step) * trainer.seconds / trainer.step
        self._watch.say(
            f"step {trainer.step:,} of {trainer.recipe.num_steps:,}: loss {trainer.losses[-1][1]:.4f}, "
            f"{_clock(left)} left"
        )

    def saved(self, trainer: Trainer) -> None:
        metadata = {ENTRY_METADATA: json.dumps(dict(self._weights.metadata))}
        save_weights(self._output / OWN_WEIGHTS, trainer.averaged(), metadata)
        for file in self._weights.files:
            if not (self._output / file.name).exists():
                shutil.copyfile(file, self._output / file.name)
        card = self.card(trainer)
        write_whole(self._output / "card.json", lambda file: file.write(card_json(card)))
        write_whole(self._output / "card.md", lambda file: file.write(card_page(card)))

    def card(self, trainer: Trainer) -> dict[str, Any]:
        device = trainer.accelerator.device
        return {
            **self._about,
            "steps": trainer.step,
            "seconds": round(trainer.seconds, 1),
            "losses": trainer.losses,
            "weights_sha256": weights_sha256(trainer.averaged()),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            "processes": trainer.accelerator.num_processes,
            "torch": torch.__version__,
            "exeunt": __version__,
        }


def _clock(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
