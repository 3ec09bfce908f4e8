"""What a finished command shows: the headline, the front as a table, and what to type next."""

import shlex
import sys

import click
from rich.console import Console
from rich.table import Table

from ..backends.errors import printable
from ..studies.database.urls import is_default
from .files.tables import report_to_json
from .page.headline import details, headline, with_interval
from .view.interval import per_second, spelled
from .view.standard import QualityKind
from .view.view import Point, StudyView

TABLE_WIDTH = 140
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
    console = Console(file=sys.stdout, width=max(TABLE_WIDTH, Console().width), highlight=False, markup=False)
    console.print(front_table(view))
    click.echo(printable(next_commands(view)))


def front_table(view: StudyView) -> Table:
    """The final front with the baselines that it was measured beside, slowest first."""
    vetoed = ", ✗ vetoed" if view.vetoed else ""
    title = f"Final seeds, {len(view.front('final'))} points on the front (●{vetoed})"
    table = Table("", "schedule", "weights", title=title, title_justify="left")
    for name in (*QUALITY[view.standard.kind], "speed-up", "images/s", "steps", "mean depth"):
        table.add_column(name, justify="right")
    front = set(view.front("final"))
    for point in sorted(view.measured("final"), key=lambda each: view.speed(each, "final") or 0.0):
        mark = "●" if point in front else "✗" if view.objections(point, "final") else ""
        table.add_row(mark, *_cells(view, point))
    return table


def _cells(view: StudyView, point: Point) -> list[str]:
    speedup, speed = view.speedup(point), view.speed(point, "final")
    quality, loss, standard = point.final, view.loss(point, "final"), view.standard
    # The score, if the study has one, the excess, and the loss.
    score = [] if standard.kind != "score" else [spelled(standard.shown(quality.distance)) if quality else "–"]
    return [
        point.label,
        point.weights,
        *score,
        spelled(quality.excess) if quality else "–",
        "–" if loss is None else f"{loss.value:.1%} [{loss.lower:.1%}, {loss.upper:.1%}]",
        with_interval(speedup, " ×") if speedup else "–",
        per_second(speed) if speed else "–",
        str(point.stored.num_steps),
        f"{point.stored.mean_depth:.1f}",
    ]


def next_commands(view: StudyView) -> str:
    """What to type next: take a point, look closer, spend more."""
    where = [] if is_default(view.storage) else ["--storage", view.storage]
    where += ["--study", view.name]
    export = shlex.join(["exeunt", "export", *where, "-o", "fast.schedule.json"])
    resume = shlex.join(["exeunt", "resume", *where, "--budget", "30m"])
    return f"Take a point:  {export}\nSearch on:     {resume}"
