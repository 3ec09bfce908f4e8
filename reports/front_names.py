"""The names in the front plot: as many as find room beside their points, the most telling first."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from .front_info import FrontInfo, Mark
from .labels import Box, Label, place
from .style import ACCENT, INK, MUTED


def draw_names(axes: Axes, info: FrontInfo) -> None:
    """Writes as many names as find room, the most telling first."""
    entries = [
        *_gap_entry(info),
        *((mark.speed.value, mark.excess.value, *_name(mark)) for mark in _by_importance(info)),
    ]
    unit = axes.figure.dpi / 72
    spots = [axes.transData.transform((x, y)) for x, y, *_ in entries]
    texts = [
        axes.annotate(text, (x, y), color=color, fontsize=7.5, fontweight=weight)
        for x, y, text, color, weight in entries
    ]
    extents = [text.get_window_extent() for text in texts]
    labels = [Label(x, y, e.width + 2, e.height + 2) for (x, y), e in zip(spots, extents, strict=True)]
    frame = axes.get_window_extent()
    bounds = Box(frame.x0, frame.y0, frame.x1, frame.y1)
    places = place(labels, _obstacles(axes, info, 4.2 * unit), bounds, gap=6 * unit)
    for text, label, box in zip(texts, labels, places, strict=True):
        text.set_in_layout(False)
        if box is None:
            text.remove()
            continue
        text.set(ha="left", va="bottom", position=((box.left + 1 - label.x) / unit, (box.bottom + 1 - label.y) / unit))
        text.set_anncoords("offset points")


def _gap_entry(info: FrontInfo) -> list[tuple[float, float, str, str, str]]:
    if (gap := info.gap) is None:
        return []
    middle = (gap.baseline_speed * gap.point_speed) ** 0.5
    return [(middle, gap.excess, gap.text, INK, "bold")]


def _name(mark: Mark) -> tuple[str, str, str]:
    """Text, colour, weight. Baselines' colours are too light for small type, so their names are grey."""
    if mark.is_knee:
        return f"knee, {mark.name}", INK, "bold"
    return mark.name, MUTED if mark.family else ACCENT, "normal"


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
    """The markers, the error bars and the front's line, thin as they are, in pixels."""
    boxes: list[Box] = []
    spots = axes.transData.transform([(mark.speed.value, mark.excess.value) for mark in info.marks]).tolist()
    for mark, (x, y) in zip(info.marks, spots, strict=True):
        size = half * (0.6 if mark.is_faint else 1.0)
        size *= 2 if mark.is_knee else 1
        boxes.append(Box(x - size, y - size, x + size, y + size))
        if not mark.is_faint:
            boxes += _bars(axes, mark)
    return boxes + _step_boxes(axes, [mark for mark in info.marks if mark.on_front]) + _level_boxes(axes, info, half)


def _level_boxes(axes: Axes, info: FrontInfo, half: float) -> list[Box]:
    """The dashed line and the arrow of the best ratio."""
    (left, right), boxes = axes.get_xlim(), list[Box]()
    if info.limit is not None:
        (x0, y), (x1, _) = axes.transData.transform([(left, info.limit), (right, info.limit)])
        boxes += [Box(x0, y - 1, x1, y + 1), Box(x1 - 34 * half, y, x1, y + 3 * half)]
    if (gap := info.gap) is not None:
        (x0, y), (x1, _) = axes.transData.transform([(gap.baseline_speed, gap.excess), (gap.point_speed, gap.excess)])
        boxes.append(Box(min(x0, x1), y - half / 2, max(x0, x1), y + half / 2))
    return boxes


def _bars(axes: Axes, mark: Mark) -> list[Box]:
    """Both error bars; a bar that leaves the axes is cut there, since logarithms end at zero."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    speed, excess = mark.speed, mark.excess
    x0, y0 = axes.transData.transform((max(speed.lower, left), max(excess.lower, low)))
    x1, y1 = axes.transData.transform((min(speed.upper, right), min(excess.upper, high)))
    x, y = axes.transData.transform((speed.value, excess.value))
    return [Box(x - 1, y0, x + 1, y1), Box(x0, y - 1, x1, y + 1)]


def _step_boxes(axes: Axes, front: Sequence[Mark]) -> list[Box]:
    ordered = sorted(front, key=lambda mark: mark.speed.value)
    corners = [axes.transData.transform((mark.speed.value, mark.excess.value)) for mark in ordered]
    boxes: list[Box] = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        boxes += [Box(x0 - 1, y0, x0 + 1, y1), Box(x0, y1 - 1, x1, y1 + 1)]
    return boxes
