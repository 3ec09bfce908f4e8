"""How long `status`, `report` and `resume` take to be at work on a study of thousands of trials.

Run: python benchmarks/large_study.py [--trials 5000] [--repeats 3]

A real study of a few trials is run first. It is then grown: schedules from its own search space with made-up values,
features and timings, in the rows that a search would have left, on noises of the search; its front on final noises
stays the real one, with the samples that it kept. Then each command runs in a process of its own, Python's start and
imports included. `status` and `report` are timed from start to end, `report` as it is typed, with samples and all
plots, and with `--no-samples` as well; `resume` until it has asked for its first new trial.
"""

import argparse
import hashlib
import json
import math
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from exeunt.backends.plan import compile_plan
from exeunt.backends.schedule import Schedule, block_evaluations, canonical
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.operations import keep_operations
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.search.proposer import WORTHLESS
from exeunt.searcher.spaces.base import make_space
from exeunt.studies.database.optuna.tables import TRIALS
from exeunt.studies.database.tables import CALL_TIMINGS, CHUNKS, EVALUATIONS, MEMBERS, QUALITIES, SCHEDULES, TIMING_KEYS
from exeunt.studies.database.transactions import insert_once, writing
from exeunt.studies.store.records import EvaluationKey, Member, QualityRecord, summarized, summary_to_json
from exeunt.studies.store.store import Store, open_store
from optuna.distributions import distribution_to_json
from optuna.trial import create_trial
from sqlalchemy import Connection, func, select

