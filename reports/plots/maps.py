"""The front's schedules side by side: one small step × block map each, all at one scale.

One schedule's map as a large picture, and how deep a few schedules run at each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from textwrap import fill, shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from ...backends.schedule import depths
from ..view.selection import highlights
from ..view.view import Point, Seeds, StudyView
from .figures import ReportFigure
from .schedule_map import LOOKS, ScheduleMap, schedule_map
from .style import INK, MUTED, PALETTE, PAPER, drawing, family_look, panels

CONDITIONAL, UNCONDITIONAL = "#3d3d47", "#9d9daa"  # greys, as the matrix has the colours
_OF_SECOND: dict[str, Any] = {"hatch": "////", "edgecolor": PAPER}  # how cells of a second network look
_SECOND = Patch(facecolor=MUTED, label="second network", linewidth=0, **_OF_SECOND)
MOST_TICKS = 12
LETTER_CELLS = (34, 30)  # letters are drawn while there are no more steps and blocks than these


def draw(info: ScheduleMap) -> Figure:
    """The whole picture: the matrix under the block evaluations of each step, with a legend."""
    num_steps, num_blocks = info.schedule.num_steps, info.num_blocks
    width, height = min(max(0.22 * num_steps + 1.6, 5.2), 13.0), min(max(0.17 * num_blocks, 1.6), 6.0)
    with drawing(width, height + 2.1) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[0.7, height])
        draw_evaluations(above, info)
        draw_matrix(below, info, letters=num_steps <= LETTER_CELLS[0] and num_blocks <= LETTER_CELLS[1])
        figure.suptitle(shorten(info.title, round(14 * width)), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
        above.set_title(fill(info.words, round(15 * width)), fontsize=8, fontweight="normal", color=MUTED)
        handles = [Patch(facecolor=look.color, label=f"{look.name} ({look.letter})") for look in info.looks]
        if any(step.network for step in info.schedule.steps):
            handles.append(_SECOND)
        if 2 in info.branches:
            handles.append(Patch(facecolor=CONDITIONAL, label="conditional pass"))
            handles.append(Patch(facecolor=UNCONDITIONAL, label="unconditional pass"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.2)
    return figure


def draw_matrix(axes: Axes, info: ScheduleMap, *, letters: bool = False) -> None:
    """One cell a (step, block), coloured by its action. Those of a second network are hatched, and cells that a smaller
    network does not have stay empty."""
    steps, num_steps, num_blocks = info.schedule.steps, info.schedule.num_steps, info.num_blocks
    pixels = np.tile(np.array(to_rgb(PAPER)), (num_blocks, num_steps, 1))  # (blocks, steps, 3) colours
    colors = {look.letter: to_rgb(look.color) for look in LOOKS.values()}
    for s, looks in enumerate(info.steps):
        pixels[: len(looks), s] = [colors[look.letter] for look in looks]
        for j, look in enumerate(looks if letters else ()):
            on_hatches = {"facecolor": look.color, "linewidth": 0, "pad": 0.8} if steps[s].network else None
            letter = axes.text(s, j, look.letter, color=look.ink, fontsize=6, ha="center", va="center_baseline")
            letter.set_bbox(on_hatches)
    extent = (-0.5, num_steps - 0.5, -0.5, num_blocks - 0.5)
    axes.imshow(pixels, aspect="auto", origin="lower", interpolation="none", extent=extent)
    if num_steps * num_blocks <= 2_000:  # hairlines of paper between cells
        axes.vlines(np.arange(num_steps + 1) - 0.5, -0.5, num_blocks - 0.5, color=PAPER, linewidth=0.8)
        axes.hlines(np.arange(num_blocks + 1) - 0.5, -0.5, num_steps - 0.5, color=PAPER, linewidth=0.8)
    for s in range(1, num_steps):
        if steps[s].network != steps[s - 1].network:
            axes.axvline(s - 0.5, color=INK, linewidth=1.4)
    for s, looks in enumerate(info.steps):
        if steps[s].network:
            axes.add_patch(Rectangle((s - 0.5, -0.5), 1, len(looks), fill=False, linewidth=0, **_OF_SECOND))
    axes.set(ylabel="block, in execution order", xlabel="step and its time, noise → data")
    axes.set_xticks(_ticks(num_steps), [f"{s}\n{steps[s].time:.4g}" for s in _ticks(num_steps)])
    axes.set_yticks(_ticks(num_blocks))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_evaluations(axes: Axes, info: ScheduleMap) -> None:
    """Block evaluations of each step, the unconditional pass on top of the conditional one."""
    edges, depths = np.arange(info.schedule.num_steps + 1) - 0.5, np.array(info.depths)
    both = depths * info.branches
    axes.stairs(depths, edges, fill=True, color=CONDITIONAL)
    axes.stairs(both, edges, baseline=depths, fill=True, color=UNCONDITIONAL)
    axes.set(ylabel="blocks\nrun", ylim=(0, max(1, int(both.max())) * 1.05))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _ticks(count: int) -> list[int]:
    """At most `MOST_TICKS` indices at a round distance, the first always among them."""
    distance = next(
        d for d in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, count) if count <= d * MOST_TICKS or d >= count
    )
    return list(range(0, count, distance))


MOST_MAPS = 12
WIDTH = 8.0  # inches, of figures with panels


@dataclass(frozen=True)
class FrontMap:
    """One schedule with its name and what it gains."""

    name: str
    note: str
    map: ScheduleMap


@dataclass(frozen=True)
class MapsInfo:
    """The maps, slowest first. `left_out` is how many points of the front are not shown."""

    maps: tuple[FrontMap, ...]
    num_steps: int
    num_blocks: int
    left_out: int


def maps_info(view: StudyView) -> MapsInfo | None:
    """Up to `MOST_MAPS` searched points of the final front (the search's while there is none); None without any."""
    seeds: Seeds = "final" if view.front("final") else "search"
    points = [point for point in view.front(seeds) if point.role == "trial"]
    if not points:
        return None
    kept = [point for point in spread(points, view.knee(seeds)) if point in points]

    def note(point: Point) -> str:
        return ", ".join([*(["knee"] if point is view.knee(seeds) else []), *view.gains(point, seeds)])

    maps = tuple(FrontMap(point.label, note(point), schedule_map(point.schedule)) for point in kept)
    return MapsInfo(
        maps,
        num_steps=max(each.map.schedule.num_steps for each in maps),
        num_blocks=max(each.map.num_blocks for each in maps),
        left_out=len(points) - len(kept),
    )


def spread(points: list[Point], always: Point | None) -> list[Point]:
    """At most `MOST_MAPS` of them in their order, the ends, and `always` if it is one of them."""
    if len(points) <= MOST_MAPS:
        return points
    kept = {round(k * (len(points) - 1) / (MOST_MAPS - 1)) for k in range(MOST_MAPS)}
    if always in points and (index := points.index(always)) not in kept:
        inner = kept - {0, len(points) - 1}
        kept = kept - {min(inner, key=lambda each: abs(each - index))} | {index}
    return [points[index] for index in sorted(kept)]


def draw_maps(info: MapsInfo) -> Figure:
    """Steps go right from noise to data, blocks upwards in execution order; a shorter map has fewer steps."""
    columns = min(4, len(info.maps))
    rows = math.ceil(len(info.maps) / columns)
    with drawing(WIDTH, 0.75 + rows * min(1.6, 0.55 + 0.09 * info.num_blocks)) as figure:
        made = panels(figure, len(info.maps), columns)
        for index, (axes, each) in enumerate(zip(made, info.maps, strict=True)):
            _draw_map(axes, each, info, room=int(12 * WIDTH / columns))
            axes.tick_params(labelbottom=index + columns >= len(info.maps))
        used = {look.letter for each in info.maps for look in each.map.looks}
        handles = [Patch(facecolor=look.color, label=look.name) for look in LOOKS.values() if look.letter in used]
        if any(step.network for each in info.maps for step in each.map.schedule.steps):
            handles.append(_SECOND)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=1.2)
        corner = made[(rows - 1) * columns]
        corner.set_xlabel("step, noise → data", fontsize=8)
        corner.set_ylabel("block", fontsize=8)
    return figure


