"""Networks of diffusers: from a folder of a pipeline or of one model, or from a live pipeline.

The model's own forward runs, unchanged; hooks on its blocks carry out the step plan (`hooks.py`). So whatever stands
in the pipeline, with its LoRA, quantisation or compiled blocks, is what is measured.
"""

import copy
import time as clock
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...checkpoints.folders import MODEL, read_json
from ...checkpoints.weights import weights_sha256
from ...errors import InputError
from ...network import Network, NetworkInput, Slots, Successor, UsualSampler
from ...plan import Call
from ...schedule import NetworkSignature
from ..decoders import DecodedNetwork, Decoder
from .decoding import autoencoder_folder, decoder_from, live_decoder, sized
from .hooks import attach, detach
from .loading import (
    Folder,
    bare,
    default_guidance,
    denoiser_digest,
    denoiser_of,
    free_text,
    load_denoiser,
    load_text,
    load_whole,
    open_folder,
    scheduler_config,
    second_of,
    with_text,
)
from .models.base import Architecture, architecture_class, architecture_in
from .optional import diffusers
from .scheduler_config import TrainedProcess, process, usual_sampler
from .text_encoders import gathered, refusing


def count_flops(
    architecture: Architecture,
    granularity: str,
    sample_shape: Sequence[int],
    rows: Mapping[str, tuple[int, ...]],
) -> tuple[tuple[int, ...], int]:
    """Floating-point operations (2 per multiply-add) of one evaluation of one image, counted by torch on shapes alone.

    Args:
        architecture: of the model.
        granularity: how its blocks are counted.
        sample_shape: of one sample.
        rows: the shapes of one row of each embedding; empty without prompts.

    Returns:
        Those of each block, in execution order, and those of what always runs.
    """
    with torch.device("meta"):
        model = type(architecture.model).from_config(architecture.model.config).eval()
    model.requires_grad_(False)  # torch's counter follows gradients of parameters that are handed to a module
    try:
        return _counted(architecture.on(model), granularity, sample_shape, rows)
    except (NotImplementedError, RuntimeError):  # its forward looks at values, such as a mask's: it runs as it is
        return _counted(architecture, granularity, sample_shape, rows)


def _counted(
    architecture: Architecture, granularity: str, sample_shape: Sequence[int], rows: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[int, ...], int]:
    """What `count_flops` returns, by one run of the architecture's model."""
    model = architecture.model
    with torch.device(model.device):
        given = architecture.one_row(rows)
        guidance = torch.ones(1) if architecture.takes_guidance else None
        inputs = NetworkInput(torch.zeros(1, *sample_shape).to(model.dtype), torch.ones(1), guidance=guidance)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**architecture.arguments(inputs, given), return_dict=False)
    counts = counter.get_flop_counts()
    names = {module: name for name, module in model.named_modules()}
    title = type(model).__name__
    blocks = tuple(_total(counts, f"{title}.{names[socket.module]}") for socket in architecture.sockets(granularity))
    return blocks, _total(counts, "Global") - sum(blocks)


def _total(counts: Mapping[str, Mapping[Any, int]], name: str) -> int:
    return sum(counts.get(name, {}).values())


