"""Engines on study databases: SQLite for one machine, PostgreSQL for many.

SQLite runs in WAL mode. What is committed survives the death of any process. Measurements and configurations also wait
for the disk (measured 3 to 6 ms on an idle disk and 100 ms on a busy one), so that they survive the machine's; whatever
was committed before them is in the same log, and is carried along. Others may write meanwhile. Leases, heartbeats and
Optuna's many small commits do not wait (0.01 ms). Its locks and its shared memory only work where one kernel sees the
file, so files on network file systems are refused.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ...backends.errors import ExeuntError, InputError
from . import schema
from .errors import corrupt_rows, database_label, storage_errors
from .transactions import READ_ONLY, open_transactions, pool_arguments, postgresql_arguments, sqlite_arguments
from .urls import file_path, file_url, masked_url, parse_url

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
        # Mount tables write spaces, tabs, newlines and backslashes as \ooo.
        place = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        if path.is_relative_to(place) and (found is None or len(place.parts) >= found[0]):
            found = len(place.parts), fields[2]
    return None if found is None else found[1]


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


def open_engine(url: str, read_only: bool = False) -> Engine:
    """The engine of a study database, whose tables are there: made in an empty database, checked in any other.

    With `read_only` nothing is made, not even a missing file, and no statement can change anything.

    Raises:
        InputError: the URL cannot be used, or what it names is no study database of this version; nothing was changed.
        StorageError: the database is out of reach, damaged or locked.
    """
    engine = bare_engine(url, read_only)
    try:
        with storage_errors(engine), corrupt_rows(database_label(engine)):
            schema.check_tables(engine) if read_only else schema.ensure_tables(engine)
    except ExeuntError:
        engine.dispose()
        raise
    return engine


def bare_engine(url: str, read_only: bool = False) -> Engine:
    """An engine for what a URL names, whatever is there; nothing is connected to, looked at or made yet.

    Raises:
        InputError: the URL cannot be used.
    """
    parsed = parse_url(url)
    return _sqlite(parsed, read_only) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed, read_only)


def _sqlite(url: URL, read_only: bool) -> Engine:
    assert url.database is not None
    path = file_path(url.database)
    if path.is_dir():
        raise InputError(f"storage: must name a file, but {path} is a folder. Write {file_url(path / 'exeunt.db')}.")
    if read_only and not path.exists():
        raise InputError(
            f"storage: there is no database at {path}. Check the path, or make one: `exeunt optimize "
            f"--storage {file_url(url.database)}`."
        )
    if not path.parent.is_dir():
        raise InputError(f"storage: the folder {path.parent} does not exist. Make it with `mkdir -p {path.parent}`.")
    refuse_network(path, MOUNTS)
    engine = _engine(_sqlite_url(path, read_only), read_only, sqlite_arguments())
    open_transactions(engine)
    return engine


def _sqlite_url(path: Path, read_only: bool) -> URL:
    """Reading goes through SQLite's own URI. A folder that cannot be written has no writer: its file is immutable."""
    if not read_only:
        return URL.create("sqlite", database=str(path))
    idle = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    query = {"mode": "ro", "uri": "true"} | ({"immutable": "1"} if idle else {})
    return URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)


def _postgresql(url: URL, read_only: bool) -> Engine:
    try:
        return _engine(url, read_only, postgresql_arguments(url, read_only, "exeunt"))
    except ArgumentError as error:
        raise InputError(f"storage: {masked_url(url)} can't be used ({error}). Check its options.") from None
    except (ImportError, NoSuchModuleError):
        raise InputError(
            "storage: PostgreSQL needs the driver psycopg, which is not installed. Type pip install 'exeunt[postgres]'."
        ) from None


def _engine(url: URL, read_only: bool, connect_args: dict[str, Any]) -> Engine:
    options = {READ_ONLY: read_only}
    return create_engine(url, connect_args=connect_args, execution_options=options, **pool_arguments(url))
