"""Which file system a path is on. SQLite's locks and its shared memory only work where one kernel sees the file."""

from __future__ import annotations

import re
from pathlib import Path

from ..backends.errors import InputError

MOUNTS = Path("/proc/self/mounts")

# By the names that Linux gives them. 9p and virtiofs are left out: they are also the local disks of virtual machines,
# and where they cannot share memory, SQLite says so when WAL is asked for.
NETWORK = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "mfs", "ncpfs", "nfs", "nfs4",
        "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip
NETWORK_FUSE = frozenset(
    {
        "beegfs", "ceph", "ceph-fuse", "davfs", "gcsfuse", "glusterfs", "goofys", "juicefs", "mfs", "moosefs", "rclone",
        "s3fs", "seaweedfs", "smbnetfs", "sshfs",
    }
)  # fmt: skip


def file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system that an absolute path without links is on, from the text of a mount table.

    Of several mounts at one place the last one counts, since it covers the others. None if no mount holds the path.
    """
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        place = Path(_unescaped(fields[1]))
        if path.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            found = len(place.parts), fields[2]
    return None if found is None else found[1]


def _unescaped(place: str) -> str:
    r"""Mount tables write spaces, tabs, newlines and backslashes as \ooo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place)


def is_network(kind: str) -> bool:
    """Whether several machines may see the files of a file system of this type."""
    fuse, _, inner = kind.partition(".")
    return kind in NETWORK or (fuse == "fuse" and inner in NETWORK_FUSE)


def refuse_network(path: Path, mounts: Path) -> None:
    """Raises `InputError` for a file on a network file system. Systems without a mount table are not checked."""
    if not mounts.exists():
        return
    kind = file_system(path.resolve(), mounts.read_text(errors="surrogateescape"))
    if kind is not None and is_network(kind):
        raise InputError(
            f"storage: an SQLite database must be on a local disk, but {path} is on a network file system ({kind}), "
            "where its locks fail. Use a local folder, or PostgreSQL for several machines: postgresql+psycopg://user@host/name."
        )
