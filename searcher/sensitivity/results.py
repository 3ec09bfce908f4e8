"""What a calibration asks for and what it found, as plain values."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from scipy.stats import kendalltau

from ...backends.errors import InputError
from ...backends.quality.distances import MIN_IMAGES
from ...backends.schedule import Schedule
from ...reports.plots.sensitivity import HeatMap, Predictions
from .grid import Chain, Choices, Grid, Option
from .paths import MODES, ErrorTable, Mode, Vector

Objective = Literal["full", "metric"]
SEED = 3  # noises of neither the search (0) nor the final values (1) nor fitted rows (2)


@dataclass(frozen=True)
class Request:
    """What a calibration is to be.

    Attributes:
        choices: what is measured.
        objective: "full" for the distance from the full schedule's images, "metric" for the study's metric.
        num_images, seed: of the trajectories.
        num_members: schedules of the front that are sampled, at most.

    Raises:
        InputError: too few images.
    """

    choices: Choices
    objective: Objective = "full"
    num_images: int = 32
    seed: int = SEED
    num_members: int = 24

    def __post_init__(self) -> None:
        fewest = MIN_IMAGES if self.objective == "full" else 2 * MIN_IMAGES  # of which one group may be left out
        if self.num_images < fewest:
            raise InputError(
                f"num-images: must be at least {fewest} for --objective {self.objective}, but got {self.num_images}. "
                "Use --num-images 32."
            )


@dataclass(frozen=True)
class Cell:
    """What one chain does; NaN where samples were not finite, or an error is not known.

    Attributes:
        step, chain: which one.
        distance: from the full schedule's images.
        change: from the images of the same number of steps, all of which run whole.
        output_error, state_error: as in `Departure`.
        vector: what the images' loss is the squared length of.
    """

    step: int
    chain: Chain
    distance: float
    change: float
    output_error: float
    state_error: float
    vector: Vector

    @classmethod
    def of(cls, step: int, chain: Chain, row: Vector) -> Self:
        """From distance, change, both errors and the vector in a row."""
        return cls(step, chain, float(row[0]), float(row[1]), float(row[2]), float(row[3]), row[4:])


@dataclass(frozen=True)
class Level:
    """All that was measured at one number of steps; `distance` is that from the full schedule's images."""

    grid: Grid
    distance: float
    own: Vector
    cells: tuple[Cell, ...]

    @property
    def table(self) -> ErrorTable:
        """What fronts are made of; samples that were not finite are no option."""
        errors = {(each.step, each.chain): each.vector - self.own for each in self.cells}
        return ErrorTable(self.grid, self.own, {key: each for key, each in errors.items() if np.isfinite(each).all()})


@dataclass(frozen=True)
class Member:
    """A schedule of the front, sampled from the same noises.

    Attributes:
        schedule: what runs.
        cost: block evaluations of one image.
        predicted: its loss, by each way of predicting it.
        measured: the same loss of its images.
        distance, interval: from the full schedule's images.
        quality: the study's metric.
    """

    schedule: Schedule
    cost: int
    predicted: dict[Mode, float]
    measured: float
    distance: float
    interval: tuple[float, float]
    quality: float


@dataclass(frozen=True)
class Calibration:
    """What was found. Distances are means over images of |f − f′|² of two images' features.

    Attributes:
        another: the distance to the full schedule's image of another noise.
        quality: the metric's value of the full schedule.
        levels: most steps first.
        members: costs rise.
    """

    request: Request
    another: float
    quality: float
    levels: tuple[Level, ...]
    members: tuple[Member, ...]

    def rank_correlation(self, mode: Mode) -> float:
        """Kendall's τ between predicted and measured losses of the members."""
        measured = [each.measured for each in self.members]
        found: Any = kendalltau([each.predicted[mode] for each in self.members], measured)
        return 0.0 if math.isnan(found[0]) else float(found[0])


