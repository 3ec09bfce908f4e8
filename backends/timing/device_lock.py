"""A kernel file lock per device: shared while images are sampled, exclusive while something is timed.

A timing is worth something only if nothing else of ours runs on the device, and a lock that a killed process leaves
behind would stop a study for good. `flock` gives both: the kernel keeps it, and drops it when its holder dies, however.

Samplers come and go all the time, so a timer that only waited for a free moment could wait for ever. A second lock, the
gate, is therefore held by a timer from the moment it starts to wait: newcomers queue behind it.
"""

import fcntl
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import DeviceError

PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.02
# It depends on the user alone: a variable such as TMPDIR differs between the shells and batch jobs of one user, who
# would then hold two locks for one device.
FOLDER = Path("/tmp") / f"exeunt-{os.getuid()}"


class DeviceLock:
    """The lock of one device, among the processes of one user and the threads of each.

    Not re-entrant: a thread that holds it one way and asks for it the other way waits for itself until time is up.
    Samplers should give it back every few seconds, since a timer waits for all of them.

    Args:
        device_id: names the physical device, such as "cpu" or "cuda-<uuid>" (see `environment.device_id`).
        patience_seconds: how long to wait before giving up, at least 0.
        folder: where the lock files are, `FOLDER` by default.
    """

    def __init__(self, device_id: str, patience_seconds: float = PATIENCE_SECONDS, folder: Path | None = None) -> None:
        self.device_id = device_id
        self.patience_seconds = patience_seconds
        self.folder = folder or FOLDER
        stem = re.sub(r"[^A-Za-z0-9_-]", "-", device_id)
        self.path = self.folder / f"{stem}.lock"
        self._gate = self.folder / f"{stem}.gate"

    @contextmanager
    def shared(self) -> Generator[None]:
        """Hold the lock beside other samplers.

        Raises:
            DeviceError: a timer kept it for `patience_seconds`, or the lock file can't be opened.
        """
        deadline = time.monotonic() + self.patience_seconds
        with self._open(self.path) as file:
            with self._open(self._gate) as gate:
                self._acquire(gate, fcntl.LOCK_SH, deadline)
                self._acquire(file, fcntl.LOCK_SH, deadline)
            with _held(file):
                yield

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock alone.

        Raises:
            DeviceError: others kept it for `patience_seconds`, or the lock file can't be opened.
        """
        deadline = time.monotonic() + self.patience_seconds
        with self._open(self.path) as file, self._open(self._gate) as gate:
            self._acquire(gate, fcntl.LOCK_EX, deadline)
            self._acquire(file, fcntl.LOCK_EX, deadline)
            with _held(gate), _held(file):
                yield

    def _open(self, path: Path) -> BinaryIO:
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            return path.open("ab")
        except OSError as error:
            raise DeviceError(
                f"device {self.device_id}: its lock file can't be opened ({error}). Make {self.folder} writable."
            ) from error

    def _acquire(self, file: BinaryIO, mode: int, deadline: float) -> None:
        while not _try_flock(file, mode):
            if time.monotonic() >= deadline:
                raise DeviceError(self._refusal(file, mode))
            time.sleep(_POLL_SECONDS)

    def _refusal(self, file: BinaryIO, mode: int) -> str:
        use = "for timing" if mode == fcntl.LOCK_EX else "for sampling"
        return (
            f"device {self.device_id}: must be free {use}, but after {self.patience_seconds:g} s it is still used by "
            f"{', '.join(holders(file)) or 'another process'}. Wait for that process or stop it, then run the command "
            "again."
        )


def holders(file: BinaryIO) -> list[str]:
    """Who holds a `flock` on an open file, as "process 123 (command line)"; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    inode = str(os.fstat(file.fileno()).st_ino)
    # "1: FLOCK  ADVISORY  READ 7261 fe:00:2146519 0 EOF"; a waiting lock has "->" as its second field.
    fields = [line.split() for line in lines]
    pids = {int(f[4]) for f in fields if f[1] == "FLOCK" and f[5].rpartition(":")[2] == inode}
    return [_process(pid) for pid in sorted(pids)]


def _process(pid: int) -> str:
    if pid == os.getpid():
        return f"process {pid} (this one)"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({command[:80]})"


def _try_flock(file: BinaryIO, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _held(file: BinaryIO) -> Generator[None]:
    """Unlock at the end: closing alone is not enough, since a child forked meanwhile shares the open file."""
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
