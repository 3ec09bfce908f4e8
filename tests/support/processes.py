"""Processes that tests start: none outlives its test, and their pipes are closed, whatever fails."""

import sys
import threading
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from exeunt.backends.timing import device_lock

_STARTED: list[Popen[str]] = []
_PROGRAM = """
import runpy, sys
from pathlib import Path
from exeunt.backends.timing import device_lock
device_lock.FOLDER = Path(sys.argv.pop(1))
runpy.run_module("exeunt", run_name="__main__", alter_sys=True)
"""


def start(*words: str | Path, **options: Any) -> Popen[str]:
    """A process whose output is read through pipes. `conftest.py` ends it after the test."""
    process = Popen(words, **{"stdout": PIPE, "stderr": PIPE, "text": True, **options})
    _STARTED.append(process)
    return process


def exeunt(*words: str, **options: Any) -> Popen[str]:
    """`python -m exeunt` as a process, which waits for the timings of this process's tests alone."""
    return start(sys.executable, "-c", _PROGRAM, device_lock.FOLDER, *words, **options)


def end_all() -> None:
    """Kills what still runs, closes the pipes and waits."""
    while _STARTED:
        with _STARTED.pop() as process:
            process.kill()


def read_until(process: Popen[str], wanted: str, seconds: float) -> str:
    """What a process says on standard error up to the line that has these words.

    Raises AssertionError, with all that it said, where the line has not come when the process ends or the time is up.
    """
    assert process.stderr is not None
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    said = ""
    try:
        for line in process.stderr:
            said += line
            if wanted in line:
                return said
    finally:
        watchdog.cancel()
        watchdog.join()
    out, rest = process.communicate()
    raise AssertionError(
        f"It never said {wanted!r} within {seconds:g} s, and ended with {process.returncode}.\n"
        f"Standard error:\n{said}{rest}\nStandard output:\n{out}"
    )
