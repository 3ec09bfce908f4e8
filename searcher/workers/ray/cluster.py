"""A Ray cluster as one command uses it: connecting, finding room for workers, and checking its machines.

Whatever would keep workers from their study is found here, before any of them starts: too few resources, another
version of this package, a database that a node can't see.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ....backends.errors import InputError, first_line
from ....studies.database.urls import file_path, file_url, parse_url
from .actor import worker_place

REACH_SECONDS = 5.0
PROBE_SECONDS = 60.0  # a node starts a process for the first probe, which takes some seconds
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Share(NamedTuple):
    """What each worker takes of its node."""

    cpus: float
    gpus: float

    def room(self, node: "Node") -> int:
        """How many workers fit on a node."""
        fits = [has / takes for has, takes in ((node.cpus, self.cpus), (node.gpus, self.gpus)) if takes > 0]
        return int(min(fits) + 1e-9) if fits else 0

    def __str__(self) -> str:
        return f"{self.gpus:g} GPU and {self.cpus:g} CPU"


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that lives."""

    id: str
    host: str
    cpus: float
    gpus: float


def connect(address: str) -> None:
    """Joins a cluster as its driver; once is enough.

    Args:
        address: HOST:PORT of its head, or `auto`: what `RAY_ADDRESS` says, else the cluster that runs on this machine.

    Raises:
        InputError: there is none, or it runs other versions.
    """
    if ray.is_initialized():
        return
    _reach(address)
    try:
        # Ray puts the current folder first on its workers' import path, so it is an empty one for the moment.
        with TemporaryDirectory() as empty, chdir(empty):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        raise InputError(
            f"engine: no Ray cluster answers at {address}: {first_line(error).rstrip('.')}. {_FIX}"
        ) from None
    # Ray prints what nodes complain of on standard output, where a command's result goes, and has no option for it.
    vars(import_module("ray._private.worker"))["_worker_logs_enabled"] = False


_FIX = (
    "Run this command on a machine of the cluster (`ray start --address HEAD:6379` makes it one), or give --address "
    "HOST:PORT."
)


def _reach(address: str) -> None:
    """Ray itself tries an address where nobody listens for four minutes."""
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if "://" in named:
        raise InputError(
            f"address: must be HOST:PORT or auto, but got {named}: Ray's client can't carry workers. {_FIX}"
        )
    host, _, port = named.rpartition(":")
    if not host or not port.isdecimal():
        if named in ("", "auto"):
            return
        raise InputError(f"address: must be HOST:PORT or auto, but got {named}. {_FIX}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"engine: no Ray cluster answers at {named}: {first_line(error).rstrip('.')}. {_FIX}"
        ) from None


def nodes() -> list[Node]:
    """The machines that live, with all that they have, used or not."""
    found = [(each["NodeID"], each["NodeManagerHostname"], each["Resources"]) for each in ray.nodes() if each["Alive"]]
    return [Node(id, host, has.get("CPU", 0.0), has.get("GPU", 0.0)) for id, host, has in found]


def has_gpus() -> bool:
    """Whether any machine of the cluster has one."""
    return any(node.gpus > 0 for node in nodes())


def count_workers(wanted: int | None, share: Share, found: Sequence[Node]) -> int:
    """How many workers there will be: those asked for, else one per share of GPUs, else one per machine.

    Raises InputError: they would wait for ever, since the cluster has no room for them.
    """
    rooms = [share.room(node) for node in found]
    usual = sum(rooms) if share.gpus > 0 else sum(1 for room in rooms if room)
    count = usual if wanted is None else wanted
    if 0 < count <= sum(rooms):
        return count
    has = Share(sum(node.cpus for node in found), sum(node.gpus for node in found))
    fix = f"give --workers {sum(rooms)}" if any(rooms) else "give --gpus-per-worker or --cpus-per-worker"
    raise InputError(
        f"engine: the cluster must have room for {max(count, 1)} × ({share}), but its {len(found)} machines have "
        f"{has}: room for {sum(rooms)}. Add machines, or {fix}."
    )


@dataclass(frozen=True)
class Needs:
    """What a machine must have for a worker to start there.

    Attributes:
        url: the study's database, for a process in any folder.
        folder: the one that holds the database, if it is a file.
        here: what `worker_place` says of this process.
    """

    url: str
    folder: str | None
    here: dict[str, Any]

    @classmethod
    def of(cls, url: str) -> "Needs":
        """Those of workers on a database."""
        parsed, folder = parse_url(url), None
        if parsed.get_backend_name() == "sqlite":
            path = file_path(parsed.database or "")
            url, folder = file_url(path), str(path.parent)
        return cls(url, folder, worker_place(folder))

    def check(self, there: dict[str, Any]) -> None:
        """Raises InputError if a worker can't start at a place."""
        host = there["host"]
        if there["exeunt"] != self.here["exeunt"]:
            raise InputError(
                f"engine: machine {host} has exeunt {there['exeunt']}, and this one {self.here['exeunt']}. "
                "Install the same version everywhere."
            )
        same_machine = bool(there["kernel"]) and there["kernel"] == self.here["kernel"]
        if self.folder is not None and not (same_machine and there["folder"] == self.here["folder"]):
            raise InputError(
                f"storage: machine {host} can't share the SQLite file in {self.folder}, which serves one machine. "
                f"{_POSTGRES}"
            )
        if not same_machine and parse_url(self.url).host in LOOPBACK:
            raise InputError(
                f"storage: machine {host} would look for PostgreSQL on itself, not here. Name this host in the URL. "
                f"{_POSTGRES}"
            )


_POSTGRES = "Put postgresql+psycopg://USER@HOST/NAME into EXEUNT_STORAGE; `exeunt study copy` moves a study there."


def check_places(found: Sequence[Node], needs: Needs) -> None:
    """Looks at every machine that may get a worker; one that does not answer is left to be found out later.

    Raises InputError: workers can't start there.
    """
    probe = _probe()
    asked = {}
    for node in found:
        only_there: Any = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=only_there)(probe)
        asked[task.remote(needs.folder)] = node
    end = time.monotonic() + PROBE_SECONDS
    for reference, node in asked.items():
        with suppress(RayError):
            answer: Any = ray.get(reference, timeout=max(0.0, end - time.monotonic()))
            needs.check({"host": node.host, "exeunt": "none", **answer})


def _probe() -> Callable[[str | None], dict[str, Any]]:
    """A function that Ray carries to a machine as it is, since this package may be missing there."""

    def probe(folder: str | None) -> dict[str, Any]:
        try:
            actor = import_module("exeunt.searcher.workers.ray.actor")
        except ImportError:
            return {}
        return actor.worker_place(folder)

    return probe
