"""The Pareto front beside its baselines: what the plot shows as a value, and the drawing of it."""

# Matplotlib's stubs leave keyword arguments without types.
# pyright: reportUnknownMemberType=false
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ...studies.config.families import FAMILIES
from ..view.interval import Interval, SpeedUnit, spelled_number
from ..view.standard import Standard
from ..view.view import Point, Seeds, StudyView, known
from . import style
from .figures import ReportFigure
from .style import Box, Label, place_labels


@dataclass(frozen=True)
class Mark:
    """One point: `speed` in images a second, `excess` in the metric's units, `name` short enough for a label."""

    name: str
    family: str
    speed: Interval
    excess: Interval
    on_front: bool
    other_weights: bool
    is_knee: bool
    is_vetoed: bool = False

    @property
    def is_faint(self) -> bool:
        """Whether it is vetoed, or a trial that something else dominates: drawn without bars or name."""
        return self.is_vetoed or (not self.family and not self.on_front)


@dataclass(frozen=True)
class Gap:
    """The best ratio as a distance on the plot: from the baseline's speed to the point's, at the point's excess."""

    baseline_speed: float
    point_speed: float
    excess: float
    text: str


@dataclass(frozen=True)
class FrontInfo:
    """What the front plot shows.

    Attributes:
        full_speed: the full schedule's images a second, where the speed-up is 1; None until it is measured.
        limit: the excess up to which people want a schedule; None where there is nothing to state it in.
        standard: what quality is compared with.
        unit: how speed is stated on the axis; to the right is faster in any.
    """

    seeds: Seeds
    metric: str
    num_images: int
    marks: tuple[Mark, ...]
    full_speed: float | None
    limit: float | None
    gap: Gap | None
    standard: Standard
    unit: SpeedUnit

    @property
    def groups(self) -> list[list[int]]:
        """Indices of the marks that look the same, group by group, in a fixed order."""
        found: dict[tuple[str, bool, bool, bool], list[int]] = {}
        for index, mark in enumerate(self.marks):
            look = "" if mark.is_vetoed else mark.family, mark.on_front, mark.other_weights, mark.is_vetoed
            found.setdefault(look, []).append(index)
        return list(found.values())

    @property
    def logarithmic(self) -> bool:
        """Whether the excess distances can stand on a logarithmic axis."""
        return all(mark.excess.value > 0 for mark in self.marks)


def front_info(view: StudyView, seeds: Seeds) -> FrontInfo | None:
    """The measured points on one set of seeds; None while there are none."""
    if not (points := view.measured(seeds)):
        return None
    full = view.full if view.full in points else None
    quality, full_quality = known(points[0].quality(seeds), points[0]), full and full.quality(seeds)
    return FrontInfo(
        seeds=seeds,
        metric=quality.metric,
        num_images=quality.num_images,
        marks=tuple(_mark(view, point, seeds) for point in points),
        full_speed=view.speed(full, seeds) if full else None,
        limit=view.standard.limit_excess(full_quality.excess.value) if full_quality else None,
        gap=_gap(view) if seeds == "final" else None,
        standard=view.standard,
        unit=view.unit,
    )


def _mark(view: StudyView, point: Point, seeds: Seeds) -> Mark:
    return Mark(
        name=f"#{point.trial}" if point.trial is not None else point.label.removesuffix(f" · {point.weights}"),
        family=point.family,
        speed=known(view.speed_interval(point, seeds), point),
        excess=known(point.quality(seeds), point).excess,
        on_front=point in view.front(seeds),
        other_weights=view.is_on_other_weights(point),
        is_knee=point is view.knee(seeds),
        is_vetoed=bool(view.objections(point, seeds)),
    )


def _gap(view: StudyView) -> Gap | None:
    if (best := view.best) is None or not view.has_gain:
        return None
    slower, faster = (known(view.speed(point, "final"), point) for point in (best.baseline, best.point))
    return Gap(slower, faster, known(best.point.final, best.point).excess.value, f"{best.ratio:.2f} ×")


