"""The front's schedules side by side: one small step × block map each, all at one scale."""

import math
from dataclasses import dataclass
from itertools import zip_longest

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .schedule_map import LOOKS, ScheduleMap, schedule_map
from .schedule_plot import draw_matrix
from .style import new_figure, paper_style, settle
from .view import Point, Seeds, StudyView

MOST_MAPS = 12


@dataclass(frozen=True)
class FrontMap:
    """One schedule with its name and what it gains."""

    name: str
    note: str
    map: ScheduleMap


@dataclass(frozen=True)
class MapsInfo:
    """The maps, slowest first. `left_out` is how many points of the front found no room."""

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
    maps = tuple(FrontMap(point.label, _note(view, point, seeds), schedule_map(point.schedule)) for point in kept)
    return MapsInfo(
        maps,
        num_steps=max(len(each.map.steps) for each in maps),
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


def _note(view: StudyView, point: Point, seeds: Seeds) -> str:
    speedup, excess = view.speedup(point), view.relative_excess(point, seeds)
    parts = [f"{speedup.value:.2f} ×"] if speedup and seeds == "final" else []
    parts += [view.standard.brief(excess)] if excess is not None else []
    return ", ".join(["knee", *parts] if point is view.knee(seeds) else parts)


def draw_maps(info: MapsInfo, width: float = 8.0, columns: int = 4) -> Figure:
    """Steps go right from noise to data, blocks upwards in execution order; a shorter map has fewer steps."""
    columns = min(columns, len(info.maps))
    rows = math.ceil(len(info.maps) / columns)
    with paper_style():
        figure = new_figure(width, 0.75 + rows * min(1.6, 0.55 + 0.09 * info.num_blocks))
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for index, (axes, each) in enumerate(zip_longest(panels.flat, info.maps)):
            if each is None:
                axes.remove()
                continue
            _draw_map(axes, each, info)
            axes.tick_params(labelbottom=index + columns >= len(info.maps))
        used = {look.letter for each in info.maps for look in each.map.looks}
        handles = [Patch(facecolor=look.color, label=look.name) for look in LOOKS.values() if look.letter in used]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=1.2)
        panels[-1, 0].set_xlabel("step, noise → data", fontsize=8)
        panels[-1, 0].set_ylabel("block", fontsize=8)
        return settle(figure)


def _draw_map(axes: Axes, each: FrontMap, info: MapsInfo) -> None:
    draw_matrix(axes, each.map)
    axes.set_title(each.name, fontsize=8)
    axes.set_title(each.note, loc="right", fontsize=7, fontweight="normal")
    axes.set(xlabel="", ylabel="", xlim=(-0.5, info.num_steps - 0.5), ylim=(-0.5, info.num_blocks - 0.5))
    for which, count in (("x", info.num_steps), ("y", info.num_blocks)):
        ends = [0, count - 1]
        axes.set(**{f"{which}ticks": ends, f"{which}ticklabels": [str(end) for end in ends]})
