"""Workers as forks of a process that has imported what they need, so that many of them fit into one machine's memory.

A worker's imports take some seconds of a core and 300 MB, nearly all of it torch's. What is forked shares that memory,
and begins at once; from there on it is a process like any other, with its own connections and its own exit code.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

IMPORTED = ["torch", "optuna", "psycopg", "exeunt.searcher.cli.main", "exeunt.searcher.runner", "survive_network"]


class Forked:
    """A process that was forked, with the words of `subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        assert process.pid is not None, "it was started"
        self.pid = process.pid
        self._process = process

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Its exit code, once it has one."""
        self._process.join()
        return self._process.exitcode

    def kill(self) -> None:
        """Ends it as the kernel does when memory runs out."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def nursery() -> ForkServerContext:
    """The process that workers are forked from; it is started with the first of them, and ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def fork(command: list[str], folder: Path, variables: Mapping[str, str], log: Path) -> Forked:
    """Starts `[python, script, word, …]` as `subprocess.Popen` would, in a folder, with its errors in a file."""
    process = nursery().Process(target=_work, args=(command[1:], folder, dict(variables), log))
    process.start()
    return Forked(process)


def _work(command: list[str], folder: Path, variables: dict[str, str], log: Path) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for name, descriptors, how in ((os.devnull, (0, 1), os.O_RDWR), (str(log), (2,), os.O_WRONLY | os.O_APPEND)):
        opened = os.open(name, how)
        for each in descriptors:
            os.dup2(opened, each)
        os.close(opened)
    sys.argv = command
    # What was imported stays shared: looking through it for garbage would copy it.
    gc.freeze()
    from survive_timed import work

    work()
