"""What a worker does, as one JSON object a line: for the process that started it, and for collectors of logs."""

import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ...studies.database.urls import redact
from .progress import ProgressListener

EVENTS = logging.getLogger("exeunt")


class JsonLines(ProgressListener):
    """Writes each event as a line `{"at": seconds since 1970, "event": …, …}`.

    Events are `say` (`text`), `phase` (`name`), `advance` (`share` of the budget that is gone, `images` more),
    `baseline` (`text`), and what the package logs: `reference` (`images` that are real and whose features are worked
    out, `text`), `working` (`study`, `worker`, `device`, `dtype`), `sampling` and `committed` (`evaluation`, `first`,
    `images`, and what they took, `seconds`), `timed` (`label`, `seconds`), `trial` (`label`, `state`, `seconds`,
    `storage_seconds`), `log` (`level`, `text`). One of several processes says `finished` once it has seen the study's
    end, and what it says has its number, `worker_number`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, event: str, **values: Any) -> None:
        """Writes one event, at this moment."""
        self.write({"at": round(time.time(), 3), "event": event, **values})

    def write(self, values: Mapping[str, Any]) -> None:
        """Writes one line."""
        line = redact(json.dumps(values, ensure_ascii=True))
        # The listener may be gone, its terminal closed or its disk full; what is measured is not lost with it.
        with self._lock, suppress(OSError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def say(self, message: str) -> None:
        self.emit("say", text=message)

    def phase(self, name: str, total: float) -> None:
        self.emit("phase", name=name)

    def advance(self, done: float, images: int = 0) -> None:
        self.emit("advance", share=round(done, 4), images=images)

    def event(self, name: str, **values: Any) -> bool:
        self.emit(name, **values)
        return True

    def relay(self, worker: int, event: Mapping[str, Any]) -> bool:
        """As it is, with the process's number and its own moment."""
        self.write({**event, "worker_number": worker})
        return True


@contextmanager
def listening(logger: logging.Logger, take: Callable[[logging.LogRecord], None]) -> Generator[None]:
    """Within this block `take` gets what a logger is told, from INFO on."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            take(record)

    handler, level = Handler(logging.INFO), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def log_json_lines(stream: TextIO) -> Generator[JsonLines]:
    """A watch that writes JSON lines, what the package logs among them."""
    lines = JsonLines(stream)

    def take(record: logging.LogRecord) -> None:
        about = getattr(record, "about", None)
        if about is not None:
            lines.emit(record.getMessage(), **about)
        else:
            lines.emit("log", level=record.levelname.lower(), text=record.getMessage())

    spreads, EVENTS.propagate = EVENTS.propagate, False
    try:
        with listening(EVENTS, take):
            yield lines
    finally:
        EVENTS.propagate = spreads
