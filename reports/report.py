"""The report's folder: one page, every plot as PNG and PDF, and the figures as CSV and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .files.export import write_whole
from .files.tables import report_to_json, to_csv
from .view.view import StudyView

if TYPE_CHECKING:
    from .plots.samples import GridInfo


def write_report(view: StudyView, folder: Path, grid: GridInfo | str) -> list[Path]:
    """Writes what can be shown of a study as it stands, and returns the files, the page first.

    `grid` is the sample images, or the sentence that says why there are none. Plots that have nothing to show yet are
    left out, and removed where an earlier report drew them.

    Raises:
        InputError: the folder can't be written.
    """
    # Matplotlib takes half a second, so it is imported where something is drawn.
    from .page.page import render
    from .plots.figures import figures, report_figures
    from .plots.style import pdf, png

    drawn = figures(view, grid)
    texts = {"index.html": render(view, grid, drawn), "report.json": report_to_json(view), "report.csv": to_csv(view)}
    plots = {f"{name}.{kind.__name__}": kind(each.drawing) for name, each in drawn.items() for kind in (png, pdf)}
    contents = {name: text.encode() for name, text in texts.items()} | plots
    for name, content in contents.items():
        write_whole(folder / name, content)
    for name in report_figures().keys() - drawn.keys():
        for suffix in (".png", ".pdf"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    return [folder / name for name in contents]
