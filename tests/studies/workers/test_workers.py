"""Workers are known by more than a number, say that they live, and are buried only when they are certainly dead."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import processes
import pytest
from exeunt.backends.errors import Interrupted
from exeunt.studies.database.tables import WORKERS
from exeunt.studies.database.transactions import clock, writing
from exeunt.studies.store.leases import StaleClaim
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import Store
from exeunt.studies.workers.workers import ProcessIdentity, Worker, bury_dead_workers, living_workers, this_process
from stored import renew, workers_of

MakeKey = Callable[..., EvaluationKey]


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


CLAIMS_AND_DIES = """
import os, signal, sys
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import open_store
from exeunt.studies.workers.workers import Worker
with open_store(sys.argv[1]) as store, Worker(store, "demo", lease_seconds=3600.0) as worker:
    store.evaluations.claim(EvaluationKey(**eval(sys.argv[2])), worker.owner, worker.lease_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def pretend(
    store: Store, owner: str, process: ProcessIdentity, silent_for: float = 0.0, lease_seconds: float = 60.0
) -> None:
    """A worker's row, as that process would have left it."""
    row = {
        "owner": owner, "study": "demo", "host": process.host, "pid": process.pid, "boot": process.boot,
        "namespace": process.namespace, "process_started": process.started, "environment": {},
        "lease_seconds": lease_seconds, "started": clock() - silent_for, "heartbeat": clock() - silent_for,
    }  # fmt: skip
    with writing(store.engine) as connection:
        connection.execute(WORKERS.insert().values(row))


def test_a_worker_is_on_record_from_start_to_end(store: Store) -> None:
    environment = {"device": "cpu", "torch": "2.15"}
    with Worker(store, "demo", environment=environment) as worker:
        host, pid, chance = worker.owner.split(":")
        assert (host, int(pid), len(chance)) == (this_process().host, this_process().pid, 8)
        (record,) = workers_of(store, "demo")
        assert (record.owner, record.ended, record.lease_seconds) == (worker.owner, None, 60.0)
        assert living_workers(store, "demo") == [worker.owner]
        assert store.studies.environment("demo") == environment
    (record,) = workers_of(store, "demo")
    assert record.reason == "finished"
    assert record.ended is not None
    assert 0.0 <= record.ended - record.started < 60.0
    assert store.studies.progress("demo").worker_seconds == pytest.approx(record.ended - record.started)
    assert living_workers(store, "demo") == []


def test_two_workers_of_one_process_are_two(store: Store) -> None:
    with Worker(store, "demo") as one, Worker(store, "demo") as other:
        assert one.owner != other.owner
        assert sorted(living_workers(store, "demo")) == sorted([one.owner, other.owner])


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Interrupted("Stopped by SIGTERM."), "Stopped by SIGTERM."), (KeyError("depth"), "KeyError: 'depth'")],
)
def test_what_ended_a_worker_is_kept(store: Store, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)), Worker(store, "demo"):
        raise error
    assert workers_of(store, "demo")[0].reason == reason


def test_leaving_gives_claims_back(store: Store, make_key: MakeKey) -> None:
    with Worker(store, "demo") as worker:
        assert store.evaluations.claim(make_key(), worker.owner, 3600.0) is not None
    assert store.evaluations.claim(make_key(), "bob", 60.0) is not None


def test_heartbeats_keep_claims_alive(store: Store, make_key: MakeKey) -> None:
    with Worker(store, "demo", lease_seconds=2.0) as worker:
        claim = store.evaluations.claim(make_key(), worker.owner, worker.lease_seconds)
        assert claim is not None
        before = workers_of(store, "demo")[0].heartbeat
        time.sleep(3.0)
        assert store.evaluations.claim(make_key(), "bob", 60.0) is None
        assert bury_dead_workers(store) == []
        assert workers_of(store, "demo")[0].heartbeat > before + 1.0
        renew(store, claim)


def test_nobody_waits_for_a_process_that_was_killed_here(store: Store, url: str, make_key: MakeKey) -> None:
    program = subprocess.run([sys.executable, "-c", CLAIMS_AND_DIES, url, repr(vars(make_key()))], timeout=30)
    assert program.returncode == -9
    assert store.evaluations.claim(make_key(), "bob", 60.0) is None
    (dead,) = workers_of(store, "demo")
    assert bury_dead_workers(store) == [dead.owner]
    assert store.evaluations.claim(make_key(), "bob", 60.0) is not None
    (record,) = workers_of(store, "demo")
    assert (record.reason, record.ended) == ("its process is gone", record.heartbeat)


def test_a_silent_worker_is_waited_for_until_its_lease_ends(store: Store) -> None:
    elsewhere = replace(this_process(), host="other", boot="another boot")
    pretend(store, "silent", elsewhere, silent_for=61.0)
    pretend(store, "late", elsewhere, silent_for=50.0)
    assert bury_dead_workers(store) == ["silent"]
    assert living_workers(store, "demo") == ["late"]
    assert workers_of(store, "demo")[0].reason == "it was silent for longer than its lease"


def test_a_worker_that_was_given_up_comes_back_with_its_next_heartbeat(store: Store, make_key: MakeKey) -> None:
    with Worker(store, "demo", lease_seconds=3600.0) as worker:
        claim = store.evaluations.claim(make_key(), worker.owner, worker.lease_seconds)
        assert claim is not None
        with writing(store.engine) as connection:
            connection.execute(WORKERS.update().values(heartbeat=0.0))
        assert bury_dead_workers(store) == [worker.owner]
        worker.renew()
        assert living_workers(store, "demo") == [worker.owner]
        with pytest.raises(StaleClaim):
            renew(store, claim)


class TestProcess:
    def test_this_one_is_not_gone(self) -> None:
        assert not this_process().is_gone

    def test_one_that_ended_is_gone(self) -> None:
        program = processes.start(sys.executable, "-c", "")
        program.wait()
        assert replace(this_process(), pid=program.pid).is_gone

    def test_one_that_only_waits_for_its_parent_is_gone(self) -> None:
        program = processes.start(sys.executable, "-c", "")
        ended = replace(this_process(), pid=program.pid)
        deadline = time.monotonic() + 20.0
        with open(f"/proc/{program.pid}/stat") as stat:
            while stat.seek(0) == 0 and stat.read().rpartition(")")[2].split()[0] != "Z":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert ended.is_gone
        program.wait()

    def test_another_one_with_its_number_does_not_stand_for_it(self) -> None:
        assert replace(this_process(), started="1").is_gone

    @pytest.mark.parametrize("change", [{"boot": "x"}, {"namespace": "pid:[1]"}, {"boot": ""}, {"started": ""}])
    def test_what_cannot_be_looked_up_is_not_called_gone(self, change: dict[str, str]) -> None:
        assert not replace(this_process(), pid=2**22 + 1, **change).is_gone
