"""Which process this is, and whether another one is gone for certain.

A process identifier is used again, and means nothing on another machine or in another container. So a process is told
by the boot of its kernel, its process namespace, its identifier there, and its start time; and it is only called gone
where all of that can be looked up. Anything less is "perhaps", for which the lease is there.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

UNKNOWN = ""
ZOMBIE = "zombie"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of some machine. `boot`, `namespace` and `started` are empty where the system does not tell."""

    host: str
    pid: int
    boot: str
    namespace: str
    started: str

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that this process does not run any more, as seen from this process."""
        known = UNKNOWN not in (self.boot, self.namespace, self.started)
        if not known or (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        return not _exists(self.pid) or _start_time(self.pid) not in (self.started, UNKNOWN)


def this_process() -> ProcessIdentity:
    """The process that asks."""
    return ProcessIdentity(socket.gethostname(), os.getpid(), _boot(), _namespace(), _start_time(os.getpid()))


@cache
def _boot() -> str:
    """A name that the kernel draws at each start."""
    return _known(lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip())


@cache
def _namespace() -> str:
    """The namespace in which process identifiers are unique, since containers have their own."""
    return _known(lambda: os.readlink("/proc/self/ns/pid"))


def _known(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except OSError:
        return UNKNOWN


def _exists(pid: int) -> bool:
    """Asked of the kernel, since /proc may hide the processes of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks after the boot; `ZOMBIE` if it ended and only waits for its parent.

    The name in parentheses may hold spaces and parentheses itself, so fields are counted from the last one on.
    """
    fields = _known(Path(f"/proc/{pid}/stat").read_text).rpartition(")")[2].split()
    return UNKNOWN if not fields else ZOMBIE if fields[0] in "ZXx" else fields[19]
