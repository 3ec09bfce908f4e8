"""Ctrl-C, SIGTERM and a closed terminal, turned into one exception at a place where nothing is half done."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

from ..backends.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SLICE = 0.2  # seconds after which a wait looks whether a signal came
NOTICE = b"\nStopping after this step; what was measured is kept. Press Ctrl-C again to stop at once.\n"


class Interruption:
    """Remembers that a signal came; `check` raises it.

    The sampling loop checks between batches, so a command ends soon after the first signal, with every committed chunk
    kept. A second Ctrl-C ends the process at once, with the same exit code; a second SIGTERM changes nothing, because
    schedulers send it to each process of a group and again through its parent. `hint` ends the error: what is kept, and
    which command goes on.
    """

    def __init__(self) -> None:
        self.hint = "what was committed is kept. Go on with `exeunt resume`."
        self.received: signal.Signals | None = None

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self.received is not None:
            raise Interrupted(f"Stopped by {self.received.name}; {self.hint}")

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. It writes without Python's buffers, which the signal may have come in the middle of."""
        if self.received is not None and number == signal.SIGINT:
            os._exit(Interrupted.exit_code)
        if self.received is None:
            self.received = signal.Signals(number)
            _leave_closed_terminal()
            with suppress(OSError):
                os.write(2, NOTICE)


def _leave_closed_terminal() -> None:
    """Lets output go nowhere once the terminal that it went to is closed, where every write fails."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


_current: Interruption | None = None


def wait(seconds: float) -> None:
    """Sleeps, unless a signal comes within `interruptible`.

    Raises:
        Interrupted: one came.
    """
    end = time.monotonic() + seconds
    while True:
        if _current is not None:
            _current.check()
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, SLICE))


@contextmanager
def interruptible() -> Generator[Interruption]:
    """Within this block `SIGNALS` are remembered instead of acted on. Main thread only.

    SIGHUP that is ignored already, as under `nohup`, stays so.
    """
    global _current
    assert threading.current_thread() is threading.main_thread()
    interruption = Interruption()
    outer, _current = _current, interruption
    heard = [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, interruption.receive) for number in heard}
    try:
        yield interruption
    finally:
        _current = outer
        for number, handler in before.items():
            signal.signal(number, handler)
