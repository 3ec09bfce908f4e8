"""What a finished command shows: the headline, the front as a table, and what to type next."""

import math
import shlex
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ..reports.headline import details, headline, with_interval
from ..reports.interval import Interval
from ..reports.loading import load_view
from ..reports.report import write_report
from ..reports.samples import sample_grid
from ..reports.selection import highlights
from ..reports.tables import to_json
from ..reports.view import Point, StudyView
from .options import is_default
from .session import Session

TABLE_WIDTH = 140


def show(view: StudyView, as_json: bool) -> None:
    """Prints a study's result on standard output: as JSON what `exeunt report --json` prints, else as text."""
    if as_json:
        click.echo(to_json(view), nl=False)
        return
    click.echo()
    for sentence in (headline(view), *details(view)):
        click.echo(sentence)
    console = Console(file=sys.stdout, width=max(TABLE_WIDTH, Console().width), highlight=False)
    console.print(front_table(view))
    click.echo(next_commands(view))


def report(session: Session) -> list[Path]:
    """Writes the report of a session's study, with sample grids from the networks that are loaded already."""
    laboratory, folder = session.laboratory, session.laboratory.config.run.report
    if folder is None:
        return []
    view = load_view(session.store, session.name)
    grid = sample_grid(
        view,
        highlights(view),
        lambda weights: [laboratory.networks[weights]],
        laboratory.conditions,
        seed=laboratory.config.quality.final_seed,
    )
    return write_report(view, Path(folder), grid)


def front_table(view: StudyView) -> Table:
    """The final front with the baselines that it was measured beside, slowest first."""
    table = Table(title=f"Final seeds, {len(view.front('final'))} points on the front (●)", title_justify="left")
    for name in (
        "",
        "schedule",
        "weights",
        "excess distance",
        "× full's",
        "speed-up",
        "images/s",
        "steps",
        "mean depth",
    ):
        table.add_column(name, justify="left" if name in ("", "schedule", "weights") else "right")
    front = set(view.front("final"))
    for point in sorted(view.measured("final"), key=lambda each: view.speed(each, "final") or 0.0):
        table.add_row("●" if point in front else "", *_cells(view, point))
    return table


def _cells(view: StudyView, point: Point) -> list[str]:
    quality, speedup = point.final, view.speedup(point)
    relative, speed = view.relative_excess(point, "final"), view.speed(point, "final")
    return [
        point.label,
        point.weights,
        "–" if quality is None else _excess(quality.excess),
        f"{relative:.2f}" if relative is not None else "–",
        with_interval(speedup, " ×") if speedup else "–",
        f"{speed:.1f}" if speed else "–",
        str(point.schedule.num_steps),
        f"{point.mean_depth:.1f}",
    ]


def _excess(excess: Interval) -> str:
    """`123 [98, 151]` or `0.0012 [0.0009, 0.0016]`: three digits of the value, and as many places for its interval."""
    digits = max(0, 2 - math.floor(math.log10(abs(excess.value)))) if excess.value else 1
    return f"{excess.value:.{digits}f} [{excess.lower:.{digits}f}, {excess.upper:.{digits}f}]"


def next_commands(view: StudyView) -> str:
    """What to type next: take a point, look closer, spend more."""
    where = [] if is_default(view.storage) else ["--storage", view.storage]
    where += ["--study", view.name]
    return "\n".join(
        (
            f"Take a point:  {shlex.join(['exeunt', 'export', *where, '--knee', '-o', 'fast.schedule.json'])}",
            f"Search on:     {shlex.join(['exeunt', 'resume', *where, '--budget', '30m'])}",
        )
    )
