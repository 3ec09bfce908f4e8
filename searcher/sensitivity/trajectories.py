"""Full trajectories, and those that leave them at a step.

All steps before the first one that differs are those of the full trajectory, so they aren't sampled again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...backends.network import Network, in_turns
from ...backends.quality.extractors import FeatureArray
from ...backends.sampling.conditions import Conditions, noises
from ...backends.sampling.loop import Samples, Trajectory, Waypoint, check_schedule, labels, num_draws
from .grid import Chain, Grid

Extract = Callable[[list[Samples]], FeatureArray]


@dataclass(frozen=True, eq=False)
class Departure:
    """The images of a trajectory that left the full one.

    Attributes:
        features: (N, D); NaN where the samples were not finite.
        output_error, state_error: how far the network's output at the step, and the sample after it, are from the full
            ones at the same sample, relative to their lengths, the mean over images; NaN where the sample is not the
            same, because steps before this one differ too.
    """

    features: FeatureArray
    output_error: float
    state_error: float


@dataclass(frozen=True, eq=False)
class _Batch:
    """One batch with its full trajectory: a waypoint before each step and one at the end, and each step's output."""

    images: range
    draws: Tensor
    shown: Tensor | None
    waypoints: list[Waypoint]
    outputs: list[Tensor]


class FullTrajectories:
    """The full trajectories of some images at one number of steps.

    Args:
        network: that is measured.
        grid: whose full schedule is sampled, now.
        seed, images, conditions, batch_size: as `sample` takes them.
        extract: features of finished images.
        check: raises to stop; called at every step.
    """

    def __init__(
        self,
        network: Network,
        grid: Grid,
        *,
        seed: int,
        images: range,
        conditions: Conditions,
        batch_size: int,
        extract: Extract,
        check: Callable[[], None],
    ) -> None:
        self._networks = in_turns(network, grid.full)
        check_schedule(self._networks, grid.full)
        self._network, self._grid, self._extract, self._check = network, grid, extract, check
        chunks = [images[first : first + batch_size] for first in range(0, len(images), batch_size)]
        self._batches = [self._sampled(chunk, seed, labels(conditions, chunk, seed)) for chunk in chunks]

    @torch.inference_mode()
    def _sampled(self, images: range, seed: int, shown: Tensor | None) -> _Batch:
        network, full = self._network, self._grid.full
        draws = noises(seed, images, network.sample_shape, num_draws(full)).to(network.device)
        run = Trajectory(self._networks, full, draws[0], draws[1:], shown)
        waypoints, outputs = list[Waypoint](), list[Tensor]()
        for s, row in enumerate(run.rows):
            self._check()
            waypoints.append(Waypoint(s, run.x, tuple(run.history)))
            outputs.append(run.predict())
            run.advance(row)
        waypoints.append(Waypoint(full.num_steps, run.x, tuple(run.history)))
        return _Batch(images, draws, shown, waypoints, outputs)

    def features(self) -> FeatureArray:
        """(N, D) of the full schedule's images."""
        return self._finished([batch.waypoints[-1].x for batch in self._batches])

    @torch.inference_mode()
    def leave(self, s: int, chain: Chain) -> Departure:
        """The images that come of a chain that ends at step `s`."""
        schedule, first = self._grid.schedule(s, chain), self._grid.first(s, chain)
        ends, errors = list[Tensor](), list[Tensor]()
        for batch in self._batches:
            run = Trajectory(
                self._networks, schedule, batch.draws[0], batch.draws[1:], batch.shown, batch.waypoints[first]
            )
            for place, row in enumerate(run.rows, start=first):
                self._check()
                output = run.predict()
                run.advance(row)
                if place == s:
                    pairs = ((output, batch.outputs[s]), (run.x, batch.waypoints[s + 1].x))
                    errors.append(torch.stack([_relative(*pair) for pair in pairs]))
            ends.append(run.x)
        output_error, state_error = torch.cat(errors, dim=1).mean(dim=1).tolist() if len(chain) == 1 else (np.nan,) * 2
        return Departure(self._finished(ends), output_error, state_error)

    def _finished(self, latents: list[Tensor]) -> FeatureArray:
        network = self._network
        samples = [
            Samples(batch.images.start, each, network.decode(each.nan_to_num().to(network.dtype)))
            for batch, each in zip(self._batches, latents, strict=True)
        ]
        finite = all(bool(torch.isfinite(each).all()) for each in latents)
        features = self._extract(samples)
        return features if finite else np.full_like(features, np.nan)


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    """(N,) ‖found − wanted‖ ÷ ‖wanted‖ of each image."""
    return (found - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1).clamp_min(1e-12)
