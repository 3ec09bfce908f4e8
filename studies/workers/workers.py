"""Workers: who works on a study, how the others know that it lives, and what happens when it does not.

Some work only one worker at a time may do, such as choosing the front that all of them measure.

A process identifier is used again, and means nothing on another machine or in another container. So a process is told
by the boot of its kernel, its process namespace, its identifier there, and its start time; and it is only called gone
where all of that can be looked up. Anything less is "perhaps", for which the lease is there.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self, final

from sqlalchemy import Connection, select

from ...backends.errors import ExeuntError, StorageError
from ..database.tables import WORKERS
from ..database.transactions import clock, reading, write, writing
from ..database.urls import redact
from ..store import leases
from ..store.store import Store

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
        with suppress(PermissionError):
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks after the boot; `ZOMBIE` if it ended and only waits for its parent.

    The name in parentheses may hold spaces and parentheses itself, so fields are counted from the last one on.
    """
    fields = _known(Path(f"/proc/{pid}/stat").read_text).rpartition(")")[2].split()
    return UNKNOWN if not fields else ZOMBIE if fields[0] in "ZXx" else fields[19]


BEATS = 4  # heartbeats a lease: three may fail before others take over
FINISHED = "finished"
GONE = "its process is gone"
SILENT = "it was silent for longer than its lease"


@final
class Worker:
    """This process as a worker, from `with` to its end. A thread renews all its leases meanwhile.

    Attributes:
        owner: `host:pid:random`, which no other worker ever has; the owner of claims.
        lease_seconds: how long others wait for it when it is silent.
    """

    def __init__(
        self,
        store: Store,
        study: str | None = None,
        lease_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._study = study
        self._environment = dict(environment or {})
        self._process = this_process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="exeunt-heartbeat", daemon=True)
        self.lease_seconds = lease_seconds
        self.owner = f"{self._process.host}:{self._process.pid}:{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        process = self._process
        row: dict[str, Any] = {
            "owner": self.owner, "study": self._study, "host": process.host, "pid": process.pid, "boot": process.boot,
            "namespace": process.namespace, "process_started": process.started, "environment": self._environment,
            "lease_seconds": self.lease_seconds, "started": clock(), "heartbeat": clock(),
        }  # fmt: skip
        bury_dead_workers(self._store)
        with writing(self._store.engine) as connection:
            connection.execute(WORKERS.insert().values(row))
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join()
        try:
            with writing(self._store.engine) as connection:
                _end(connection, self.owner, _reason(error))
        except StorageError:
            # The error that brought us here says more than a database that is out of reach too; the lease runs out.
            if error is None:
                raise

    def _beat(self) -> None:
        while not self._stop.wait(self.lease_seconds / BEATS):
            try:
                self.renew()
            except StorageError:
                continue  # The next beat tries again; a lease that runs out meanwhile is found out at the next commit.

    def renew(self) -> None:
        """Says that this worker lives, and extends its leases. One that was given up as silent is back with this."""
        alive = {"heartbeat": clock(), "ended": None, "reason": None}
        with writing(self._store.engine) as connection:
            connection.execute(WORKERS.update().where(WORKERS.c.owner == self.owner).values(alive))
            leases.renew_all(connection, self.owner, self.lease_seconds)


def _reason(error: BaseException | None) -> str:
    if error is None:
        return FINISHED
    return redact(str(error) if isinstance(error, ExeuntError) else f"{type(error).__name__}: {error}")


def bury_dead_workers(store: Store) -> list[str]:
    """Ends the workers that are gone or silent for longer than their lease, and frees what they had claimed.

    A process that is proved gone on this host is not waited for. Returns the owners that were ended.
    """
    with reading(store.engine) as connection:
        dead = dead_workers(connection)
    if dead:
        with writing(store.engine) as connection:
            dead = dead_workers(connection, lock=True)
            for owner, reason in dead.items():
                _end(connection, owner, reason)
    return list(dead)


def living_workers(store: Store, study: str) -> list[str]:
    """The owners that work on a study now."""
    with reading(store.engine) as connection:
        return [each.owner for each in unended_workers(connection) if each.study == study and each.dead is None]


class Unended(NamedTuple):
    """A worker that nobody has ended yet, its study if it has one, and why it is dead if it is."""

    owner: str
    study: str | None
    dead: str | None


def dead_workers(connection: Connection, lock: bool = False) -> dict[str, str]:
    """The workers that did not end by themselves and will not: owner and reason. `lock` is as below."""
    return {each.owner: each.dead for each in unended_workers(connection, lock) if each.dead is not None}


def unended_workers(connection: Connection, lock: bool = False) -> list[Unended]:
    """All workers that nobody has ended yet.

    With `lock` none of them can say until the transaction ends that it lives.
    """
    silent = (clock() - WORKERS.c.heartbeat > WORKERS.c.lease_seconds).label("silent")
    columns = [WORKERS.c[name] for name in ("owner", "study", "host", "pid", "boot", "namespace", "process_started")]
    query = select(*columns, silent).where(WORKERS.c.ended.is_(None)).order_by(WORKERS.c.owner)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    found: list[Unended] = []
    for row in rows:
        process = ProcessIdentity(row.host, row.pid, row.boot, row.namespace, row.process_started)
        dead = GONE if process.is_gone else SILENT if row.silent else None
        found.append(Unended(row.owner, row.study, dead))
    return found


def _end(connection: Connection, owner: str, reason: str) -> None:
    """Ends a worker at its last sign of life, or now if it says so itself, and frees its leases."""
    ended = WORKERS.c.heartbeat if reason in (GONE, SILENT) else clock()
    values = {"ended": ended, "reason": reason}
    if reason in (GONE, SILENT):
        leases.note_abandoned(connection, owner, reason)
    connection.execute(WORKERS.update().where(WORKERS.c.owner == owner, WORKERS.c.ended.is_(None)).values(values))
    leases.free_all(connection, owner)


@contextmanager
def exclusive(store: Store, name: str, worker: Worker) -> Generator[bool]:
    """Whether it is this worker's turn, for as long as the block lasts; False while another one has it.

    The worker's heartbeats keep the turn, and its death ends it. Not re-entrant: within the block it is taken.
    """
    seconds = worker.lease_seconds
    token = write(store.engine, lambda connection: leases.take(connection, name, worker.owner, seconds))
    try:
        yield token is not None
    finally:
        if token is not None:
            # What went wrong in the block says more, and the turn ends with its lease.
            with suppress(StorageError), writing(store.engine) as connection:
                leases.free(connection, name, worker.owner, token)
