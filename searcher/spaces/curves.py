"""Spaces in which the depth follows a curve from noise to data, with and without refreshes in between."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...backends.schedule import DROP, Schedule
from ...backends.solvers.noise_schedules import marginal_at
from ...backends.solvers.spacings import FLOW_END
from .base import TAILS, Space, ramp
from .frame import exit_rows, refreshed_rows, with_rows
from .levers import Parameters, lever_distributions, pull_levers, whole_parameters


class Curve(Space):
    """Depth follows first + (last − first) · progress^bend over the steps; one tail action replaces the rest."""

    name = "curve"

    def distributions(self) -> dict[str, BaseDistribution]:
        depth = IntDistribution(1, self.frame.num_blocks)
        return {
            **lever_distributions(self.frame),
            "first_depth": depth,
            "last_depth": depth,
            "bend": FloatDistribution(0.25, 4.0, log=True),
            "tail": CategoricalDistribution(self._tails),
        }

    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        base, order = pull_levers(self.frame, parameters), self._order(parameters)
        return with_rows(base, exit_rows(order, self._curve(base, parameters), TAILS[parameters["tail"]]))

    def known_points(self) -> Iterator[Parameters]:
        for count in self._step_counts():
            yield self._point(num_steps=count)
        for depth in range(self.frame.num_blocks - 1, 0, -1):
            yield self._point(first_depth=depth, last_depth=depth)

    def warm_starts(self) -> list[Parameters]:
        low, half, blocks = self._levels()
        late = {"spacing": 1.2} if self.frame.warps else {}
        # A shallow first step and a steep rise: where there is mostly noise, few blocks do.
        rising = {"first_depth": low, "last_depth": blocks, "bend": 0.35}
        return [
            self._point(num_steps=self._few(0.25), **rising),
            self._point(num_steps=self._few(0.4), **rising),
            self._point(num_steps=self._few(0.2), **rising),
            self._point(num_steps=self._few(0.3), first_depth=half, last_depth=half),
            self._point(num_steps=self._few(0.25), first_depth=half, last_depth=blocks, **late),
            self._point(num_steps=self._few(0.6), first_depth=low, last_depth=blocks),
        ]

    def _levels(self) -> tuple[int, int, int]:
        """A sixth of the blocks, half of them, and all."""
        blocks = self.frame.num_blocks
        return max(1, blocks // 6), max(1, blocks // 2), blocks

    def _progress(self, base: Schedule) -> list[float]:
        """Where each step stands on the curve, 0 for the first and 1 for the last."""
        return [s / max(1, base.num_steps - 1) for s in range(base.num_steps)]

    def _curve(self, base: Schedule, parameters: Mapping[str, Any]) -> list[int]:
        first, last, bend = parameters["first_depth"], parameters["last_depth"], parameters["bend"]
        return [ramp(progress, first, last, bend) for progress in self._progress(base)]

    def _point(self, **changes: Any) -> Parameters:
        blocks = self.frame.num_blocks
        return {
            **whole_parameters(self.frame),
            "first_depth": blocks,
            "last_depth": blocks,
            "bend": 1.0,
            "tail": self._tails[0],
            **changes,
        }


class SnrCurve(Curve):
    """The same curve over the log-SNR between the first step and the last, so it does not depend on the spacing."""

    name = "snr-curve"

    def _progress(self, base: Schedule) -> list[float]:
        ratios = log_snr(base)
        span = ratios[-1] - ratios[0]
        return [(value - ratios[0]) / span if span else 0.0 for value in ratios]


def log_snr(schedule: Schedule) -> list[float]:
    """ln(α/σ) at each step, rising from noise to data. Pure noise, where it is infinite, counts as a step beside it."""
    sampler = schedule.sampler
    nearest = {"flow": 1 - FLOW_END}.get(sampler.time, math.inf)
    return [marginal_at(sampler.noise, sampler.time, min(step.time, nearest)).log_snr for step in schedule.steps]


class Cache(Curve):
    """Every k-th step runs whole; between, the depth follows a curve and stored residuals replace the rest.

    For weights that were trained normally, which do not survive dropped blocks.
    """

    name = "cache"

    def distributions(self) -> dict[str, BaseDistribution]:
        depth = IntDistribution(0, self.frame.num_blocks)
        return {
            **lever_distributions(self.frame),
            "interval": IntDistribution(1, 5),
            "first_depth": depth,
            "last_depth": depth,
            "tail": CategoricalDistribution(("reuse", "forecast-1", "forecast-2")),
        }

    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        base, blocks = pull_levers(self.frame, parameters), self.frame.num_blocks
        between, interval = self._curve(base, {**parameters, "bend": 1.0}), parameters["interval"]
        depths = [blocks if s % interval == 0 else depth for s, depth in enumerate(between)]
        return with_rows(base, exit_rows(self._order(parameters), depths, TAILS[parameters["tail"]]))

    def known_points(self) -> Iterator[Parameters]:
        for count in self._step_counts():
            yield self._point(num_steps=count)
        for interval in (2, 3, 4):
            for depth in range(self.frame.num_blocks):
                yield self._point(interval=interval, first_depth=depth, last_depth=depth)

    def warm_starts(self) -> list[Parameters]:
        blocks = self.frame.num_blocks
        quarter, half = blocks // 4, blocks // 2
        return [
            self._point(interval=2, first_depth=quarter, last_depth=quarter, num_steps=self._few(0.8)),
            self._point(interval=3, first_depth=quarter, last_depth=half, num_steps=self._few(0.7)),
            self._point(interval=2, first_depth=half, last_depth=half, num_steps=self._few(0.6), tail="forecast-1"),
        ]

    def _point(self, **changes: Any) -> Parameters:
        blocks = self.frame.num_blocks
        return {
            **whole_parameters(self.frame),
            "interval": 1,
            "first_depth": blocks,
            "last_depth": blocks,
            "tail": "reuse",
            **changes,
        }


class Mixed(Curve):
    """A curve of exits at every k-th step and a shallow depth between, where the tail replaces what the exit ran.

    Exits, caches, fewer steps and all their mixtures are points of this one flat set of eight parameters.
    """

    name = "mixed"

    def distributions(self) -> dict[str, BaseDistribution]:
        return {
            **super().distributions(),
            "interval": IntDistribution(1, 4),
            "shallow": IntDistribution(0, self.frame.num_blocks),
        }

    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        base, tail = pull_levers(self.frame, parameters), TAILS[parameters["tail"]]
        curve = self._curve(base, parameters)
        shallow = parameters["shallow"] if tail != DROP else max(1, parameters["shallow"])
        rows = refreshed_rows(
            self._order(parameters), curve, parameters["interval"], shallow, tail, droppable=not self.frame.replaces
        )
        return with_rows(base, rows)

    def known_points(self) -> Iterator[Parameters]:
        yield from super().known_points()
        for interval in (2, 3, 4):
            for shallow in range(self.frame.num_blocks):
                yield self._point(interval=interval, shallow=shallow, tail="reuse")

    def warm_starts(self) -> list[Parameters]:
        if self.frame.replaces:
            return self._cached_stages()
        _, half, blocks = self._levels()
        cached = {"interval": 2, "shallow": blocks // 4, "tail": "reuse"}
        return [
            *super().warm_starts(),
            self._point(num_steps=self._few(0.5), **cached),
            self._point(num_steps=self._few(0.3), **cached, first_depth=half),
        ]

    def _cached_stages(self) -> list[Parameters]:
        """DeepCache and Faster Diffusion at other numbers of steps, from a whole step every second to every fourth."""
        up = {"keep": "up", "shallow": self.frame.num_blocks // 2}
        return [
            self._point(num_steps=self._few(0.6), interval=2, shallow=2),
            self._point(num_steps=self._few(0.5), interval=2, **up),
            self._point(num_steps=self._few(0.8), interval=3, shallow=2),
            self._point(num_steps=self._few(0.4), interval=2, shallow=2, tail="forecast-1"),
            self._point(num_steps=self._few(0.5), interval=4, shallow=2),
            self._point(num_steps=self._few(0.3), interval=2, shallow=4),
        ]

    def _point(self, **changes: Any) -> Parameters:
        return super()._point(**{"interval": 1, "shallow": 0, **changes})
