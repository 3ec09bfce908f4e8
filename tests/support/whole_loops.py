"""The whole loop on a pipeline of diffusers: its folder is searched, a schedule exported and put on a fresh pipeline.

Its images are compared with those of `exeunt sample`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import exeunt
import numpy as np
import torch
from click.testing import CliRunner
from exeunt.backends.networks.hf.models.recording import sizes_for
from exeunt.backends.networks.hf.models.sd3_flux import pack_latents
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import sample_batch
from exeunt.backends.schedule import RUN, Schedule
from exeunt.searcher.cli.main import cli
from torch import Tensor

PROMPTS = ("a red bicycle", "two dogs on a beach")
SEED = 1  # of `exeunt sample`
_FEW = (
    "--num-steps 6 --num-images 8 --final-images 8 --batch-size 8 --budget 2-trials --baselines fewer-steps "
    "--lever steps=6 --lever times=fixed --lever stand-in=reuse --set throughput.repeats=2 --report none --quiet"
)


@dataclass(frozen=True)
class Outcome:
    """What the loop gave.

    Attributes:
        latents: the largest difference between the two ways, over the largest value.
        levels: the largest difference of pixels, of 255.
        effect: what the schedule changes by what it skips, as `latents`.
        num_blocks: of the network.
    """

    latents: float
    levels: int
    effect: float
    num_blocks: int


def run_loop(pipe: Any, folder: Path, sizes: Mapping[str, int], call: Mapping[str, Any]) -> Outcome:
    """Search, export, sample and apply.

    Args:
        pipe: with its text encoders.
        folder: where files are written.
        sizes: of its images, for the command line and its call.
        call: further arguments of its call.
    """
    where, prompts, best = str(folder / "pipe"), str(folder / "prompts.txt"), str(folder / "best.schedule.json")
    pipe.save_pretrained(where)
    Path(prompts).write_text("\n".join(PROMPTS))
    network = ["--checkpoint", where, "--conditions", prompts, "--device", "cpu"]
    network += [word for name, value in sizes.items() for word in ("--network-arg", f"{name}={value}")]
    storage = ["--storage", str(folder / "loop.db")]
    _run("optimize", *network, *storage, *_FEW.split())
    _run("export", *storage, "--trial", "1", "-o", best)
    _run("sample", best, *network, "--num-images", str(len(PROMPTS)), "-o", str(folder / "few.npz"))
    schedule = exeunt.load_schedule(best)
    loaded = load_network(Path(where), **sizes)
    loaded.embed(PROMPTS)
    loaded = loaded.at(schedule.networks[0].granularity)
    noise = noises(SEED, range(len(PROMPTS)), loaded.sample_shape, 1)[0]
    sampled, full = (sample_batch([loaded], each, noise, [], torch.arange(len(PROMPTS))) for each in _both(schedule))
    fresh: Any = type(pipe).from_pretrained(where)
    fresh.set_progress_bar_config(disable=True)
    exeunt.apply(fresh, schedule)
    square = {name: value for name, value in sizes.items() if name != "num_frames"}
    given = {**sizes_for(fresh, sizes), **call, **exeunt.call_arguments(schedule, **square)}
    if "negative_prompt" in given:
        given["negative_prompt"] = [given["negative_prompt"]] * len(PROMPTS)
    latents, pixels = (_piped(fresh, noise, output_type=kind, **given) for kind in ("latent", "pt"))
    if latents.shape[1:] != loaded.sample_shape and loaded.signature.architecture == "FluxTransformer2DModel":
        sampled, full = pack_latents(sampled), pack_latents(full)
    latents = latents.reshape(sampled.shape)
    frames = pixels if pixels.ndim == 4 else torch.cat(list(pixels.unbind(1)), dim=-1)
    images = torch.from_numpy(np.load(folder / "few.npz")["images"])
    images = images.permute(0, 3, 1, 2) if images.shape[-1] == 3 else images
    return Outcome(
        _difference(latents, sampled),
        int((images.float() - (frames * 255).round()).abs().max()),
        _difference(full, sampled),
        schedule.networks[0].num_blocks,
    )


def _both(schedule: Schedule) -> tuple[Schedule, Schedule]:
    """The schedule, and the one that skips nothing at the same times."""
    steps = tuple(replace(step, blocks=(RUN,) * len(step.blocks)) for step in schedule.steps)
    return schedule, replace(schedule, steps=steps)


def _piped(pipe: Any, noise: Tensor, **arguments: Any) -> Tensor:
    """What a pipeline makes of the prompts and this noise, in place of its own."""
    own = pipe.prepare_latents

    def prepared(*args: Any, **kwargs: Any) -> Any:
        made = own(*args, **kwargs)
        first = made[0] if isinstance(made, tuple) else made
        given = (
            noise if noise[0].numel() != first[0].numel() or noise.ndim == first.ndim else noise.reshape(first.shape)
        )
        given = pack_latents(noise) if first.ndim == 3 and noise.shape[1] != 1 else given
        given = given.reshape(first.shape).to(first)
        return (given, *made[1:]) if isinstance(made, tuple) else given

    pipe.prepare_latents = prepared
    try:
        return pipe(prompt=list(PROMPTS), **arguments)[0]
    finally:
        pipe.prepare_latents = own


def _run(*words: str) -> None:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, f"{words[0]}: {result.output}"


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())
