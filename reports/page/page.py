"""One self-contained HTML page with everything a study found. It loads nothing and works without scripts.

Jinja escapes every text that comes from a file or the database; the page's policy allows no script but its own.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
from exeunt import __version__
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ...backends.errors import printable
from ..files.export import export_command, resume_command
from ..plots.figures import Drawn
from ..plots.front import MARKS, FrontInfo, draw_front
from ..plots.samples import GridInfo, ImageRow, strip
from ..plots.style import inline_svg, png_of_pixels
from ..view.interval import spelled, spelled_number
from ..view.standard import definitions
from ..view.view import Point, Seeds, StudyView, known
from .headline import details, headline, tiles
from .point_table import columns, table_rows

NOTES = {
    "final": "All values are from final seeds. Bars are {level} intervals of quality and speed. "
    "The arrow is the best ratio: the speed over the fastest baseline of equal or better quality.",
    "search": "Quality on search seeds, and predicted speed, as the search used them. They are never mixed with the "
    "final values above. Bars are {level} intervals.",
}
MOST_ROWS = 400  # of a table; the CSV has every point


def front_section(view: StudyView, drawn: Drawn) -> dict[str, Any]:
    """The plot at two widths, and the table of the same points: mark i of the plot is the row of that number."""
    info, title = cast(FrontInfo, drawn.info), drawn.figure.title
    seeds = info.seeds
    points, front = view.measured(seeds), view.front(seeds)
    texts = cache(lambda index: escape(_tooltip(view, points[index], seeds)))
    wide = inline_svg(drawn.drawing, f"{seeds}-wide", title)
    narrow = inline_svg(draw_front(info, 3.8, 4.8), f"{seeds}-narrow", title) if seeds == "final" else None
    count = f"{spelled_number(info.num_images)} images, {seeds} seeds"
    return {
        "wide": _explained(wide, info, texts),
        "narrow": narrow and _explained(narrow, info, texts),
        "columns": columns(view, seeds),
        "rows": table_rows(view, points, seeds, f"{seeds}-row", MOST_ROWS),
        "note": NOTES[seeds].format(level=f"{view.level:.0%}"),
        "caption": f"{info.metric}, {count}. The front's {len(front)} of {len(points)} come first, others are grey."
        + (f" The first {MOST_ROWS} are shown; report.csv has all." if len(points) > MOST_ROWS else ""),
    }


def _tooltip(view: StudyView, point: Point, seeds: Seeds) -> str:
    quality, speed = known(point.quality(seeds), point), known(view.speed(point, seeds), point)
    costs, loss = point.stored, view.loss(point, seeds)
    ratio = view.speedup(point) if seeds == "final" else None
    lines = [
        point.label,
        f"{view.standard.excess_name}: {spelled(quality.excess)}"
        + (f", {view.standard.brief(loss.value)}" if loss is not None else ""),
        view.unit.text(speed) + (f", {ratio.value:.2f} × as fast" if ratio else ""),
        f"{costs.num_steps} steps, mean depth {costs.mean_depth:.1f} of {costs.num_blocks}",
        f"weights {point.weights}",
        *(
            []
            if (chance := view.probability(point, seeds)) is None
            else [f"on the front with probability {chance:.0%}"]
        ),
        *(f"tied with {each.label}" for each in view.ties(point, seeds)),
        *(f"vetoed: {objection}" for objection in view.objections(point, seeds)),
    ]
    return "\n".join(lines)


def _explained(svg: str, info: FrontInfo, texts: Callable[[int], str]) -> str:
    """Gives each mark its description, which browsers show even without scripts, and the id of its row."""
    groups = info.groups

    def explain(group: re.Match[str]) -> str:
        members = groups[int(group[2])]
        if len(members) > MOST_ROWS:
            return group[0]
        start, *uses = group[3].split("<use")
        ends = (f' data-row="{info.seeds}-row-{index}"><title>{texts(index)}</title></use>' for index in members)
        marks = (use.replace("/>", end, 1) for use, end in zip(uses, ends, strict=True))
        return group[1] + "<use".join([start, *marks])

    return re.sub(rf'(<g id="[a-z-]*{MARKS}(\d+)">)(.*?</g>)', explain, svg, flags=re.DOTALL)


_SECTIONS = {
    "front": "The front",
    "export": "Export",
    "schedules": "Schedules",
    "samples": "Samples",
    "search": "The search",
    "conditions": "Conditions",
    "definitions": "Definitions",
}
LARGEST_THUMBNAIL = 160  # pixels; larger images are reduced for the page, and stay whole in the report's PNG


def render(view: StudyView, grid: GridInfo | str, drawn: Mapping[str, Drawn]) -> str:
    """The page's text.

    `grid` is the sample images, or the sentence that says why there are none; `drawn` holds the figures that have
    something to show, as `figures.figures` draws them.
    """
    script = _asset("report.js")
    shown = {"samples", "conditions", "definitions", *drawn, *(each.figure.section for each in drawn.values())}
    shown |= {"export"} if view.front("final") else set()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    page = environment.from_string(_asset("report.html")).render(
        view=view,
        grid=grid,
        drawn=drawn,
        style=_asset("report.css"),
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        version=__version__,
        sections={name: title for name, title in _SECTIONS.items() if name in shown},
        resume=resume_command(view),
        export_command=export_command,
        headline=headline(view),
        details=details(view),
        tiles=tiles(view),
        front=front_section(view, drawn["front"]) if "front" in drawn else None,
        search=front_section(view, drawn["search"]) if "search" in drawn else None,
        inline_svg=inline_svg,
        thumbnails=_thumbnails,
        configuration=json.dumps(view.configuration, indent=2, ensure_ascii=False),
        definitions=definitions(view.standard, view.reference_point, view.unit),
    )
    return printable(page)


def _asset(name: str) -> str:
    return (Path(__file__).parents[1] / "assets" / name).read_text(encoding="utf-8")


def _thumbnails(row: ImageRow) -> str:
    """The URL of the row's strip, reduced where single images are larger than a page shows them."""
    whole = Image.fromarray(strip(row.images))
    scale = min(1.0, LARGEST_THUMBNAIL / whole.height)
    size = round(whole.width * scale), round(whole.height * scale)
    pixels = np.asarray(whole if scale == 1.0 else whole.resize(size, Image.Resampling.LANCZOS))
    return f"data:image/png;base64,{base64.b64encode(png_of_pixels(pixels)).decode()}"
