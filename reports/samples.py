"""Sample grids: the images of chosen schedules beside the full schedule's, on the same noises and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .selection import Highlight
from .style import MUTED, new_figure, paper_style, settle
from .view import StudyView

if TYPE_CHECKING:
    from ..backends.network import Network
    from ..backends.sampling.conditions import Conditions


@dataclass(frozen=True)
class Row:
    """One schedule's images, (N, H, W, 3) uint8, with what is written beside them."""

    title: str
    notes: tuple[str, ...]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class GridInfo:
    """Rows of images; images of one column come from the same noise and label. `seed` is that of the noises."""

    rows: tuple[Row, ...]
    seed: int
    first_image: int


def sample_grid(
    view: StudyView,
    highlights: Sequence[Highlight],
    networks: Callable[[str], Sequence[Network]],
    conditions: Conditions,
    *,
    seed: int,
    images: range = range(12),
) -> GridInfo:
    """Samples the first images of the final seed afresh with each chosen schedule, as `exeunt sample` would.

    `networks` gives the networks of a set of weights by its name. Raises what `sampling.sample` does.
    """
    from ..backends.sampling.loop import sample  # with torch, which a report without fresh samples does not need

    rows: list[Row] = []
    for highlight in highlights:
        point = highlight.point
        batches = sample(
            networks(point.weights),
            point.schedule,
            seed=seed,
            images=images,
            conditions=conditions,
            batch_size=len(images),
        )
        pixels = np.concatenate([batch.images.permute(0, 2, 3, 1).cpu().numpy() for batch in batches])
        rows.append(row_of(view, highlight, pixels))
    return GridInfo(tuple(rows), seed, images.start)


def row_of(view: StudyView, highlight: Highlight, images: NDArray[np.uint8]) -> Row:
    """A schedule's images with why they are shown and what it is worth."""
    point = highlight.point
    speedup, excess = view.speedup(point), view.relative_excess(point, "final")
    figures = [f"{speedup.value:.2f} × as fast"] if speedup else []
    figures += [view.standard.words(excess)] if excess is not None else []
    return Row(point.label, (highlight.reason, *([", ".join(figures)] if figures else [])), images)


def draw_samples(info: GridInfo, width: float = 7.0) -> Figure:
    """One line of images a schedule, its name above it. Small images are enlarged without smoothing."""
    count = max(len(row.images) for row in info.rows)
    height = width / count + 0.26
    with paper_style():
        figure = new_figure(width, height * len(info.rows))
        figure.set_layout_engine("constrained", h_pad=0.02, hspace=0.0)
        panels = figure.subplots(len(info.rows), 1, squeeze=False)[:, 0]
        for axes, row in zip(panels, info.rows, strict=True):
            axes.imshow(strip(row.images), interpolation="nearest", aspect="equal")
            axes.axis("off")
            axes.set_title(row.title, fontsize=8.5, pad=3)
            axes.set_title("  ·  ".join(row.notes), loc="right", fontsize=7.5, fontweight="normal", color=MUTED, pad=3)
        return settle(figure)


def strip(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images side by side, (H, N (W + gap) − gap, 3), with white between them."""
    gap = max(1, images.shape[2] // 24)
    spaced = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(spaced), axis=1)[:, :-gap]