class Embeddings:
    """The table that conditions of a network with prompts are indices of; empty until prompts are embedded.

    Attributes:
        rows: (number of prompts + 1, …) each; the last row is the empty prompt's.
        seconds: what encoding one prompt took.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Tensor] = {}
        self.seconds: float | None = None

    @property
    def count(self) -> int | None:
        """How many prompts there are; None before any were embedded."""
        return len(next(iter(self.rows.values()))) - 1 if self.rows else None


class DiffusersNetwork(DecodedNetwork):
    """A denoiser of diffusers with what surrounds it in its pipeline.

    Args:
        architecture: what is known of the model.
        process: what it was trained on.
        decoder: of the samples.
        sample_shape: (C, H, W) or (C, T, H, W).
        weights_sha256: of the model's weights.
        name: for reports.
        denoiser: what to call, where that is not the model itself, such as its compiled form.
        text: makes a pipeline with text encoders; None for a network without prompts.
        usual_guidance, sampler: what its pipeline samples it with; `Network` says which.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        process: TrainedProcess,
        decoder: Decoder,
        sample_shape: tuple[int, ...],
        weights_sha256: str,
        name: str,
        denoiser: Any = None,
        text: Callable[[], Any] | None = None,
        usual_guidance: float | None = None,
        sampler: UsualSampler | None = None,
    ) -> None:
        self.architecture, self._text = architecture, text
        self._denoiser = architecture.model if denoiser is None else denoiser
        self.prediction, self.noise, self.usual_shift = process.prediction, process.noise, process.shift
        self.set_decoder(decoder)
        self.sample_shape = sample_shape
        self.learned_range, self.num_classes = architecture.learned_range, architecture.num_classes
        self.takes_guidance, self.usual_guidance, self.name = architecture.takes_guidance, usual_guidance, name
        self.keeps_norm = architecture.keeps_norm
        self._embeddings, self.usual_sampler, self.notes = Embeddings(), sampler, architecture.notes
        self._see("block", weights_sha256)

    def _see(self, granularity: str, weights_sha256: str | None) -> None:
        """Count the blocks at a granularity, and put hooks there."""
        sockets = self.architecture.sockets(granularity)
        kinds = tuple((kind, len(list(group))) for kind, group in groupby(socket.kind for socket in sockets))
        title = type(self.architecture.model).__name__
        self.signature = NetworkSignature(title, granularity, kinds, weights_sha256)
        self._hooks = attach(f"exeunt.{granularity}", sockets)
        self._flops: dict[tuple[object, ...], tuple[tuple[int, ...], int]] = {}  # `count_flops` by embeddings' shapes
        weakref.finalize(self, detach, self._hooks).atexit = False

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        name: str,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        vae: str | None = None,
        scheduler: str | None = None,
        variant: str | None = None,
    ) -> Self:
        """Load a diffusers folder; text encoders are not loaded before `embed`.

        Args:
            height, width: of the images in pixels; the model's own if not given.
            num_frames: of videos.
            vae: a folder with another autoencoder than the pipeline's, or with the one that a model alone lacks.
            scheduler: a folder with a scheduler_config.json, which says what the model was trained on, in place of the
                pipeline's; for a model alone by default its architecture's usual process.
            variant: of the files of weights, such as "fp16".

        Raises:
            InputError: a class that is not known here, or a file that is missing, damaged or does not fit.
        """
        folder = open_folder(path, variant)
        if not folder.is_known:
            return cls._from_unknown(folder, device, dtype, name, height, width, num_frames, vae, scheduler)
        model = load_denoiser(folder, dtype).to(device)
        architecture = architecture_class(folder.class_name)(model)
        config = scheduler_config(folder, Path(scheduler) if scheduler else None)
        given = process(config) if config else TrainedProcess(architecture.prediction, architecture.noise)
        autoencoder = autoencoder_folder(folder, vae)
        shape = architecture.sample_shape(
            sized(architecture, autoencoder and read_json(autoencoder / MODEL), height, width, num_frames)
        )
        kind = getattr(diffusers, str(folder.index.get("_class_name")), None)
        made = cls(
            architecture,
            process=given,
            decoder=decoder_from(autoencoder, shape, device, dtype, name),
            sample_shape=shape,
            weights_sha256=denoiser_digest(folder),
            name=name,
            text=lambda: load_text(folder, model, device, dtype),
            usual_guidance=default_guidance(architecture, kind),
            sampler=usual_sampler(kind, config),
        )
        if folder.boundary is not None:
            low = architecture_class(folder.second.class_name)(load_denoiser(folder.second, dtype).to(device))
            length = 1000 if config is None else config.get("num_train_timesteps", 1000)
            made._take_turns(low, folder.boundary * length, denoiser_digest(folder.second))
        return made

    def _take_turns(self, low: Architecture, below: float, digest: str, denoiser: Any = None) -> None:
        """Let a second model of the pipeline take the steps below a time.

        Raises:
            InputError: it has other blocks, or other inputs.
        """
        second = copy.copy(self)
        second.architecture, second._denoiser = low, low.model if denoiser is None else denoiser
        second._see("block", digest)  # the table of embeddings stays the same one
        second.name = f"{self.name}, second transformer"
        mine, other = ((each.signature.architecture, each.num_blocks) for each in (self, second))
        if mine != other:
            raise InputError(
                f"checkpoint: the transformers of `{self.name}` take turns, so they must have the same blocks, but the "
                f"first is {mine[0]} with {mine[1]}, and the second {other[0]} with {other[1]}. Give a pipeline with "
                "one."
            )
        self.successor = Successor(second, below)

    @classmethod
    def _from_unknown(
        cls,
        folder: Folder,
        device: torch.device,
        dtype: torch.dtype,
        name: str,
        height: int | None,
        width: int | None,
        num_frames: int | None,
        vae: str | None,
        scheduler: str | None,
    ) -> Self:
        """The network in a folder whose denoiser is not known by its name: what the whole pipeline's call shows."""
        for argument, given in (("vae", vae), ("scheduler", scheduler)):
            if given is not None:
                raise InputError(
                    f"{argument}: the pipeline in `{folder.path}` is taken as it is, so that there is no other. Omit "
                    f"{argument}, or put the other into a copy of the folder."
                )
        pipeline = load_whole(folder, device, dtype)
        found = cls.from_pipeline(pipeline, name=name, height=height, width=width, num_frames=num_frames)
        found.signature = replace(found.signature, weights_sha256=denoiser_digest(folder))
        return found

    @classmethod
    def from_pipeline(
        cls,
        pipeline: Any,
        *,
        name: str = "pipeline",
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
    ) -> Self:
        """The network of a live pipeline as it is: its weights, type, device and compiled parts.

        Its model leaves training mode, where labels are dropped at random. `embed` takes the text encoders out of the
        pipeline.

        Raises:
            InputError: its denoiser's class or its scheduler is not known here.
        """
        denoiser = denoiser_of(pipeline)
        asked = {"height": height, "width": width, "num_frames": num_frames}
        architecture = architecture_in(pipeline, bare(denoiser).eval(), asked)
        model, autoencoder = architecture.model, getattr(pipeline, "vae", None)
        config = None if autoencoder is None else dict(autoencoder.config)
        schedules = {"_class_name": type(pipeline.scheduler).__name__, **pipeline.scheduler.config}
        shape = architecture.sample_shape(sized(architecture, config, height, width, num_frames))
        made = cls(
            architecture,
            process=process(schedules),
            decoder=architecture.decoder(name) or live_decoder(autoencoder, shape, name),
            sample_shape=shape,
            weights_sha256=weights_sha256(model.state_dict()),
            name=name,
            denoiser=denoiser,
            text=lambda: with_text(pipeline),
            usual_guidance=default_guidance(architecture, type(pipeline)),
            sampler=usual_sampler(type(pipeline), schedules),
        )
        if (turn := second_of(pipeline)) is not None:
            low = architecture_in(pipeline, bare(turn[0]).eval(), asked)
            made._take_turns(low, turn[1], weights_sha256(low.model.state_dict()), turn[0])
        return made

    @property
    def condition_kind(self) -> Literal["none", "labels", "prompts"]:
        return self.architecture.condition_kind

    @property
    def num_conditions(self) -> int | None:
        return self._embeddings.count if self.condition_kind == "prompts" else self.num_classes

    @property
    def text_seconds(self) -> float | None:  # type: ignore[override]
        return self._embeddings.seconds

    @property
    def device(self) -> torch.device:
        return self.architecture.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.architecture.model.dtype

    def evaluate(self, inputs: NetworkInput, call: Call | None, slots: Slots) -> Tensor:
        arguments = self.architecture.arguments(inputs, self._given(inputs.conditions))
        with self._hooks.running(call, slots):
            output = self._denoiser(**arguments, return_dict=False)[0]
        return self.architecture.output(output, inputs.x)

    def _given(self, conditions: Tensor | None) -> Mapping[str, Tensor]:
        """The conditions themselves, or the rows of the table that they name."""
        if conditions is None:
            return {}
        if self.condition_kind == "labels":
            return {"labels": conditions}
        if not self._embeddings.rows:
            raise InputError(f"conditions: `{self.name}` has embedded no prompts yet. Call `embed(prompts)` first.")
        return {name: rows[conditions] for name, rows in self._embeddings.rows.items()}

    def null_conditions(self, num_images: int) -> Tensor:
        count = self.num_conditions
        if not self.architecture.has_null:
            raise InputError(f"guidance: `{self.name}` has no unconditional branch. Omit guidance.")
        if count is None:
            raise InputError(f"conditions: `{self.name}` has embedded no prompts yet. Call `embed(prompts)` first.")
        return torch.full((num_images,), count, dtype=torch.long, device=self.device)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> None:
        if self.condition_kind != "prompts" or self._text is None:
            super().embed(prompts)
            return
        pipeline, everything = self._text(), [*prompts, ""]
        start, at_once = clock.perf_counter(), self.architecture.prompts_at_once
        with refusing(self.name), gathered() as said:
            parts = [
                self.architecture.encode(pipeline, everything[first : first + at_once])
                for first in range(0, len(everything), at_once)
            ]
        self.notes = (*self.notes, *(f"prompts: {each}" for each in said))
        self._embeddings.rows = {name: self._table([part[name] for part in parts]) for name in parts[0]}
        self._embeddings.seconds = (clock.perf_counter() - start) / len(everything)
        free_text(pipeline)

    def _table(self, parts: Sequence[Tensor]) -> Tensor:
        rows = torch.cat([part.to(self.device) for part in parts])
        return rows.to(self.dtype) if rows.is_floating_point() and not self.architecture.exact_rows else rows

    def at(self, granularity: str) -> Network:
        if granularity == self.signature.granularity:
            return self
        other = copy.copy(self)
        other._see(granularity, self.signature.weights_sha256)
        if self.successor is not None:
            other.successor = Successor(self.successor.network.at(granularity), self.successor.below)
        return other

    def flops(self, blocks: Sequence[int]) -> int:
        rows = {name: tuple(table.shape[1:]) for name, table in self._embeddings.rows.items()}
        shapes = rows or self.architecture.blank(self.architecture.num_tokens)
        key = tuple(sorted(shapes.items()))
        if key not in self._flops:
            self._flops[key] = count_flops(self.architecture, self.signature.granularity, self.sample_shape, shapes)
        of_blocks, rest = self._flops[key]
        return rest + sum(of_blocks[index] for index in blocks)
