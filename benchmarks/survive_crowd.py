"""Many workers on one database: what storage costs each trial, and whether anybody is told of a lock."""

import os
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.tables import CALL_TIMINGS
from exeunt.studies.database.transactions import reading
from sqlalchemy import func, select
from survive_crew import WORDS_OF_LOCKS, Crew, said, spawn
from survive_databases import Database, Databases, databases
from survive_kills import LIMIT_SECONDS, Wanted, findings
from survive_nursery import fork
from survive_observer import duplicated, zombies
from survive_study import STUDY, TRIAL_SECONDS, run, searched

COMMAND = [sys.executable, str(Path(__file__).with_name("survive_timed.py")), "worker", "--study", STUDY]
COMMAND += ["--log-format", "json"]
SIZES = {"sqlite": 24, "postgres": 64}
AWAKE_SECONDS, ALONE_SECONDS, CROWD_SECONDS = 10.0, 45.0, 90.0
CALM_SECONDS, LONGEST_WAIT = 8.0, 600.0
LIMIT = 0.02  # of a trial's seconds
# More than these don't fit into 23 GB each with imports of its own, and are forked.
MOST_SPAWNED = 32
# On virtual machines it takes up to 30 µs to touch a page of memory that lay idle, and a process that wakes up touches
# a thousand: its first transaction takes 100 ms in place of 0.3, and its last ones keep the lock meanwhile. Trials that
# sleep are idle, which real ones are not. With huge pages there are fewer to touch.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}


def crowd(wanted: Wanted) -> dict[str, Any]:
    """Storage's share of five-second trials, of one worker alone and of all of a crowd, and what locks did.

    Beside it what one worker takes whose trials don't sleep, also in parts of five seconds.
    """
    size = wanted.crowd or SIZES[wanted.storage]
    with databases(wanted.storage) as made:
        awake = observe(made, 1, AWAKE_SECONDS, trial_seconds=0.0)
        alone = observe(made, 1, ALONE_SECONDS)
        many = observe(made, size, CROWD_SECONDS)
    found = {f"awake_{name}": value for name, value in awake.items() if name.startswith(("median", "p99"))}
    found |= {f"alone_{name}": value for name, value in alone.items() if name.startswith(("median", "p99"))}
    return {**found, **many, "workers": size, "limit": LIMIT}


def observe(made: Databases, size: int, seconds: float, trial_seconds: float = TRIAL_SECONDS) -> dict[str, Any]:
    """Begins a study, waits until everybody works, and looks at the trials of some time."""
    with made.new() as database:
        searched(database.folder, trial_seconds).begin(database, workers=0)
        start = spawn if size <= MOST_SPAWNED else fork
        with Crew(database, size, dict.fromkeys(range(size), HUGE_PAGES), COMMAND, start) as crew:
            await_calm(database, crew)
            began, busy, timed = time.time(), cpu_seconds(crew), kinds(database)
            crew.rest(seconds)
            busy, ended = cpu_seconds(crew) - busy, time.time()
            timed = kinds(database) - timed
            run(database, ["study", "stop", STUDY])
            crew.finish(LIMIT_SECONDS)
            about = {"started": start.__name__, "cores_busy": round(busy / seconds, 2), "kinds_timed_meanwhile": timed}
            return {**summary(crew, began, ended, trial_seconds), **aftermath(database, crew), **about}


def await_calm(database: Database, crew: Crew) -> None:
    """Waits until everybody works, and where they are many until new kinds of calls, which are timed alone, are rare.

    Raises:
        TimeoutError: not everybody came.
    """
    began, known, since = time.monotonic(), -1, time.monotonic()
    while not all_have_measured(crew) or (crew.size > 1 and time.monotonic() - since < CALM_SECONDS):
        crew.rest(1.0)
        if (found := kinds(database)) != known:
            known, since = found, time.monotonic()
        if time.monotonic() - began > LONGEST_WAIT:
            if all_have_measured(crew):
                return
            raise TimeoutError(f"{len(crew.alive)} of {crew.size} workers are here after {LONGEST_WAIT:.0f} s")


def kinds(database: Database) -> int:
    """How many kinds of calls were timed."""
    engine = open_engine(database.url, read_only=True)
    with reading(engine) as connection:
        found = connection.execute(select(func.count()).select_from(CALL_TIMINGS)).scalar_one()
    engine.dispose()
    return found


def all_have_measured(crew: Crew) -> bool:
    """Whether everybody is there and has a trial behind it, the first of which waits for what is timed once."""
    return len(crew.alive) == crew.size and all(trials(each.events()) for each in crew.alive)


def trials(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was said of trials: Exeunt's count of seconds, and beside it the stopwatch's."""
    found = list[dict[str, Any]]()
    for each in events:
        if each["event"] == "held":
            found.append({"held_seconds": each["seconds"]})
        elif each["event"] == "trial" and found:
            found[-1] |= each
    return [each for each in found if "label" in each]


def summary(crew: Crew, began: float, ended: float, shortest: float) -> dict[str, Any]:
    """Median and 99th percentile over the trials of all workers that were told within the time.

    Those that are too short are left out: their schedules were measured before, and are looked up.
    """
    told = [each for member in crew.members for each in trials(member.events()) if began <= each["at"] <= ended]
    told = [each for each in told if each["seconds"] >= shortest]
    storage, held = ([each[name] / TRIAL_SECONDS for each in told] for name in ("storage_seconds", "held_seconds"))
    return {
        "trials": len(told),
        "median_trial_seconds": round(statistics.median(each["seconds"] for each in told), 2),
        "median_overhead": round(statistics.median(storage), 5),
        "p99_overhead": round(percentile(storage, 0.99), 5),
        "median_overhead_held": round(statistics.median(held), 5),
        "p99_overhead_held": round(percentile(held, 0.99), 5),
    }


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all don't exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def aftermath(database: Database, crew: Crew) -> dict[str, Any]:
    """What the crowd left behind."""
    engine = open_engine(database.url, read_only=True)
    found = {"duplicated": duplicated(engine), "zombies": len(zombies(engine)) + len(crew.alive)}
    engine.dispose()
    words = {
        "lock_errors": len(said(crew.members, WORDS_OF_LOCKS)),
        "tracebacks": len(said(crew.members, ("Traceback",))),
    }
    return {**found, **words, "findings": findings(database), "exit_codes": crew.codes}


def cpu_seconds(crew: Crew) -> float:
    """Seconds of cores that the processes took so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [Path(f"/proc/{each.process.pid}/stat").read_text().rpartition(")")[2].split() for each in crew.alive]
    return sum((int(each[11]) + int(each[12])) / ticks for each in fields)
