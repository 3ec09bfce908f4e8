"""Runs of tiny pipelines and of their networks on the same noise, for tests that compare the two."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import exeunt
import numpy as np
import pytest
import torch
from exeunt.backends.network import Network, in_turns
from exeunt.backends.networks.hf.models.sd3_flux import pack_latents, unpack_latents
from exeunt.backends.networks.hf.network import DiffusersNetwork
from exeunt.backends.sampling import loop
from exeunt.backends.schedule import DROP, REUSE, RUN, Embedded, Guidance, Schedule, forecast
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.spaces.frame import Turn
from tiny_pipelines import tiny
from torch import Tensor, nn

PROMPTS = ("a red bicycle", "two dogs on a beach")
# What a network and its pipeline's call need to make small images.
SIZES: Mapping[str, dict[str, int]] = {
    "flux": {"height": 32, "width": 32},
    "wan": {"height": 32, "width": 32, "num_frames": 5},
    "wan-2.2": {"height": 32, "width": 32, "num_frames": 5},
}
# How to make the times that the pipeline's scheduler goes to unasked.
USUAL: Mapping[str, dict[str, Any]] = {
    "dit": {"solver": "ddim", "spacing": "leading"},
    "pixart-alpha": {"solver": "dpmsolver++", "order": 2, "spacing": "linspace"},
    "sd3": {"solver": "flow-euler", "spacing": "flow", "spacing_parameters": {"shift": 3.0}},
    "flux": {"solver": "flow-euler", "spacing": "flow", "spacing_parameters": {"shift": 3.0}},
    "wan": {"solver": "flow-euler", "spacing": "flow", "spacing_parameters": {"shift": 3.0}},
}
GUIDED = tuple(kind for kind in USUAL if kind != "flux")


@dataclass
class Bench:
    """A pipeline and, with weights of its own that are the same, its network.

    Attributes:
        kind: a key of `USUAL`.
        pipe: to apply schedules to.
        network: to sample with; its prompts are embedded.
    """

    kind: str
    pipe: Any
    network: Network

    @classmethod
    def of(cls, kind: str, **changes: Any) -> "Bench":
        network = DiffusersNetwork.from_pipeline(tiny(kind, **changes), name=kind, **SIZES.get(kind, {}))
        if network.condition_kind == "prompts":
            network.embed(PROMPTS)
        return cls(kind, tiny(kind, **changes), network)

    def schedule(self, num_steps: int = 6, *, guidance: Any = "usual", **options: Any) -> Schedule:
        """Every block at every step, at the pipeline's own times."""
        if guidance == "usual":
            guidance = Embedded(3.5) if self.network.takes_guidance else Guidance(2.5)
        given = {**USUAL[self.kind.removesuffix("-2.2")], **options}
        signature, noise, later = self.network.signature, self.network.noise, self.network.successor
        prediction = self.network.prediction
        made = make_schedule(signature, noise, prediction, num_steps=num_steps, guidance=guidance, **given)
        return made if later is None else Turn(later.network.signature, later.below).taken(made)

    def arguments(self, schedule: Schedule) -> dict[str, Any]:
        """`exeunt.call_arguments`, told the size where times depend on it."""
        sizes = {name: value for name, value in SIZES.get(self.kind, {}).items() if name != "num_frames"}
        return exeunt.call_arguments(schedule, **sizes)

    def noise(self, seed: int = 0, count: int = 2) -> Tensor:
        return torch.randn(count, *self.network.sample_shape, generator=torch.Generator().manual_seed(seed))

    def sampled(self, schedule: Schedule, seed: int = 0, count: int = 2) -> Tensor:
        """What `exeunt.sample` makes of a seed's noise, as `piped` does: latents, or images for DiT."""
        network = self.network.at(schedule.networks[0].granularity)
        networks = in_turns(network, schedule)
        latents = loop.sample_batch(networks, schedule, self.noise(seed, count), [], torch.arange(count) % 2)
        return self._images(latents) if self.kind == "dit" else latents

    def piped(self, seed: int = 0, count: int = 2, pipe: Any = None, **arguments: Any) -> Tensor:
        """What the pipeline makes of the same noise, called with labels or prompts 0, 1, 0, …."""
        pipe = pipe or self.pipe
        if self.kind == "dit":  # it draws its own noise, and returns images alone
            generator = torch.Generator().manual_seed(seed)
            labels = [i % 2 for i in range(count)]
            return pipe(labels, generator=generator, output_type="pt", **arguments).images
        sizes: dict[str, Any] = dict(SIZES.get(self.kind, {}))
        if self.kind.startswith("pixart"):
            sizes["use_resolution_binning"] = False
        prompts, noise = [PROMPTS[i % 2] for i in range(count)], self.noise(seed, count)
        latents = pack_latents(noise) if self.kind == "flux" else noise
        made = pipe(prompts, latents=latents, output_type="latent", **sizes, **arguments)[0]
        return unpack_latents(made, *noise.shape[-2:]) if self.kind == "flux" else made

    def _images(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        with torch.no_grad():
            return (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def with_actions(schedule: Schedule, seed: int = 0, first: int = 2) -> Schedule:
    """The schedule with random actions for every block from step `first` on."""
    random, choices = np.random.default_rng(seed), [RUN, RUN, DROP, REUSE, forecast(1), forecast(2)]
    steps = tuple(
        replace(step, blocks=tuple(RUN if s < first else choices[random.integers(6)] for _ in step.blocks))
        for s, step in enumerate(schedule.steps)
    )
    return replace(schedule, steps=steps)


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def each(*kinds: str) -> Any:
    """Runs a test on a pipeline of each of these kinds."""
    return pytest.mark.parametrize("bench", kinds, indirect=True)


def sharing(bench: Bench) -> Any:
    """Another pipeline around the same networks, with a scheduler of its own, as servers make for each request.

    So are its tokenizers: they keep how to pad between setting it and using it, and threads would change it in between.
    """
    own = {name: copy.deepcopy(part) for name, part in bench.pipe.components.items() if name.startswith("tokenizer")}
    parts = bench.pipe.components | own
    parts["scheduler"] = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    pipe = type(bench.pipe)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def after_steps(bench: Bench, act: Callable[[int], None]) -> dict[str, Any]:
    """The pipeline's own way to be called back after each step, with its index."""
    if bench.kind.startswith("pixart"):
        return {"callback": lambda step, time, latents: act(step), "callback_steps": 1}

    def called_back(pipe: Any, step: int, time: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        act(step)
        return kwargs

    return {"callback_on_step_end": called_back}


def hooked(model: nn.Module) -> list[str]:
    """Modules with a registry of hooks, or with a forward of their own."""
    return [name for name, each in model.named_modules() if {"_diffusers_hook", "forward"} & each.__dict__.keys()]