def draw_names(axes: Axes, info: FrontInfo) -> None:
    """Writes as many names as find room, the most telling first."""
    entries = [(mark.speed.value, mark.excess.value, *_name(mark)) for mark in _by_importance(info)]
    if gap := info.gap:
        entries.insert(0, ((gap.baseline_speed * gap.point_speed) ** 0.5, gap.excess, gap.text, style.INK, "bold"))
    unit = axes.figure.dpi / 72
    texts = [
        axes.annotate(text, (x, y), color=color, fontsize=7.5, fontweight=weight)
        for x, y, text, color, weight in entries
    ]
    spots = [axes.transData.transform((x, y)) for x, y, *_ in entries]
    extents = [text.get_window_extent() for text in texts]
    labels = [Label(x, y, e.width + 2, e.height + 2) for (x, y), e in zip(spots, extents, strict=True)]
    bounds = Box(*axes.get_window_extent().extents)
    places = place_labels(labels, _obstacles(axes, info, 4.2 * unit), bounds, gap=6 * unit)
    for text, label, box in zip(texts, labels, places, strict=True):
        text.set_in_layout(False)
        if box is None:
            text.remove()
            continue
        text.set(ha="left", va="bottom", position=((box.left + 1 - label.x) / unit, (box.bottom + 1 - label.y) / unit))
        text.set_anncoords("offset points")


def _name(mark: Mark) -> tuple[str, str, str]:
    """Text, colour, weight. Baselines' colours are too light for small type, so their names are grey."""
    if mark.is_knee:
        return f"knee, {mark.name}", style.INK, "bold"
    return mark.name, style.MUTED if mark.family else style.ACCENT, "normal"


def _by_importance(info: FrontInfo) -> list[Mark]:
    """The knee, the full schedule, the front's ends, then the rest of the front and the baselines in turn."""
    named = [mark for mark in info.marks if not mark.is_faint]
    speeds = [mark.speed.value for mark in named if mark.on_front]
    ends = (min(speeds), max(speeds))

    def rank(mark: Mark) -> tuple[bool, bool, bool, bool, float]:
        at_end = mark.on_front and mark.speed.value in ends
        return not mark.is_knee, mark.family != "full", not at_end, not mark.on_front, -mark.speed.value

    return sorted(named, key=rank)


def _obstacles(axes: Axes, info: FrontInfo, half: float) -> list[Box]:
    """The markers, the error bars and all lines, thin as they are, in pixels. `half` is half a marker."""
    pixels, (left, right), (low, high) = axes.transData.transform, axes.get_xlim(), axes.get_ylim()
    boxes, corners = list[Box](), list[tuple[float, float]]()
    spots = pixels([(mark.speed.value, mark.excess.value) for mark in info.marks]).tolist()
    for mark, (x, y) in zip(info.marks, spots, strict=True):
        size = half * (2.0 if mark.is_knee else 0.6 if mark.is_faint else 1.0)
        boxes.append(Box(x - size, y - size, x + size, y + size))
        if not mark.is_faint:  # a bar that leaves the axes is cut there, since logarithms end at zero
            x0, y0 = pixels((max(mark.speed.lower, left), max(mark.excess.lower, low)))
            x1, y1 = pixels((min(mark.speed.upper, right), min(mark.excess.upper, high)))
            boxes += [Box(x - 1, y0, x + 1, y1), Box(x0, y - 1, x1, y + 1)]
        if mark.on_front:
            corners.append((x, y))
    for (x0, y0), (x1, y1) in pairwise(sorted(corners, key=lambda corner: corner[0])):
        boxes += [Box(x0 - 1, y0, x0 + 1, y1), Box(x0, y1 - 1, x1, y1 + 1)]
    if info.limit is not None:  # the dashed line with its text
        (x0, y), (x1, _) = pixels([(left, info.limit), (right, info.limit)])
        boxes += [Box(x0, y - 1, x1, y + 1), Box(x1 - 34 * half, y, x1, y + 3 * half)]
    if (gap := info.gap) is not None:  # the arrow of the best ratio
        (x0, y), (x1, _) = pixels([(gap.baseline_speed, gap.excess), (gap.point_speed, gap.excess)])
        boxes.append(Box(min(x0, x1), y - half / 2, max(x0, x1), y + half / 2))
    return boxes


