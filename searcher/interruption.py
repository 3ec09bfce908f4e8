"""Ctrl-C and SIGTERM, turned into one exception at a place where nothing is half done."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from ..backends.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Remembers that a signal came; `check` raises it.

    The sampling loop checks at every step, so a command ends within a fraction of a second of the first signal, with
    every committed chunk kept. A second signal ends it at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.received is not None:
            raise Interrupted(f"Stopped by {self.received.name}; everything that was committed is kept.")

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: remembers the first signal and lets the next one act as usual."""
        self.received = signal.Signals(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def interruptible() -> Generator[Interruption]:
    """Within this block SIGINT and SIGTERM are remembered instead of acted on. Main thread only."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption.receive) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
