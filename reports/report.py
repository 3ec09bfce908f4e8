"""The results of a study for a command: the report's folder, and the table in the terminal.

The folder has one page, every plot as PNG and PDF, and the figures as CSV and JSON. The terminal shows the headline,
the front as a table, and what to type next.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from ..backends.errors import printable
from ..studies.database.urls import storage_flags
from .files.export import write_whole
from .files.tables import report_to_json, to_csv
from .page.headline import details, headline, with_interval
from .view.interval import spelled
from .view.standard import QualityKind
from .view.view import Point, StudyView

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


TABLE_WIDTH = 170
# The columns of quality, by how the study states it.
QUALITY: dict[QualityKind, tuple[str, ...]] = {
    "reference": ("excess distance", "loss"),
    "baseline": ("distance to full", "loss"),
    "score": ("score", "lost", "loss"),
}


def show_front(view: StudyView, as_json: bool) -> None:
    """Prints a study's result on standard output: as JSON what `exeunt report --json` prints, else as text."""
    if as_json:
        click.echo(report_to_json(view), nl=False)
        return
    click.echo()
    for sentence in (headline(view), *details(view)):
        click.echo(printable(sentence))
    print_table(front_table(view))
    click.echo(printable(next_commands(view)))


def print_table(table: Table) -> None:
    """Prints a table on standard output, as wide as it needs."""
    Console(file=sys.stdout, width=max(TABLE_WIDTH, Console().width), highlight=False, markup=False).print(table)


def front_table(view: StudyView) -> Table:
    """The final front with the baselines that it was measured beside, slowest first."""
    vetoed = ", ✗ vetoed" if view.vetoed else ""
    title = (
        f"Final seeds, {len(view.front('final'))} points on the front (●, with the probability that no other dominates "
        f"it; ≈ a tie{vetoed})"
    )
    table = Table("", "schedule", "weights", title=title, title_justify="left")
    for name in (
        "on front",
        *QUALITY[view.standard.kind],
        "in search",
        "speed-up",
        view.unit.short,
        "steps",
        "mean depth",
    ):
        table.add_column(name, justify="right")
    front = set(view.front("final"))
    for point in sorted(view.measured("final"), key=lambda each: view.speed(each, "final") or 0.0):
        mark = "●" if point in front else "✗" if view.objections(point, "final") else ""
        mark += "≈" if view.ties(point, "final") else ""
        table.add_row(mark, *_cells(view, point))
    return table


def baseline_table(view: StudyView) -> Table:
    """Every measured baseline on search seeds, family by family, fastest last."""
    excess, *_, loss = QUALITY[view.standard.kind]
    full = view.full and view.speed(view.full, "search")
    count = next((each.search.num_images for each in view.points if each.search), 0)
    title = f"Search seeds, {count} images a baseline (✗ vetoed)"
    table = Table("", "family", "baseline", "weights", title=title, title_justify="left")
    for name in (excess, loss, "speed-up", "steps", "mean depth"):
        table.add_column(name, justify="right")
    order = list(dict.fromkeys(each.family for each in view.points))
    found = [each for each in view.measured("search") if each.role == "baseline"]
    for point in sorted(found, key=lambda each: (order.index(each.family), view.speed(each, "search") or 0.0)):
        speed, lost = view.speed(point, "search"), view.loss(point, "search")
        table.add_row(
            "✗" if view.objections(point, "search") else "",
            point.family,
            point.label.removesuffix(f" · {point.weights}"),
            point.weights,
            spelled(point.search.excess) if point.search else "–",
            "–" if lost is None else f"{lost.value:.1%} [{lost.lower:.1%}, {lost.upper:.1%}]",
            f"{speed / full:.2f} ×" if speed and full else "–",
            str(point.stored.num_steps),
            f"{point.stored.mean_depth:.1f}",
        )
    return table


def _cells(view: StudyView, point: Point) -> list[str]:
    speedup, speed = view.speedup(point), view.speed(point, "final")
    quality, loss, standard = point.final, view.loss(point, "final"), view.standard
    chance, searched = view.probability(point, "final"), view.loss(point, "search")
    # The score, if the study has one, the excess, and the loss.
    score = [] if standard.kind != "score" else [spelled(standard.shown(quality.distance)) if quality else "–"]
    return [
        point.label,
        point.weights,
        "" if chance is None else f"{chance:.0%}",
        *score,
        spelled(quality.excess) if quality else "–",
        "–" if loss is None else f"{loss.value:.1%} [{loss.lower:.1%}, {loss.upper:.1%}]",
        "–" if searched is None else f"{searched.value:.1%}",
        with_interval(speedup, " ×") if speedup else "–",
        view.unit.number(speed) if speed else "–",
        str(point.stored.num_steps),
        f"{point.stored.mean_depth:.1f}",
    ]


def next_commands(view: StudyView) -> str:
    """What to type next: take a point, look closer, spend more."""
    where = [*storage_flags(view.storage), "--study", view.name]
    export = shlex.join(["exeunt", "export", *where, "-o", "fast.schedule.json"])
    resume = shlex.join(["exeunt", "resume", *where, "--budget", "30m"])
    return f"Take a point:  {export}\nSearch on:     {resume}"
