"""Whether a study on a Ray cluster survives one of its two nodes.

Run: python benchmarks/survive_ray.py --storage sqlite|postgres [--trials 48] [--seed 0]

Two nodes of one cluster are started on this machine. `exeunt resume --engine ray` puts two workers to work on a study
with a fixed list of proposals, on the closed-form network, whose blocks sleep. Once a random share of the search's
images is committed, the node that is not the driver's is killed as a whole (SIGKILL to its raylet, whose processes end
with it); later a new node takes its place. The same list is then measured undisturbed. The last line is JSON; the exit
code is 1 where something was lost, doubled or left behind, or the study didn't come to its end.
"""

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_DISABLE_IMPORT_WARNING"] = "1"

from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.tables import WORKERS
from exeunt.studies.database.transactions import reading
from exeunt.studies.workers.status import read_status
from ray.cluster_utils import Cluster
from sqlalchemy import select
from survive_databases import Database, databases
from survive_kills import SEARCH_SEED, incomplete, is_same
from survive_observer import Observer, duplicated, longest_pause, zombies
from survive_study import PROGRAM, STUDY, Study, fixed, run

WORKERS_AT_A_TIME = 2
POLL_SECONDS = 0.1
NEW_NODE_SECONDS = 10.0  # after which another one takes the lost one's place
LIMIT_SECONDS = 900.0
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0, help="of the proposals and of the kill's moment")
    arguments = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    started = time.monotonic()
    with databases(arguments.storage) as made, made.new() as database:
        study = fixed("closed-form", arguments.trials, arguments.seed, database.folder)
        study.begin(database, workers=0)
        found = disturbed(database, study, random.Random(arguments.seed))
        found["same_as_undisturbed"] = is_same(made, database, study, WORKERS_AT_A_TIME)
    found["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps({"benchmark": "survive_ray", "figures": found, "conditions": vars(arguments)}))
    sys.exit(1 if is_bad(found) else 0)


def disturbed(database: Database, study: Study, chance: random.Random) -> dict[str, Any]:
    """One study, from its first worker to its end, with a node lost on the way."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        victim = cluster.add_node(**NODE)
        log = database.folder / "driver.log"
        with Observer(database.url) as observer, log.open("wb") as file:
            driver = start(database, cluster.address, file)
            due = chance.uniform(0.1, 0.6) * study.images
            await_or_fail(lambda: observer.images.get(SEARCH_SEED, 0) >= due, driver, log)
            cluster.remove_node(victim, allow_graceful=False)
            before = dict(observer.images)
            time.sleep(NEW_NODE_SECONDS)
            cluster.add_node(**NODE)
            code = driver.wait(timeout=LIMIT_SECONDS)
            found = verdict(database, observer, study, log)
        return {"exit_code": code, "images_when_killed": before.get(SEARCH_SEED, 0), **found}
    finally:
        cluster.shutdown()


def start(database: Database, address: str, log: Any) -> subprocess.Popen[bytes]:
    words = ["resume", "--study", STUDY, "--engine", "ray", "--address", address, "--workers", str(WORKERS_AT_A_TIME)]
    return subprocess.Popen(
        [*PROGRAM, *words], cwd=database.folder, env=database.environment, stdout=subprocess.DEVNULL, stderr=log
    )


def await_or_fail(condition: Callable[[], bool], driver: subprocess.Popen[bytes], log: Path) -> None:
    """Waits; raises RuntimeError if the study ended before, so that nothing would be disturbed."""
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if driver.poll() is not None or time.monotonic() > end:
            driver.kill()
            raise RuntimeError(f"too early or too late: {driver.returncode} {log.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)


def verdict(database: Database, observer: Observer, study: Study, log: Path) -> dict[str, Any]:
    """What has come of the study."""
    engine = open_engine(database.url, read_only=True)
    with reading(engine) as connection:
        workers = connection.execute(select(WORKERS.c.pid, WORKERS.c.reason)).all()
    checked = run(database, ["db", "check", "--json"], check=False)
    found = {
        "lost": len(observer.lost()),
        "duplicated": duplicated(engine),
        "zombies": len(zombies(engine)) + sum(Path(f"/proc/{pid}").exists() for pid, _ in workers),
        "finished": read_status(database.url, STUDY).finished,
        "incomplete": incomplete(engine, study),
        "sound": checked.returncode == 0 and '"findings": []' in checked.stdout,
        "starts": len(workers),
        "restarted": "starting another one" in log.read_text(),
        "rows_watched": len(observer.seen),
        "longest_pause_seconds": round(longest_pause(engine), 1),
    }
    engine.dispose()
    return found


def is_bad(found: dict[str, Any]) -> bool:
    """Whether anything is not as it must be."""
    none = ("exit_code", "lost", "duplicated", "zombies", "incomplete")
    return any(found[name] for name in none) or not (
        found["finished"] and found["sound"] and found["restarted"] and found["same_as_undisturbed"]
    )


if __name__ == "__main__":
    main()
