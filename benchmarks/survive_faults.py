"""What happens around a study's workers, none of which is killed: servers, connections, disks and clocks."""

import random
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url
from survive_crew import Crew, said
from survive_databases import Database, Databases, Skipped, databases, fill, make_room
from survive_kills import LIMIT_SECONDS, SEARCH_SEED, Wanted, verdict
from survive_observer import Observer
from survive_study import Study, fixed

TRIALS = 48
STOPPED_SECONDS = 30.0
FULL_SECONDS = 20.0
CUTS = 20
# SQLite's file of the longest study here takes 10 MB, a server with nothing in it 60 MB.
DISK_BYTES = {"sqlite": 64 << 20, "postgres": 400 << 20}
SHIFTS = {0: 3600, 1: -3600}
IN_TRANSACTION = """
    SELECT backend_xid IS NOT NULL, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = %s AND xact_start IS NOT NULL AND application_name LIKE 'exeunt%%'
"""
HAS_WRITTEN = "AND backend_xid IS NOT NULL"
LONGEST_WAIT = 10.0


@dataclass(frozen=True)
class Scene:
    """A study whose workers have done some of it."""

    database: Database
    study: Study
    observer: Observer
    crew: Crew

    def end(self) -> dict[str, Any]:
        """Lets the workers finish, and says what came of it."""
        self.crew.finish(LIMIT_SECONDS)
        return verdict(self.database, self.observer, self.crew, self.study)


