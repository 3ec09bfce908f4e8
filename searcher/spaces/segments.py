"""Spaces with a free depth for each segment of the steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from ...backends.schedule import Schedule, depths
from .base import TAILS, Space, ramp
from .frame import exit_rows, with_rows
from .levers import Parameters, lever_distributions, pull_levers, whole_parameters


class Segments(Space):
    """A free depth for each of up to six equal segments of the steps."""

    name = "segments"

    @property
    def num_segments(self) -> int:
        """At most six, since the samplers fall behind with more free integers."""
        return min(6, self.frame.num_steps)

    def distributions(self) -> dict[str, BaseDistribution]:
        depth = IntDistribution(1, self.frame.num_blocks)
        segments: dict[str, BaseDistribution] = {f"depth_{k}": depth for k in range(self.num_segments)}
        return {**lever_distributions(self.frame), **segments, "tail": CategoricalDistribution(self._tails)}

    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        base = pull_levers(self.frame, parameters)
        chosen = [parameters[f"depth_{k}"] for k in range(self.num_segments)]
        spread = [chosen[s * self.num_segments // base.num_steps] for s in range(base.num_steps)]
        return with_rows(base, exit_rows(self._order(parameters), spread, TAILS[parameters["tail"]]))

    def known_points(self) -> Iterator[Parameters]:
        blocks = self.frame.num_blocks
        for count in self._step_counts():
            yield self._point([blocks] * self.num_segments, num_steps=count)
        for depth in range(blocks - 1, 0, -1):
            yield self._point([depth] * self.num_segments)

    def warm_starts(self) -> list[Parameters]:
        blocks = self.frame.num_blocks
        rising = [ramp(k / max(1, self.num_segments - 1), blocks / 3, blocks, 1.0) for k in range(self.num_segments)]
        return [
            self._point(rising, num_steps=self._few(0.7)),
            self._point([max(1, blocks // 2)] * self.num_segments, num_steps=self._few(0.6)),
            self._point(rising[::-1], num_steps=self._few(0.7)),
        ]

    def parameters(self, schedule: Schedule) -> Parameters | None:
        """The inverse: exact for every schedule that drops by segments on the frame's own spacing."""
        count = schedule.num_steps
        found = depths(schedule)
        if count < self.num_segments or self.frame.replaces:
            return super().parameters(schedule)
        starts = [-(-k * count // self.num_segments) for k in range(self.num_segments)]
        point = self._point([found[s] for s in starts], num_steps=count)
        inside = self.frame.fewest_steps <= count <= self.frame.num_steps and min(found) > 0
        return point if inside and self.build(point).digest == schedule.digest else None

    def _point(self, levels: Sequence[int], **changes: Any) -> Parameters:
        named = {f"depth_{k}": level for k, level in enumerate(levels)}
        return {**whole_parameters(self.frame), **named, "tail": self._tails[0], **changes}


class Staircase(Segments):
    """Segments in sorted order: the depth only rises, or only falls, from noise to data."""

    name = "staircase"

    def distributions(self) -> dict[str, BaseDistribution]:
        return {**super().distributions(), "direction": CategoricalDistribution(("rising", "falling"))}

    def build(self, parameters: Mapping[str, Any]) -> Schedule:
        levels = sorted(parameters[f"depth_{k}"] for k in range(self.num_segments))
        ordered = levels if parameters["direction"] == "rising" else levels[::-1]
        return super().build({**parameters, **{f"depth_{k}": level for k, level in enumerate(ordered)}})

    def _point(self, levels: Sequence[int], **changes: Any) -> Parameters:
        direction = "falling" if levels[0] > levels[-1] else "rising"
        return {**super()._point(levels), "direction": direction, **changes}
