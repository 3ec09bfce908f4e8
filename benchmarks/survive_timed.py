"""`exeunt worker`, which also measures what its database costs it, apart from Exeunt's own count.

Usage: python survive_timed.py worker …. It sums the seconds for which the main thread has a database connection taken
out of a pool: beginning, statements, commits, waits for locks, and what Python does meanwhile. Where Exeunt logs a
trial's cost, this adds an event `held` with the seconds since the last trial.
"""

import logging
import threading
import time
from typing import Any

from exeunt.searcher.cli.main import main
from sqlalchemy import event
from sqlalchemy.pool import Pool

LOG = logging.getLogger("exeunt.benchmark")


class Stopwatch(logging.Handler):
    """Runs while a connection of the main thread is out of its pool."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._seconds = self._reported = 0.0
        self._since: dict[int, float] = {}
        event.listen(Pool, "checkout", self._begin)
        event.listen(Pool, "checkin", self._end)

    def _begin(self, _connection: Any, record: Any, _proxy: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._since[id(record)] = time.perf_counter()

    def _end(self, _connection: Any, record: Any) -> None:
        started = self._since.pop(id(record), None)
        if started is not None:
            self._seconds += time.perf_counter() - started

    def emit(self, record: logging.LogRecord) -> None:
        """Adds what was held to what Exeunt says of a trial."""
        if record.getMessage() == "trial":
            held, self._reported = self._seconds - self._reported, self._seconds
            LOG.info("held", extra={"about": {"seconds": round(held, 4)}})


def work() -> None:
    """Does what the command line says, and measures."""
    logging.getLogger("exeunt.work").addHandler(Stopwatch())
    main()


if __name__ == "__main__":
    work()
