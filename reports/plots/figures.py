"""Every figure of a report, each drawn once for all its files.

A module of this package declares its figures as the rows of its `FIGURES`. A new figure is one more row, with the two
functions that it names: its files, its place on the page and the text under it follow from the row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Generic, Literal, TypeVar

from matplotlib.figure import Figure

from ..view.view import StudyView

_T = TypeVar("_T")


@dataclass(frozen=True)
class ReportFigure(Generic[_T]):
    """One figure of the report.

    Attributes:
        name: of its files, and what its ids on the page begin with.
        title: what it shows, for people who can't see it.
        info: what there is to show of a study, as a value; None while there is nothing.
        draw: the drawing of that value.
        section: where the page shows it; empty where the page has markup of its own for it.
        note: the text under it.
        wide: whether it takes the whole width of the page.
    """

    name: str
    title: str
    info: Callable[[StudyView], _T | None]
    draw: Callable[[_T], Figure]
    section: Literal["schedules", "search", ""] = ""
    note: Callable[[_T], str] = lambda _: ""
    wide: bool = False


@dataclass(frozen=True)
class Drawn:
    """A figure, the value that it shows, and the drawing."""

    figure: ReportFigure[Any]
    info: Any
    drawing: Figure


def report_figures() -> dict[str, ReportFigure[Any]]:
    """All that the modules beside this one declare, by name."""
    names = [each.name for each in iter_modules([str(Path(__file__).parent)])]
    rows = [getattr(import_module(f".{name}", __package__), "FIGURES", ()) for name in names]
    return {figure.name: figure for row in rows for figure in row}


def figures(view: StudyView, grid: Any) -> dict[str, Drawn]:
    """The figures that have something to show, by name. `grid`: see `page.render`."""
    rows = report_figures()
    infos = {name: row.info(view) for name, row in rows.items()}
    infos["samples"] = None if isinstance(grid, str) else grid  # sampled or kept, and no part of the view
    return {name: Drawn(rows[name], info, rows[name].draw(info)) for name, info in infos.items() if info is not None}