def _draw_map(axes: Axes, each: FrontMap, info: MapsInfo, room: int) -> None:
    """`room` is how many letters stand side by side above the map; a name that needs more would squeeze the maps."""
    draw_matrix(axes, each.map)
    left = max(room - len(each.note), len("trial 9999"))
    axes.set_title(each.name if len(each.name) <= left else f"{each.name[: left - 1]}…", fontsize=8)
    axes.set_title(each.note, loc="right", fontsize=7, fontweight="normal")
    axes.set(xlabel="", ylabel="", xlim=(-0.5, info.num_steps - 0.5), ylim=(-0.5, info.num_blocks - 0.5))
    for which, count in (("x", info.num_steps), ("y", info.num_blocks)):
        ends = [0, count - 1]
        axes.set(**{f"{which}ticks": ends, f"{which}ticklabels": [str(end) for end in ends]})


@dataclass(frozen=True)
class DepthProfile:
    """One schedule's depth at each step, and the network that takes it."""

    name: str
    color: str
    depths: tuple[int, ...]
    networks: tuple[int, ...]


@dataclass(frozen=True)
class DepthInfo:
    """How deep the chosen schedules run at each step, the full schedule first."""

    profiles: tuple[DepthProfile, ...]
    num_blocks: int
    num_steps: int


