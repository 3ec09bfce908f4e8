"""A schedule's step × block matrix as a picture: steps to the right from noise to data, blocks upwards."""

from __future__ import annotations

from textwrap import fill, shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .schedule_map import LOOKS, ScheduleMap
from .style import INK, MUTED, PAPER, new_figure, paper_style, settle

CONDITIONAL, UNCONDITIONAL = "#3d3d47", "#9d9daa"  # greys, as the matrix has the colours
MOST_TICKS = 12
LETTER_CELLS = (34, 30)  # letters are drawn while there are no more steps and blocks than these


def draw(info: ScheduleMap) -> Figure:
    """The whole picture: the matrix under the block evaluations of each step, with a legend."""
    with paper_style():
        num_steps, num_blocks = len(info.steps), info.num_blocks
        width, height = min(max(0.22 * num_steps + 1.6, 5.2), 13.0), min(max(0.17 * num_blocks, 1.6), 6.0)
        figure = new_figure(width, height + 2.1)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[0.7, height])
        draw_evaluations(above, info)
        draw_matrix(below, info, letters=num_steps <= LETTER_CELLS[0] and num_blocks <= LETTER_CELLS[1])
        figure.suptitle(shorten(info.title, round(14 * width)), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
        above.set_title(fill(info.words, round(15 * width)), fontsize=8, fontweight="normal", color=MUTED)
        figure.legend(handles=_handles(info), loc="outside lower center", ncols=4, handlelength=1.2)
        return settle(figure)


def draw_matrix(axes: Axes, info: ScheduleMap, *, letters: bool = False) -> None:
    """One cell a (step, block), coloured by its action. Cells that a smaller network does not have stay empty."""
    num_steps, num_blocks = len(info.steps), info.num_blocks
    axes.imshow(_pixels(info), aspect="auto", origin="lower", interpolation="none", extent=_extent(info))
    if num_steps * num_blocks <= 2_000:
        _draw_grid(axes, num_steps, num_blocks)
    if letters:
        _draw_letters(axes, info)
    for s in range(1, num_steps):
        if info.steps[s].network != info.steps[s - 1].network:
            axes.axvline(s - 0.5, color=INK, linewidth=1.4)
    axes.set(ylabel="block, in execution order", xlabel="step and its time, noise → data")
    steps, blocks = _ticks(num_steps), _ticks(num_blocks)
    axes.set_xticks(steps, [f"{s}\n{info.steps[s].time:.4g}" for s in steps])
    axes.set_yticks(blocks)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_evaluations(axes: Axes, info: ScheduleMap) -> None:
    """Block evaluations of each step, the unconditional pass on top of the conditional one."""
    edges = np.arange(len(info.steps) + 1) - 0.5
    depths = np.array([step.depth for step in info.steps])
    both = depths * [step.branches for step in info.steps]
    axes.stairs(depths, edges, fill=True, color=CONDITIONAL)
    axes.stairs(both, edges, baseline=depths, fill=True, color=UNCONDITIONAL)
    axes.set(ylabel="blocks\nrun", ylim=(0, max(1, int(both.max())) * 1.05))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _extent(info: ScheduleMap) -> tuple[float, float, float, float]:
    return (-0.5, len(info.steps) - 0.5, -0.5, info.num_blocks - 0.5)


def _pixels(info: ScheduleMap) -> NDArray[np.float64]:
    """(num_blocks, num_steps, 3) colours."""
    pixels = np.tile(np.array(to_rgb(PAPER)), (info.num_blocks, len(info.steps), 1))
    colors = {action: to_rgb(look.color) for action, look in LOOKS.items()}
    for s, step in enumerate(info.steps):
        pixels[: len(step.actions), s] = [colors[action] for action in step.actions]
    return pixels


def _draw_grid(axes: Axes, num_steps: int, num_blocks: int) -> None:
    """Hairlines of paper between cells."""
    axes.vlines(np.arange(num_steps + 1) - 0.5, -0.5, num_blocks - 0.5, color=PAPER, linewidth=0.8)
    axes.hlines(np.arange(num_blocks + 1) - 0.5, -0.5, num_steps - 0.5, color=PAPER, linewidth=0.8)


def _draw_letters(axes: Axes, info: ScheduleMap) -> None:
    for s, step in enumerate(info.steps):
        for j, action in enumerate(step.actions):
            look = LOOKS[action]
            axes.text(s, j, look.letter, color=look.ink, fontsize=6, ha="center", va="center_baseline")


def _ticks(count: int) -> list[int]:
    """At most `MOST_TICKS` indices at a round distance, the first always among them."""
    distance = next(
        d for d in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, count) if count <= d * MOST_TICKS or d >= count
    )
    return list(range(0, count, distance))


def _handles(info: ScheduleMap) -> list[Patch]:
    handles = [Patch(facecolor=look.color, label=f"{look.name} ({look.letter})") for look in info.looks]
    if any(step.branches == 2 for step in info.steps):
        handles.append(Patch(facecolor=CONDITIONAL, label="conditional pass"))
        handles.append(Patch(facecolor=UNCONDITIONAL, label="unconditional pass"))
    return handles
