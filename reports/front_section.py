"""The page's front: the plot whose points explain themselves, beside the table of the same points."""

import re
from collections.abc import Callable
from functools import cache
from html import escape
from typing import Any

from matplotlib.figure import Figure

from .front_info import FrontInfo, front_info
from .front_plot import MARKS, draw_front
from .interval import per_second, spelled
from .numbers import plain
from .point_table import table_rows
from .style import inline_svg
from .view import Point, Seeds, StudyView

NOTES = {
    "final": "Every value here is from final seeds; bars are {level} intervals of quality and speed. "
    "The arrow is the best ratio: the speed over the fastest baseline of equal or better quality.",
    "search": "What the search saw: its own noises, and predicted speed. Values are never mixed with those of the "
    "front above. Bars are {level} intervals.",
}
MOST_ROWS = 400  # of a table; the CSV has every point


def front_section(view: StudyView, seeds: Seeds, figure: Figure) -> dict[str, Any]:
    """The plot at two widths, and the table of the same points: mark i of the plot is the row of that number."""
    info = front_info(view, seeds)
    assert info is not None, "a figure was drawn of it"
    points, front = view.measured(seeds), view.front(seeds)
    texts = cache(lambda index: escape(_tooltip(view, points[index], seeds)))
    title = f"Pareto front, {seeds} seeds"
    wide = inline_svg(figure, f"{seeds}-wide", title)
    narrow = inline_svg(draw_front(info, 3.8, 4.8), f"{seeds}-narrow", title) if seeds == "final" else None
    count = f"{plain(info.num_images)} images, {seeds} seeds"
    return {
        "wide": _explained(wide, info, texts),
        "narrow": narrow and _explained(narrow, info, texts),
        "rows": table_rows(view, points, seeds, f"{seeds}-row", MOST_ROWS),
        "note": NOTES[seeds].format(level=f"{view.level:.0%}"),
        "caption": f"{info.metric}, {count}; the front's {len(front)} of {len(points)} come first, others are grey."
        + (f" The first {MOST_ROWS} are shown; report.csv has all." if len(points) > MOST_ROWS else ""),
    }


def _tooltip(view: StudyView, point: Point, seeds: Seeds) -> str:
    quality, speed = point.quality(seeds), view.speed(point, seeds)
    assert quality is not None
    assert speed is not None, point.label
    excess, relative = quality.excess, view.relative_excess(point, seeds)
    ratio = view.speedup(point) if seeds == "final" else None
    lines = [
        point.label,
        f"{view.standard.excess_name}: {spelled(excess)}"
        + (f", {view.standard.brief(relative)}" if relative is not None else ""),
        f"{per_second(speed)} images/s" + (f", {ratio.value:.2f} × as fast" if ratio else ""),
        f"{point.num_steps} steps, mean depth {point.mean_depth:.1f} of {point.num_blocks}",
        f"weights {point.weights}",
    ]
    return "\n".join(lines)


def _explained(svg: str, info: FrontInfo, texts: Callable[[int], str]) -> str:
    """Gives each mark its description, which browsers show even without scripts, and the id of its row."""

    def explain_group(match: re.Match[str]) -> str:
        members = info.groups[int(match[2])]
        if len(members) > MOST_ROWS:
            return match[0]
        rest = iter(members)

        def explain(use: re.Match[str]) -> str:
            index = next(rest)
            return f'<use{use[1]} data-row="{info.seeds}-row-{index}"><title>{texts(index)}</title></use>'

        return match[1] + re.sub(r"<use([^>]*)/>", explain, match[3])

    return re.sub(rf'(<g id="[a-z-]*{MARKS}(\d+)">)(.*?</g>)', explain_group, svg, flags=re.DOTALL)
