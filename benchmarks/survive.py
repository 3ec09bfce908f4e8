"""Whether studies survive: workers killed, a server stopped, connections cut, disks full, clocks off, and a crowd.

Run: python benchmarks/survive.py --storage sqlite|postgres --workers 6 --kills 50 --seed 0

Each scenario is a real study with real worker processes on the closed-form network, whose blocks sleep so that workers
need no cores while they sample, or on the bundled checkpoint (`--network bundled`). An observer reads what is committed
all along. PostgreSQL is a server that is started for each scenario (`.ci/postgres`), and waits for the disk. The last
line is JSON; the exit code is 1 where something was lost, doubled or left behind.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from survive_crowd import crowd
from survive_databases import Skipped
from survive_faults import clock, connection_cut, disk_full, read_only, server_stopped
from survive_kills import Wanted, kills
from survive_study import NETWORKS

SCENARIOS: dict[str, Callable[[Wanted], dict[str, Any]]] = {
    "kills": kills,
    "server-stopped": server_stopped,
    "connection-cut": connection_cut,
    "disk-full": disk_full,
    "read-only": read_only,
    "clock": clock,
    "crowd": crowd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--network", choices=NETWORKS, default="closed-form")
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="kills")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--crowd", type=int, help="workers of that scenario; default: 24 on SQLite, 64 on PostgreSQL")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--trials", type=int, help="proposals; default: three a kill, 24 at least, and 48 without kills"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the proposals and of all moments")
    arguments = parser.parse_args()
    # A time limit's signal must not leave workers or servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = Wanted(
        arguments.storage,
        arguments.network,
        arguments.workers,
        arguments.kills,
        arguments.trials,
        arguments.seed,
        arguments.crowd,
    )
    names = list(SCENARIOS) if arguments.scenario == "all" else [arguments.scenario]
    found = {name: show(name, SCENARIOS[name], wanted) for name in names}
    print(
        json.dumps({"benchmark": "survive", "figures": total(found), "scenarios": found, "conditions": asdict(wanted)})
    )
    sys.exit(1 if any(map(is_bad, found.values())) else 0)


def show(name: str, scenario: Callable[[Wanted], dict[str, Any]], wanted: Wanted) -> dict[str, Any]:
    """Runs a scenario and prints what came of it."""
    started = time.monotonic()
    try:
        found = scenario(wanted)
    except Skipped as reason:
        found = {"skipped": str(reason)}
    found["seconds"] = round(time.monotonic() - started, 1)
    print(f"{name}: {json.dumps(found)}", flush=True)
    return found


def total(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of all scenarios together."""
    sums = {name: sum(each.get(name, 0) for each in found.values()) for name in ("lost", "duplicated", "zombies")}
    most = max((each.get("images_lost_per_kill", 0) for each in found.values()), default=0)
    return {**sums, "images_lost_per_kill": most}


def is_bad(found: dict[str, Any]) -> bool:
    """Whether a scenario shows anything but what is promised."""
    if "skipped" in found:
        return False
    faults = ("lost", "duplicated", "zombies", "incomplete", "lock_errors", "tracebacks", "unclear", "kills_missed")
    return bool(
        any(found.get(name, 0) for name in faults)
        or found.get("findings")
        or not found.get("same_as_undisturbed", True)
        or found.get("images_lost_per_kill", 0) > found.get("chunk_images", 0)
        or found.get("median_overhead", 0.0) > found.get("limit", 0.0)
    )


if __name__ == "__main__":
    main()
