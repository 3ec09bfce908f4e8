"""The report's folder: one page, every plot as PNG and PDF, and the figures as CSV and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_whole
from .meanwhile import meanwhile
from .tables import to_csv, to_json
from .view import StudyView

if TYPE_CHECKING:
    from .samples import GridInfo

PAGE = "index.html"


def write_report(view: StudyView, folder: Path, grid: GridInfo | str) -> list[Path]:
    """Writes what can be shown of a study as it stands, and returns the files, the page first.

    `grid` is the sample images, or the sentence that says why there are none. Plots that have nothing to show yet are
    left out, and removed where an earlier report drew them.

    Raises:
        InputError: the folder can't be written.
    """
    from .figures import NAMES, figures  # half a second for matplotlib, where something is drawn and not before
    from .page import render
    from .style import pdf, png

    drawn = figures(view, grid)
    plots = meanwhile(lambda: {f"{name}.{kind.__name__}": kind(drawn[name]) for name in drawn for kind in (png, pdf)})
    texts = {PAGE: render(view, grid, drawn), "report.json": to_json(view), "report.csv": to_csv(view)}
    contents = {name: text.encode() for name, text in texts.items()} | plots()
    for name, content in contents.items():
        write_whole(folder / name, content)
    for name in set(NAMES) - drawn.keys():
        for suffix in (".png", ".pdf"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    return [folder / name for name in contents]
