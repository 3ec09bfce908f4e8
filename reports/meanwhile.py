"""Work that a copy of this process does while this one goes on."""

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def meanwhile(work: Callable[[], T]) -> Callable[[], T]:
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

    def result() -> T:
        try:
            return receiver.recv()
        except (EOFError, OSError):
            return work()
        finally:
            receiver.close()
            process.join()

    return result


def _send(work: Callable[[], T], sender: Connection) -> None:
    with suppress(BaseException):  # whose message is the other process's to write; it sees that the pipe is closed
        sender.send(work())