LIMIT_SECONDS = 5.0
STUDY = "large"
NUM_IMAGES = 16
COMMANDS = {
    "status": ["status", "--json"],
    "report": ["report", "-o", "report"],
    "report_without_samples": ["report", "--no-samples", "-o", "report"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder to work in, whose study is used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "exeunt.db").exists():
            begin(folder)
        with open_store(f"sqlite:///{folder / 'exeunt.db'}") as store:
            grow(store, arguments.trials)
        seconds = {name: [run(folder, words) for _ in range(arguments.repeats)] for name, words in COMMANDS.items()}
        seconds["resume"] = [resume(folder) for _ in range(arguments.repeats)]
        size = (folder / "exeunt.db").stat().st_size
        with open_store(f"sqlite:///{folder / 'exeunt.db'}", read_only=True) as store:
            measured = len(load_view(store, STUDY).measured("search"))
    if measured < arguments.trials:
        raise RuntimeError(f"only {measured} schedules count as measured: the rows are not those that a search leaves")
    figures = {f"{name}_seconds": round(statistics.median(raw), 2) for name, raw in seconds.items()}
    conditions = {
        "schedules": measured,
        "checkpoint": "fashion-dit-exits",
        "images_per_schedule": NUM_IMAGES,
        "database_bytes": size,
        "raw_seconds": {name: [round(each, 2) for each in raw] for name, raw in seconds.items()},
        "limit_seconds": LIMIT_SECONDS,
    }
    print(json.dumps({"benchmark": "large_study", "figures": figures, "conditions": conditions}))


def begin(folder: Path) -> None:
    """A real study that is finished."""
    flags = ["--study", STUDY, "--budget", "10-trials", "--report", "none", "--quiet"]
    counts = ["--num-images", str(NUM_IMAGES), "--final-images", str(2 * NUM_IMAGES), "--batch-size", str(NUM_IMAGES)]
    run(folder, ["optimize", *flags, *counts, "--device", "cpu", "--set", "throughput.repeats=2"])


def run(folder: Path, words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "exeunt", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def resume(folder: Path) -> float:
    """Seconds until the study has a trial that it had not before. What the command did is committed or ended by it."""
    before, started = newest_trial(folder), time.perf_counter()
    words = ["resume", "--budget", "1-trials", "--report", "none", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "exeunt", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while newest_trial(folder) == before:
        if process.poll() is not None:
            raise RuntimeError(process.communicate()[1].decode())
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    process.communicate()
    return seconds


def newest_trial(folder: Path) -> int:
    with sqlite3.connect(f"file:{folder / 'exeunt.db'}?mode=ro", uri=True) as connection:
        found = connection.execute("SELECT max(trial_id) FROM trials WHERE state <> 'WAITING'").fetchone()[0]
    connection.close()
    return found


@dataclass(frozen=True)
class Grown:
    """A made-up trial: where it stands in the space, and what it measured."""

    parameters: dict[str, Any]
    schedule: Schedule
    quality: float
    seconds: float
    kinds: dict[str, float]


def grow(store: Store, trials: int) -> None:
    """Brings the study to so many trials."""
    config = store.studies.config(STUDY)
    study_setup = load_setup(config)
    space = make_space(config.search.space, study_setup.frame)
    full = block_evaluations(study_setup.frame.full)
    chance = random.Random(0)
    seen, grown = {member.schedule_digest for member in store.studies.members(STUDY)}, list[Grown]()
    while len(seen) < trials:
        parameters = {name: draw(each, chance) for name, each in space.distributions().items()}
        schedule = space.build(parameters)
        if schedule.digest not in seen:
            seen.add(schedule.digest)
            grown.append(made_up(parameters, schedule, full, chance))
    member = next(each for each in store.studies.members(STUDY) if each.weights_name == study_setup.weights)
    quality, key = neighbour(store, member.weights_sha256)
    with writing(store.engine) as connection:
        write(connection, Like(member, quality, key), space.distributions(), grown)
    keep_operations(store, load_view(store, STUDY), study_setup.all_networks)


def draw(distribution: Any, chance: random.Random) -> Any:
    if hasattr(distribution, "choices"):
        return chance.choice(distribution.choices)
    if distribution.step:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return distribution.low + distribution.step * chance.randint(0, steps)
    return chance.uniform(distribution.low, distribution.high)


def made_up(parameters: dict[str, Any], schedule: Schedule, full: int, chance: random.Random) -> Grown:
    """Costs go with the blocks that run, and quality falls where few do."""
    share = block_evaluations(schedule) / full
    calls = [call for step in compile_plan(schedule).steps for call in step.calls]
    kinds = {call.kind: 0.001 + 0.01 * len(call.kind) / 1000 for call in calls}
    return Grown(parameters, schedule, 400 * math.exp(-3 * share) * chance.uniform(1, 2) + 500, share, kinds)


@dataclass(frozen=True)
class Like:
    """A real member of the study, what it measured, and the question that this answers."""

    member: Member
    quality: QualityRecord
    key: EvaluationKey


def write(connection: Connection, like: Like, space: dict[str, Any], grown: list[Grown]) -> None:
    """The rows that a search would have left."""
    member, quality, key = like.member, like.quality, like.key
    newest = select(func.max(TIMING_KEYS.c.id)).where(TIMING_KEYS.c.weights_sha256 == member.weights_sha256)
    timing = connection.execute(newest).scalar_one()
    trials, last = dict(TRIALS.metadata.tables), connection.execute(select(func.max(EVALUATIONS.c.id))).scalar_one()
    first = 1 + connection.execute(select(func.max(trials["trials"].c.number))).scalar_one()
    noise = np.random.default_rng(0)
    timed_kinds = set[str]()
    for number, each in enumerate(grown):
        digest, evaluation = each.schedule.digest, last + 1 + number
        stored = {"schedule": canonical(each.schedule).decode(), "outline": summary_to_json(summarized(each.schedule))}
        connection.execute(SCHEDULES.insert().values(digest=digest, **stored))
        values = {**asdict(member), "label": f"trial {first + number}", "role": "trial", "family": ""}
        values |= {"schedule_digest": digest, "trial_number": first + number, "study": STUDY}
        connection.execute(MEMBERS.insert().values(values))
        question = EvaluationKey(**{**asdict(key), "schedule_digest": digest})
        row = {**asdict(question), "id": evaluation, "digest": question.digest, "failed": False}
        connection.execute(EVALUATIONS.insert().values(row))
        write_chunk(connection, evaluation, noise)
        record = {**asdict(quality), "value": each.quality, "lower": each.quality - 20, "upper": each.quality + 20}
        del record["evaluation"]
        record |= {"evaluation_id": evaluation, "influence": b"", "finished": time.time()}
        connection.execute(QUALITIES.insert().values(record))
        for kind, seconds in each.kinds.items():
            if kind in timed_kinds:
                continue
            timed_kinds.add(kind)
            timed = {"timing_key_id": timing, "kind": kind, "seconds": [seconds] * 2, "measured": time.time()}
            insert_once(connection, CALL_TIMINGS, timed | {"kind_digest": kind_digest(kind)})
        write_trial(connection, trials, space, first + number, each)


def neighbour(store: Store, weights: str) -> tuple[QualityRecord, EvaluationKey]:
    """A real value on search noises and these weights, and the question that it answers."""
    quality = store.studies.config(STUDY).quality
    keys = {each.digest: each.key for each in store.evaluations.evaluations(STUDY)}
    for record in store.measurements.qualities(STUDY):
        key = keys[record.evaluation]
        if (key.weights_sha256, key.seed, record.metric) == (
            weights,
            quality.search_seed,
            quality.metric,
        ):
            return record, key
    raise RuntimeError("the study measured nothing")


@cache
def kind_digest(kind: str) -> str:
    return hashlib.sha256(kind.encode()).hexdigest()


def write_chunk(connection: Connection, evaluation: int, noise: np.random.Generator) -> None:
    like = connection.execute(select(CHUNKS).limit(1)).one()._asdict()
    data = noise.lognormal(size=(NUM_IMAGES, like["width"])).astype("<f2").tobytes()
    del like["id"]
    like |= {"evaluation_id": evaluation, "first_image": 0, "num_images": NUM_IMAGES, "study": STUDY, "features": data}
    connection.execute(CHUNKS.insert().values(like))


def write_trial(connection: Connection, tables: dict[str, Any], space: dict[str, Any], number: int, of: Grown) -> None:
    frozen = create_trial(params=of.parameters, distributions=space, values=[of.quality, 1 / of.seconds])
    study = connection.execute(select(tables["studies"].c.study_id)).scalar_one()
    started = {"datetime_start": frozen.datetime_start, "datetime_complete": frozen.datetime_complete}
    row = {"number": number, "study_id": study, "state": "COMPLETE", **started}
    trial = connection.execute(tables["trials"].insert().values(row)).inserted_primary_key[0]
    attributes = {"schedule": of.schedule.digest, "exeunt:owner": "host:1:00000000"}
    insert_all(connection, tables["trial_params"], trial, [
        {
            "param_name": name,
            "param_value": space[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(space[name]),
        }
        for name, value in of.parameters.items()
    ])  # fmt: skip
    insert_all(connection, tables["trial_values"], trial, [
        {"objective": objective, "value": value, "value_type": "FINITE"}
        for objective, value in enumerate(frozen.values)
    ])  # fmt: skip
    insert_all(connection, tables["trial_user_attributes"], trial, [
        {"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()
    ])  # fmt: skip
    insert_all(connection, tables["trial_system_attributes"], trial, [
        {"key": f"constraints:{WORTHLESS}", "value_json": json.dumps(-1.0)}
    ])  # fmt: skip


def insert_all(connection: Connection, table: Any, trial: int, rows: list[dict[str, Any]]) -> None:
    connection.execute(table.insert(), [{"trial_id": trial, **row} for row in rows])


if __name__ == "__main__":
    main()
