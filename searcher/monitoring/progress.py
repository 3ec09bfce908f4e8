"""Progress for people, on standard error: a bar with images a second and time left, or plain lines in a log."""

import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ...backends.errors import printable

LINE_SECONDS = 15.0


class ProgressListener:
    """Receives the progress of a command; this one shows nothing. Calls cost too little to disturb a measurement."""

    def say(self, message: str) -> None:
        """One line that stays, such as "full: distance 41.2, 48 images/s"."""

    def phase(self, name: str, total: float) -> None:
        """A new part of the work begins; `total` is in the unit that `advance` counts."""

    def advance(self, done: float, images: int = 0) -> None:
        """The part has come to `done` of its total; `images` more were sampled."""

    def event(self, name: str, **values: Any) -> bool:
        """What programs want to know; whether it is told with this, and people need not be told in other words."""
        return False

    def relay(self, worker: int, event: Mapping[str, Any]) -> bool:
        """What one of several processes said, as `json_lines.JsonLines` has it; whether that is told with this."""
        return False


class Lines(ProgressListener):
    """Plain lines for logs: every message, and where a part stands every quarter of a minute."""

    def __init__(self) -> None:
        self._name, self._total, self._images, self._last = "", 1.0, 0, time.monotonic()

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def phase(self, name: str, total: float) -> None:
        self._name, self._total, self._images, self._last = name, total, 0, time.monotonic()
        self.say(f"{name} …")

    def advance(self, done: float, images: int = 0) -> None:
        self._images += images
        passed = time.monotonic() - self._last
        if passed >= LINE_SECONDS:
            self.say(f"{self._name}: {min(1.0, done / self._total):.0%}, {self._images / passed:.0f} images/s")
            self._images, self._last = 0, time.monotonic()


class _Speed(ProgressColumn):
    """Images a second over the last ten seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['speed']:.0f} images/s" if task.fields["speed"] else "", style="cyan")


class Bar(ProgressListener):
    """A bar for a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None, speed=0.0)
        self._recent: list[tuple[float, int]] = []

    def say(self, message: str) -> None:
        self._progress.console.print(printable(message), highlight=False, markup=False)

    def phase(self, name: str, total: float) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=max(total, 1e-9), speed=0.0)

    def advance(self, done: float, images: int = 0) -> None:
        now = time.monotonic()
        self._recent = [entry for entry in [*self._recent, (now, images)] if now - entry[0] <= 10.0]
        span = now - self._recent[0][0]
        speed = sum(count for _, count in self._recent[1:]) / span if span > 0 else 0.0
        self._progress.update(self._task, completed=done, speed=speed)


@contextmanager
def watching(quiet: bool = False) -> Generator[ProgressListener]:
    """A bar where standard error is a terminal, lines where it is not, nothing if `quiet`."""
    if quiet:
        yield ProgressListener()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), _Speed(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield Bar(progress)