def depth_info(view: StudyView) -> DepthInfo | None:
    """None while there is nothing beside the full schedule."""
    points = [highlight.point for highlight in highlights(view)]
    if len(points) < 2:
        return None
    profiles = tuple(
        DepthProfile(
            p.label,
            PALETTE[family_look(p.family).color],
            tuple(depths(p.schedule)),
            tuple(step.network for step in p.schedule.steps),
        )
        for p in points
    )
    num_blocks = max(network.num_blocks for point in points for network in point.schedule.networks)
    return DepthInfo(profiles, num_blocks, max(point.schedule.num_steps for point in points))


def draw_depth(info: DepthInfo) -> Figure:
    """Blocks that run at each step, from noise to data, one panel a schedule."""
    columns = 3
    with drawing(WIDTH, 0.45 + 1.35 * math.ceil(len(info.profiles) / columns)) as figure:
        for axes, profile in zip(panels(figure, len(info.profiles), columns), info.profiles, strict=True):
            bars = axes.bar(range(len(profile.depths)), profile.depths, width=0.82, color=profile.color)
            for bar, network in zip(bars, profile.networks, strict=True):
                bar.set(**(_OF_SECOND if network else {}))
            axes.set_title(profile.name, fontsize=8)
            axes.set(xlim=(-0.6, info.num_steps - 0.4), ylim=(0, info.num_blocks * 1.06))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.grid(visible=True, axis="y")
            axes.set_axisbelow(True)
        figure.supxlabel("step, from noise to data", fontsize=9)
        figure.supylabel("blocks that run", fontsize=9)
    return figure


FIGURES = (
    ReportFigure(
        name="schedules",
        title="What each block does at each step",
        info=maps_info,
        draw=draw_maps,
        section="schedules",
        note=lambda info: f"{info.left_out} more points of the front are not shown." if info.left_out else "",
        wide=True,
    ),
    ReportFigure(
        name="depth",
        title="Blocks that run at each step",
        info=depth_info,
        draw=draw_depth,
        section="schedules",
        note=lambda info: (
            "Blocks that run at each step; hatched ones are a second network's."
            if any(map(any, (each.networks for each in info.profiles)))
            else "Blocks that run at each step."
        ),
        wide=True,
    ),
)
