"""Databases for `survive.py`: an SQLite file, or a PostgreSQL server of one's own; and small disks."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import postgres  # noqa: E402

BALLAST = "ballast"


class Skipped(Exception):
    """What a scenario needs is not here; the message says what."""


@dataclass(frozen=True)
class Database:
    """Where a study lives, and what reaches it.

    Attributes:
        url: with its password.
        folder: the working directory of its workers.
        server: the server that it is on; None for SQLite.
        disk: the mount point of the small disk that it is on; None on a usual one.
        variables: that its workers have beside those of this process.
    """

    url: str
    folder: Path
    server: postgres.Server | None = None
    disk: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process that works on it. The URL is not on a command line, where all could read it."""
        one = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return {**os.environ, **one, "EXEUNT_STORAGE": self.url, **self.variables}

    @property
    def file(self) -> Path:
        """SQLite's file."""
        return Path(self.url.removeprefix("sqlite:///"))


@contextmanager
def databases(storage: str, *, disk_bytes: int | None = None) -> Generator["Databases"]:
    """Makes databases on one storage: `sqlite`, or `postgres` on a server that is started for it.

    With `disk_bytes` all that is stored is on a file system of that size.

    Raises:
        Skipped: there is no such file system to be had.
    """
    with tempfile.TemporaryDirectory(prefix="exeunt-survive-") as name:
        folder = Path(name)
        with small_disk(folder / "disk", disk_bytes) as disk:
            if storage == "sqlite":
                yield Databases(folder, None, disk)
                return
            with server_in(disk) as server:
                # Our script's servers don't wait for the disk, which would flatter them here.
                server.execute("ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()")
                yield Databases(folder, server, disk)


@dataclass
class Databases:
    """Makes databases in a folder, one after the other."""

    folder: Path
    server: postgres.Server | None
    disk: Path | None
    made: int = 0

    @contextmanager
    def new(self) -> Generator[Database]:
        """An empty database, with a folder for its workers."""
        self.made += 1
        (folder := self.folder / f"workers-{self.made}").mkdir()
        if self.server is None:
            file = (self.disk or folder) / f"exeunt-{self.made}.db"
            yield Database(f"sqlite:///{file}", folder, None, self.disk)
            return
        artifacts = (self.disk or folder) / f"artifacts-{self.made}"
        with self.server.database() as url:
            yield Database(url, folder, self.server, self.disk, {"EXEUNT_ARTIFACTS": str(artifacts)})


@contextmanager
def small_disk(folder: Path, size: int | None) -> Generator[Path | None]:
    """A file system of so many bytes, mounted at the folder; None where none is wanted."""
    if size is None:
        yield None
        return
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        raise Skipped("a small disk is a tmpfs, which only root may mount: run as root, or in `unshare --map-root -m`")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def server_in(disk: Path | None) -> Iterator[postgres.Server]:
    """A PostgreSQL server, its data on the disk if one is given."""
    if disk is None:
        yield from postgres.own()
        return
    # The server's user must get to the folder, however private the one above it is.
    disk.parent.chmod(0o755)
    (folder := disk / "server").mkdir()
    started = subprocess.run([postgres.SCRIPT, "start", str(folder)], check=True, capture_output=True, text=True)
    try:
        yield postgres.Server(started.stdout.strip(), folder)
    finally:
        subprocess.run([postgres.SCRIPT, "remove", str(folder)], check=False, timeout=60, capture_output=True)


def fill(disk: Path) -> int:
    """Leaves no room on a disk; returns how many bytes that took."""
    added = 0
    with (disk / BALLAST).open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    added += file.write(bytes(size))
                except OSError:
                    break
    return added


def make_room(disk: Path) -> None:
    """Takes the ballast away again."""
    (disk / BALLAST).unlink()
