"""Showing what a watcher sees every few seconds, until Ctrl-C: in place on a terminal, else line after line."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from . import watching_shown as shown
from .watching import Sight, Watcher

Show = Callable[[Sight], None]


def watch(watcher: Watcher, interval: float, *, as_json: bool) -> None:
    """Looks every `interval` seconds; returns at Ctrl-C or SIGTERM. Raises what `Watcher.look` raises."""
    with until_signal(), _display(interval, as_json) as show:
        while True:
            began = time.monotonic()
            show(watcher.look())
            time.sleep(max(0.0, began + interval - time.monotonic()))


@contextmanager
def until_signal() -> Generator[None]:
    """A block that never ends by itself: SIGINT or SIGTERM ends it, which is no error."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(interval: float, as_json: bool) -> Generator[Show]:
    if as_json:
        yield lambda sight: click.echo("".join(f"{line}\n" for line in shown.json_lines(sight)), nl=False)
    elif not sys.stdout.isatty():
        yield lambda sight: click.echo(f"{shown.as_text(sight)}\n")
    else:
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda sight: live.update(_frame(sight, interval), refresh=True)


def _frame(sight: Sight, interval: float) -> RenderableType:
    """Everything at once, as a terminal has it."""
    return Group(*_parts(sight), Text(f"every {interval:g} s; Ctrl-C ends it", style="dim"))


def _parts(sight: Sight) -> Iterator[RenderableType]:
    if not sight.glances and sight.outage is None:
        yield Text(shown.NO_STUDY)
    for glance in sight.glances:
        table = Table.grid(padding=(0, 2))
        for name, text in shown.rows(glance):
            table.add_row(Text(f"  {name}", style="cyan"), Text(text, style="red" if name == "error" else ""))
        yield Text(shown.heading(glance), style="bold")
        yield table
    if sight.outage is not None:
        yield Text(shown.outage(sight), style="yellow")
