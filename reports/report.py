"""The report's folder: one page, every plot as PNG and PDF, and the figures as CSV and JSON.

Work that a copy of this process does while this one goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .files.tables import report_to_json, to_csv
from .files.whole import write_whole
from .view.view import StudyView

if TYPE_CHECKING:
    from .plots.samples import GridInfo


_T = TypeVar("_T")


def meanwhile(work: Callable[[], _T]) -> Callable[[], _T]:
    """Begins some work, and returns what waits for its result.

    A copy of this process does it, to which nothing has to be sent and which sends its result back. Where there can be
    none, or where it fails, the work is done by this process when its result is asked for, and may raise then. No copy
    is made where a second core is missing, where another thread might hold a lock that nobody would ever free in it,
    or on systems whose own libraries can't be copied.
    """
    if sys.platform != "linux" or threading.active_count() > 1 or len(os.sched_getaffinity(0)) < 2:
        return work
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(work, sender), daemon=True)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of threads that are numpy's
        process.start()
    sender.close()

    def result() -> _T:
        try:
            return receiver.recv()
        except (EOFError, OSError):
            return work()
        finally:
            receiver.close()
            process.join()

    return result


def _send(work: Callable[[], _T], sender: Connection) -> None:
    with suppress(BaseException):  # whose message is the other process's to write; it sees that the pipe is closed
        sender.send(work())


PAGE = "index.html"


def write_report(view: StudyView, folder: Path, grid: GridInfo | str) -> list[Path]:
    """Writes what can be shown of a study as it stands, and returns the files, the page first.

    `grid` is the sample images, or the sentence that says why there are none. Plots that have nothing to show yet are
    left out, and removed where an earlier report drew them.

    Raises:
        InputError: the folder can't be written.
    """
    from .page.page import render
    from .plots.figures import (  # half a second for matplotlib, where something is drawn and not before
        figures,
        report_figures,
    )
    from .plots.style import pdf, png

    drawn = figures(view, grid)
    plots = meanwhile(
        lambda: {f"{name}.{kind.__name__}": kind(each.drawing) for name, each in drawn.items() for kind in (png, pdf)}
    )
    texts = {PAGE: render(view, grid, drawn), "report.json": report_to_json(view), "report.csv": to_csv(view)}
    contents = {name: text.encode() for name, text in texts.items()} | plots()
    for name, content in contents.items():
        write_whole(folder / name, content)
    for name in report_figures().keys() - drawn.keys():
        for suffix in (".png", ".pdf"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    return [folder / name for name in contents]
