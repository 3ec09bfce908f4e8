"""What each step of a network can do without, as heat maps, and how well that predicts whole schedules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from .style import (
    ACCENT,
    BLUE,
    HAIRLINE,
    INK,
    MUTED,
    PAPER,
    drawing,
    faint_grid,
    logarithmic,
    padded,
    round_ticks,
    tick_text,
)

Array = NDArray[np.float64]

DECADES = 4.0  # of a colour scale, down from its largest value
RISING = LinearSegmentedColormap.from_list("rising", [PAPER, "#9cc9e3", BLUE, INK])
BOTH_WAYS = LinearSegmentedColormap.from_list("both ways", [BLUE, PAPER, ACCENT])
MOST_TICKS = 12


@dataclass(frozen=True)
class HeatMap:
    """What was measured at one number of steps; NaN where it wasn't.

    Attributes:
        title: of the picture.
        times: (S,) of the steps.
        options: (R,) what a step may do, in words.
        local: (R, S) relative error of the network's output at that step.
        carried: (R, S) distance of the finished images from those without it, as a share of that to another image.
        chains: (Q,) what several steps in a row do.
        together: (Q, S) distance of the finished images ÷ the sum of those of each of these steps alone.
    """

    title: str
    times: tuple[float, ...]
    options: tuple[str, ...]
    local: Array
    carried: Array
    chains: tuple[str, ...]
    together: Array


def draw_heat_map(info: HeatMap) -> Figure:
    """Steps go right, from noise to data: what a step's output loses, what comes of it in the end, and neighbours."""
    heights = [len(info.options), len(info.options), *([len(info.chains)] if info.chains else [])]
    width = min(max(0.33 * len(info.times) + 3.2, 5.6), 12.0)
    with drawing(width, 0.17 * sum(heights) + 0.75 * len(heights) + 0.7) as figure:
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False).flatten()
        figure.suptitle(info.title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
        _panel(
            figure, panels[0], info.local, info.options, "error of the network's output at this step", "relative error"
        )
        _panel(figure, panels[1], info.carried, info.options, "how far the finished images move", "of another image")
        if info.chains:
            title = "several steps in a row: distance ÷ sum of each step's alone"
            _panel(figure, panels[2], info.together, info.chains, title, "ratio", both_ways=True)
        ticks = list(range(0, len(info.times), -(-len(info.times) // MOST_TICKS)))
        panels[-1].set_xticks(ticks, [f"{s}\n{info.times[s]:.4g}" for s in ticks])
        panels[-1].set_xlabel("step and its time, noise → data")
        figure.supylabel("blocks that run, and what stands in for the others", fontsize=8)
    return figure


def _panel(
    figure: Figure, axes: Axes, values: Array, rows: Sequence[str], title: str, label: str, *, both_ways: bool = False
) -> None:
    known = values[np.isfinite(values) & (values > 0)]
    axes.set_facecolor(HAIRLINE)
    axes.set_title(title, fontsize=8, fontweight="normal", color=MUTED)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=7)
    axes.spines[["left", "bottom"]].set_visible(False)
    high = float(known.max()) if len(known) else 1.0
    if both_ways:
        high = max(high, 1 / float(known.min()) if len(known) else 1.0, 2.5)
        norm, colors = LogNorm(1 / high, high), BOTH_WAYS
    else:
        norm, colors = LogNorm(max(float(known.min()) if len(known) else 0.1, high / 10**DECADES), high * 1.001), RISING
    image = axes.imshow(
        np.ma.masked_invalid(values), aspect="auto", interpolation="none", norm=norm, cmap=colors, origin="lower"
    )
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=12)
    bar.set_label(label, fontsize=7)
    _plain_ticks(bar.ax, norm)


def _plain_ticks(axes: Axes, norm: Normalize) -> None:
    """Plain numbers at round places of a colour bar."""
    assert norm.vmin is not None
    assert norm.vmax is not None
    ticks = round_ticks(norm.vmin, norm.vmax)
    axes.yaxis.set_major_locator(FixedLocator(ticks if len(ticks) <= 5 else ticks[::2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(tick_text))
    axes.tick_params(labelsize=6.5, length=2)


@dataclass(frozen=True)
class Predictions:
    """A front that was predicted, and measured.

    Attributes:
        costs: (M,) share of the full schedule's block evaluations.
        measured: (M,) losses.
        predicted: by the name of each way, (M,) losses.
        label: of the losses.
    """

    costs: tuple[float, ...]
    measured: tuple[float, ...]
    predicted: dict[str, tuple[float, ...]]
    label: str


def draw_predictions(info: Predictions) -> Figure:
    """Measured losses as points, and what each way of predicting them said as a line."""
    looks = {"additive": (MUTED, ":"), "vector": (BLUE, "--"), "path": (ACCENT, "-")}
    with drawing(5.6, 3.4) as figure:
        axes = figure.subplots()
        for name, losses in info.predicted.items():
            color, line = looks[name]
            axes.plot(info.costs, losses, line, color=color, linewidth=1.2, label=f"predicted, {name}")
        axes.plot(info.costs, info.measured, "o", color=INK, markersize=4, label="measured")
        everything = [*info.measured, *(loss for losses in info.predicted.values() for loss in losses)]
        positive = [each for each in everything if each > 0] or [1.0]
        logarithmic(axes, "x", *padded(info.costs))
        logarithmic(axes, "y", *padded(positive))
        axes.set(xlabel="block evaluations, of the full schedule's", ylabel=info.label)
        faint_grid(axes)
        axes.legend(loc="upper right")
    return figure