LABEL_WIDTH = 56  # characters beside the lowest figure
MARKS = "marks-"  # what an SVG calls each group of marks, with the group's index


def draw_front(info: FrontInfo, width: float = 8.0, height: float = 5.0) -> Figure:
    """The front as steps, baselines by family, error bars of 95 % both ways. Down and to the right is better.

    `width` and `height` are in inches; a narrow figure leaves out the labels that find no room.
    """
    with style.drawing(width, height) as figure:
        axes = figure.add_subplot()
        _scale(axes, info)
        _draw_lines(axes, info)
        for index, members in enumerate(info.groups):
            _draw_marks(axes, [info.marks[member] for member in members], f"{MARKS}{index}")
        _draw_knee_and_gap(axes, info)
        _draw_legend(figure, info, columns=max(2, int(width / 1.75)))
    with style.paper_style():
        draw_names(axes, info)
    return figure


def _scale(axes: Axes, info: FrontInfo) -> None:
    speeds = [mark.speed.value for mark in info.marks]
    style.logarithmic(axes, "x", *style.padded(speeds))
    axes.set_xlabel(info.unit.axis + (", predicted" if info.seeds == "search" else ""))
    low, high = sorted(map(info.unit.of, axes.get_xlim()))
    axes.xaxis.set_major_locator(FixedLocator([info.unit.of(tick) for tick in style.round_ticks(low, high)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda speed, _: spelled_number(info.unit.of(speed))))
    heights = [mark.excess.value for mark in info.marks] + ([info.limit] if info.limit else [])
    if info.logarithmic:
        style.logarithmic(axes, "y", *style.padded(heights, 0.09))
    else:
        threshold = info.limit if info.limit and info.limit > 0 else max(map(abs, heights))
        style.half_logarithmic(axes, [end for mark in info.marks for end in mark.excess.ends], threshold)
    linear = "" if info.logarithmic else " (linear around zero)"
    name = fill(f"{info.metric}, {info.standard.excess_name}{linear}", LABEL_WIDTH, break_on_hyphens=False)
    axes.set_ylabel(f"{name}\n{info.seeds} seeds, {spelled_number(info.num_images)} images")
    style.faint_grid(axes)
    if info.full_speed is not None:
        _speedup_axis(axes, info.full_speed)


def _speedup_axis(axes: Axes, full_speed: float) -> None:
    low, high = axes.get_xlim()
    above = axes.secondary_xaxis(
        "top", functions=(partial(np.multiply, 1 / full_speed), partial(np.multiply, full_speed))
    )
    above.set_xlabel("speed-up over the full schedule", color=style.MUTED)
    above.xaxis.set_major_locator(FixedLocator(style.round_ticks(low / full_speed, high / full_speed)))
    above.xaxis.set_minor_locator(NullLocator())
    above.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{spelled_number(value)} ×"))
    above.tick_params(colors=style.MUTED, labelcolor=style.MUTED)


def _draw_lines(axes: Axes, info: FrontInfo) -> None:
    front = sorted((mark for mark in info.marks if mark.on_front), key=lambda mark: mark.speed.value)
    (left, right), top = axes.get_xlim(), axes.get_ylim()[1]
    speeds = [mark.speed.value for mark in front]
    heights = [mark.excess.value for mark in front]
    axes.step([*speeds, speeds[-1]], [*heights, top], where="pre", color=style.ACCENT, linewidth=1.1, zorder=2)
    dominated = [left, *speeds], [heights[0], *heights], top
    axes.fill_between(*dominated, step="pre", color=style.ACCENT, alpha=0.05, zorder=1)
    if info.limit is not None:
        axes.axhline(info.limit, color=style.MUTED, linewidth=0.9, linestyle=(0, (5, 3)), zorder=2)
        text = axes.annotate(info.standard.limit_words, (right, info.limit), (-2, 3), textcoords="offset points")
        text.set(ha="right", color=style.MUTED, fontsize=7.5)


def _draw_marks(axes: Axes, marks: Sequence[Mark], name: str) -> None:
    """Draws marks that look the same in one piece, called `name` in an SVG; its markers stand in their order."""
    first, family = marks[0], style.family_look(marks[0].family)
    faint = first.is_faint
    color = style.MUTED if faint else style.PALETTE[family.color]
    drawn = axes.errorbar(
        [mark.speed.value for mark in marks],
        [mark.excess.value for mark in marks],
        xerr=None if faint else _arms([mark.speed for mark in marks]),
        yerr=None if faint else _arms([mark.excess for mark in marks]),
        linestyle="",
        marker="x" if first.is_vetoed else family.marker,
        color=color,
        markersize=family.size * (0.6 if faint else 1.0),
        markerfacecolor=style.PAPER if first.other_weights else color,
        markeredgewidth=0.9,
        elinewidth=0.8,
        alpha=0.4 if faint else 1.0 if first.on_front else 0.85,
        zorder=3 if faint else 5 if first.on_front else 4,
    )
    drawn.lines[0].set_gid(name)


def _arms(intervals: Sequence[Interval]) -> list[list[float]]:
    return [[each.value - each.lower for each in intervals], [each.upper - each.value for each in intervals]]


def _draw_knee_and_gap(axes: Axes, info: FrontInfo) -> None:
    for mark in info.marks:
        if mark.is_knee:
            ring = axes.plot(mark.speed.value, mark.excess.value, "o", color=style.INK, markersize=13, zorder=6)[0]
            ring.set(markerfacecolor="none", markeredgewidth=0.9)
    if gap := info.gap:
        shape = "<|-|>,head_width=0.18,head_length=0.35"
        arrow = {"arrowstyle": shape, "color": style.INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 5}
        axes.annotate("", (gap.point_speed, gap.excess), (gap.baseline_speed, gap.excess), arrowprops=arrow, zorder=6)


def _draw_legend(figure: Figure, info: FrontInfo, columns: int) -> None:
    present = {mark.family for mark in info.marks}
    entries = [(style.TRIAL, "searched, on the front", style.ACCENT, 1.0)] if "" in present else []
    if any(mark.is_faint and not mark.is_vetoed for mark in info.marks):
        entries.append((style.TRIAL, "searched, dominated", style.MUTED, 0.4))
    families = [family for name, family in FAMILIES.items() if name in present]
    entries += [(family, family.label, style.PALETTE[family.color], 1.0) for family in families]
    handles = [
        Line2D([], [], color=color, marker=family.marker, linestyle="", markersize=family.size, alpha=alpha, label=name)
        for family, name, color, alpha in entries
    ]
    if any(mark.is_vetoed for mark in info.marks):
        handles.append(Line2D([], [], color=style.MUTED, marker="x", linestyle="", markersize=4.0, alpha=0.4))
        handles[-1].set_label("vetoed: broken images")
    if {mark.other_weights for mark in info.marks} == {True, False}:
        handles.append(Line2D([], [], color=style.MUTED, marker="o", linestyle="", markerfacecolor=style.PAPER))
        handles[-1].set_label("hollow: normal weights")
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.3, columnspacing=1.2)


FIGURES = (
    ReportFigure("front", "Pareto front, final seeds", partial(front_info, seeds="final"), draw_front),
    ReportFigure("search", "Pareto front, search seeds", partial(front_info, seeds="search"), draw_front),
)