def heat_map(level: Level, another: float) -> HeatMap:
    """What is drawn of one number of steps; distances as shares of that to another image."""
    options, steps = level.grid.options, level.grid.num_steps
    changes = {(cell.step, cell.chain): cell.change for cell in level.cells}
    alike = [cell.chain for cell in level.cells if len(cell.chain) > 1 and len({*cell.chain}) == 1]
    together: list[Chain] = list(dict.fromkeys(alike))
    local, carried = (np.full((len(options), steps), np.nan) for _ in range(2))
    ratios = np.full((len(together), steps), np.nan)
    for cell in level.cells:
        if len(cell.chain) == 1:
            row = options.index(cell.chain[0])
            local[row, cell.step], carried[row, cell.step] = cell.output_error, cell.change / another
        elif cell.chain in together:
            alone = [changes.get((cell.step - i, cell.chain[:1]), math.nan) for i in range(len(cell.chain))]
            ratios[together.index(cell.chain), cell.step] = cell.change / sum(alone) if sum(alone) else math.nan
    return HeatMap(
        f"{steps} steps, {len(level.grid.order)} blocks",
        tuple(step.time for step in level.grid.full.steps),
        tuple(map(option_words, options)),
        local,
        carried,
        tuple(f"{len(chain)} × {option_words(chain[0])}" for chain in together),
        ratios,
    )


def predictions(found: Calibration) -> Predictions:
    """What is drawn of the front; distances from the full schedule's images as shares of that to another image."""
    full, near_full = found.levels[0].grid.full_work, found.request.objective == "full"
    unit = found.another if near_full else 1.0
    return Predictions(
        tuple(each.cost / full for each in found.members),
        tuple(each.measured / unit for each in found.members),
        {mode: tuple(each.predicted[mode] / unit for each in found.members) for mode in MODES},
        "distance, of another image's" if near_full else "metric where the reference varies most",
    )


def option_words(option: Option) -> str:
    """Such as `3, reuse`."""
    return f"{option.depth}, {option.stand_in}"


@dataclass(frozen=True)
class Price:
    """What a calibration costs: chains, and block evaluations for one image of them all, and of the full schedule."""

    chains: int
    work: int
    full_work: int


def price(grids: Sequence[Grid]) -> Price:
    """The price of grids, without the front's members."""
    chains = sum(1 for grid in grids for s in range(grid.num_steps) for _ in grid.chains(s))
    work = sum(grid.full_work + sum(map(grid.work, range(grid.num_steps))) for grid in grids)
    return Price(chains, work, grids[0].full_work)


def as_values(found: Calibration, files: Sequence[str]) -> dict[str, Any]:
    """What a calibration found, as JSON has it; NaN as null."""

    def number(value: float) -> float | None:
        return float(f"{value:.6g}") if math.isfinite(value) else None

    def chain(options: Chain) -> list[dict[str, Any]]:
        return [asdict(option) for option in options]

    return {
        "another_image": number(found.another),
        "full_quality": number(found.quality),
        "levels": [
            {
                "num_steps": level.grid.num_steps,
                "times": [step.time for step in level.grid.full.steps],
                "distance": number(level.distance),
                "cells": [
                    {
                        "step": cell.step,
                        "chain": chain(cell.chain),
                        "distance": number(cell.distance),
                        "change": number(cell.change),
                        "output_error": number(cell.output_error),
                        "state_error": number(cell.state_error),
                    }
                    for cell in level.cells
                ],
            }
            for level in found.levels
        ],
        "front": [
            {
                "file": file,
                "num_steps": each.schedule.num_steps,
                "block_evaluations": each.cost,
                "predicted": {mode: number(loss) for mode, loss in each.predicted.items()},
                "measured": number(each.measured),
                "distance": number(each.distance),
                "interval": [number(end) for end in each.interval],
                "quality": number(each.quality),
            }
            for file, each in zip(files, found.members, strict=True)
        ],
        "rank_correlation": {mode: number(found.rank_correlation(mode)) for mode in MODES} if found.members else None,
    }
