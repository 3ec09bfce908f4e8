"""One self-contained HTML page with everything a study found. It loads nothing and works without scripts.

Jinja escapes every text that comes from a file or the database; the page's policy allows no script but its own.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from exeunt import __version__
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ..backends.errors import printable
from . import plots
from .commands import export_command, resume_command
from .definitions import definitions
from .front_maps import maps_info
from .front_section import front_section
from .headline import details, headline, tiles
from .point_table import columns
from .samples import GridInfo, Row, strip
from .style import inline_svg, png_of_pixels
from .view import Point, StudyView

SECTIONS = {
    "front": "The front",
    "export": "Export",
    "schedules": "Schedules",
    "samples": "Samples",
    "search": "The search",
    "conditions": "Conditions",
    "definitions": "Definitions",
}
TITLES = {
    "schedules": "What happens to each block at each step",
    "depth": "Blocks that run at each step",
    "hypervolume": "Hypervolume over images",
    "timing": "Predicted and measured time",
}
LARGEST_THUMBNAIL = 160  # pixels; larger images are reduced for the page, and stay whole in the report's PNG


def render(view: StudyView, grid: GridInfo | str, drawn: Mapping[str, Figure]) -> str:
    """The page's text.

    `grid` is the sample images, or the sentence that says why there are none; `drawn` holds the figures that have
    something to show, as `figures.figures` draws them.
    """
    script = _asset("report.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    page = environment.from_string(_asset("report.html")).render(
        view=view,
        style=_asset("report.css"),
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        version=__version__,
        columns=columns(view),
        resume=resume_command(view),
        headline=headline(view),
        details=details(view),
        tiles=tiles(view),
        samples=None if isinstance(grid, str) else _samples(grid),
        no_samples=grid if isinstance(grid, str) else "",
        conditions=list(view.conditions.items()),
        configuration=json.dumps(view.configuration, indent=2, ensure_ascii=False),
        definitions=definitions(view),
        failures=view.failures,
        **_plots(view, drawn),
    )
    return printable(page)


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def _plots(view: StudyView, drawn: Mapping[str, Figure]) -> dict[str, Any]:
    shown = {
        "front": front_section(view, "final", drawn["front"]) if "front" in drawn else None,
        "search": front_section(view, "search", drawn["search"]) if "search" in drawn else None,
        "plots": {
            name: inline_svg(drawn[name], name, title) if name in drawn else None for name, title in TITLES.items()
        },
        "notes": _notes(view, drawn),
        "commands": [
            {"label": point.label, "note": _gains(view, point), "text": export_command(view, point)}
            for point in view.front("final")
        ],
    }
    there = {
        "front": shown["front"],
        "export": shown["commands"],
        "schedules": {"schedules", "depth"} & drawn.keys(),
        "search": {"search", "hypervolume", "timing"} & drawn.keys(),
    }
    sections = [{"id": name, "title": title} for name, title in SECTIONS.items() if there.get(name, True)]
    return {**shown, "sections": sections}


def _gains(view: StudyView, point: Point) -> str:
    speedup, excess = view.speedup(point), view.relative_excess(point, "final")
    parts = [f"{speedup.value:.2f} ×"] if speedup else []
    return ", ".join([*parts, view.standard.brief(excess)] if excess is not None else parts)


def _notes(view: StudyView, drawn: Mapping[str, Figure]) -> dict[str, str]:
    """What stands under the plots that are there."""
    notes = dict.fromkeys(TITLES, "")
    if maps := maps_info(view):
        notes["schedules"] = f"{maps.left_out} more points of the front are left out here." if maps.left_out else ""
    if progress := plots.progress_info(view):
        notes["hypervolume"] = f"Hypervolume of the search values, from the reference point {progress.reference}."
    if prediction := plots.prediction_info(view):
        error = f"the median error is {prediction.median_error:.1%}"
        notes["timing"] = f"What the search assumed against what was timed end to end; {error}."
    return notes


def _samples(grid: GridInfo) -> dict[str, Any]:
    last = grid.first_image + len(grid.rows[0].images) - 1
    rows = [
        {
            "title": row.title,
            "notes": row.notes,
            "alt": f"{len(row.images)} images sampled with {row.title}",
            "source": f"data:image/png;base64,{base64.b64encode(png_of_pixels(_thumbnails(row))).decode()}",
        }
        for row in grid.rows
    ]
    return {"rows": rows, "seed": grid.seed, "first": grid.first_image, "last": last}


def _thumbnails(row: Row) -> NDArray[np.uint8]:
    """The row's strip, reduced where single images are larger than a page shows them."""
    whole = Image.fromarray(strip(row.images))
    scale = min(1.0, LARGEST_THUMBNAIL / whole.height)
    size = round(whole.width * scale), round(whole.height * scale)
    return np.asarray(whole if scale == 1.0 else whole.resize(size, Image.Resampling.LANCZOS))