@contextmanager
def scene(made: Databases, wanted: Wanted, variables: Mapping[int, dict[str, str]] | None = None) -> Generator[Scene]:
    """A study a quarter of whose images are there, and everybody at work on the rest."""
    with made.new() as database:
        study = fixed(wanted.network, wanted.trials or TRIALS, wanted.seed, database.folder)
        study.begin(database, workers=0)
        with Observer(database.url) as observer, Crew(database, wanted.workers, variables or {}) as crew:
            crew.until(lambda: observer.count(SEARCH_SEED) >= study.images // 4, LIMIT_SECONDS)
            yield Scene(database, study, observer, crew)


def server_stopped(wanted: Wanted) -> dict[str, Any]:
    """PostgreSQL is stopped for 30 s, and started again."""
    with databases(need_postgres(wanted)) as made, scene(made, wanted) as at:
        assert made.server is not None
        made.server.stop()
        at.crew.rest(STOPPED_SECONDS)
        made.server.start()
        return {**at.end(), "stopped_seconds": STOPPED_SECONDS}


def connection_cut(wanted: Wanted) -> dict[str, Any]:
    """Connections are cut in the middle of transactions."""
    with databases(need_postgres(wanted)) as made, scene(made, wanted) as at:
        chance, cut = random.Random(wanted.seed), list[bool]()
        with psycopg.connect(at.database.url.replace("+psycopg", ""), autocommit=True) as connection:
            for number in range(CUTS):
                cut += cut_once(connection, str(make_url(at.database.url).database), has_written=number % 2 == 0)
                at.crew.rest(chance.uniform(0.0, 1.0))
        return {**at.end(), "cut": len(cut), "cut_after_writing": sum(cut)}


def cut_once(connection: psycopg.Connection[Any], name: str, *, has_written: bool) -> list[bool]:
    """Waits until somebody is within a transaction, and has written if wanted; cuts all such, whether each wrote."""
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end:
        found = connection.execute(IN_TRANSACTION + (HAS_WRITTEN if has_written else ""), [name]).fetchall()
        if found:
            return [bool(wrote) for wrote, _ in found]
    return []


def disk_full(wanted: Wanted) -> dict[str, Any]:
    """The database's disk has no room for 20 s."""
    with (
        databases(wanted.storage, disk_bytes=DISK_BYTES[wanted.storage]) as made,
        scene(made, wanted) as at,
    ):
        assert made.disk is not None
        end, taken = time.monotonic() + FULL_SECONDS, 0
        while time.monotonic() < end:
            taken += fill(made.disk)
            at.crew.rest(0.5)
        make_room(made.disk)
        if made.server is not None:
            made.server.start()  # It gives up where not even its log has room.
        found = at.end()
        return {**found, "full_seconds": FULL_SECONDS, "told": len(said(at.crew.members, ("no room left",)))}


def read_only(wanted: Wanted) -> dict[str, Any]:
    """The database can only be read: workers end with one error each, change nothing, and later ones go on."""
    with databases(wanted.storage, disk_bytes=needs_disk(wanted)) as made, scene(made, wanted) as at:
        if made.server is None:
            at.crew.drain()
            at.crew.finish(LIMIT_SECONDS)
        with unwritable(made, at.observer), Crew(at.database, wanted.workers, restarts=False) as refused:
            at.crew.restarts = False
            at.crew.finish(LIMIT_SECONDS)
            refused.finish(LIMIT_SECONDS)
        with Crew(at.database, wanted.workers) as after:
            found = Scene(at.database, at.study, at.observer, after).end()
        turned_away = [*refused.members, *(at.crew.members if made.server else [])]
        errors = [
            len([each for each in member.events() if "Error:" in str(each.get("text"))]) for member in turned_away
        ]
        codes = [member.process.returncode for member in turned_away]
        told = said(turned_away, ("Error:",))
        found |= {"turned_away": len(codes), "refused_codes": sorted(set(codes)), "told": sorted(set(told))[:2]}
        found["tracebacks"] += len(said(turned_away, ("Traceback",)))
        return {**found, "unclear": sum(count != 1 for count in errors) + sum(code in (0, 1) for code in codes)}


@contextmanager
def unwritable(made: Databases, observer: Observer) -> Generator[None]:
    """Within this block no database can be written."""
    if made.server is not None:
        made.server.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        yield
        made.server.execute("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
        return
    # What has a file open for writing, if only to share memory with writers, keeps its disk from it.
    observer.close()
    subprocess.run(["mount", "-o", "remount,ro", str(made.disk)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(made.disk)], check=True)
    observer.open()


def clock(wanted: Wanted) -> dict[str, Any]:
    """One worker's clock is an hour ahead, another one's an hour behind."""
    with databases(wanted.storage) as made:
        library = shifting(made.folder)
        variables = {slot: shifted(seconds, library, made.folder) for slot, seconds in SHIFTS.items()}
        with scene(made, wanted, variables) as at:
            found = at.end()
            del found["longest_pause_seconds"]  # SQLite's clock is that of whoever writes
            return {**found, "shifted": "the process's clock" if library else "Python's time.time alone"}


def shifting(folder: Path) -> Path | None:
    """A library that shifts the time of day of a process, compiled; None without a compiler."""
    source, library = Path(__file__).with_name("survive_clock.c"), folder / "clock.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def shifted(seconds: int, library: Path | None, folder: Path) -> dict[str, str]:
    """Variables under which a process has another time of day, for SQLite within it too, and its other clocks as ever.

    Without the library a module that Python imports at its start shifts `time.time`.
    """
    if library is not None:
        return {"LD_PRELOAD": str(library), "SURVIVE_CLOCK_SECONDS": str(seconds)}
    (module := folder / f"clock{seconds}").mkdir()
    text = f"import time\n_time = time.time\ntime.time = lambda: _time() + {seconds}\n"
    (module / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(module)}


def need_postgres(wanted: Wanted) -> str:
    """The storage, which must be PostgreSQL."""
    if wanted.storage != "postgres":
        raise Skipped("SQLite has neither server nor connections: --storage postgres")
    return wanted.storage


def needs_disk(wanted: Wanted) -> int | None:
    """The size of the file system that is made unwritable; a server says by itself that it only reads."""
    return DISK_BYTES["sqlite"] if wanted.storage == "sqlite" else None
