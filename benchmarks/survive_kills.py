"""Worker processes killed at random moments, and what is true of the study afterwards."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.database.tables import CHUNKS, EVALUATIONS
from exeunt.studies.database.transactions import reading
from exeunt.studies.workers import shared_state
from sqlalchemy import Engine, select
from survive_crew import WORDS_OF_LOCKS, Crew, said
from survive_databases import Database, Databases, databases
from survive_observer import Observer, duplicated, longest_pause, measured, zombies
from survive_study import STUDY, Study, copy_timings, fixed, run

SEARCH_SEED, FINAL_SEED = 0, 1
LIMIT_SECONDS = 3000.0
LATEST = 0.9  # share of a part of the work after which nobody is killed any more: a restart takes some seconds
JITTER_SECONDS = 1.0  # a commit decides that a kill is due, and a random while after it the kill comes


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; None: as many as the scenario needs."""

    storage: str
    network: str
    workers: int
    kills: int
    trials: int | None
    seed: int
    crowd: int | None = None


def kills(wanted: Wanted) -> dict[str, Any]:
    """SIGKILLs at random moments, restarts included, and then the same list of proposals undisturbed."""
    with databases(wanted.storage) as made, made.new() as database:
        study = fixed(wanted.network, wanted.trials or max(24, 3 * wanted.kills), wanted.seed, database.folder)
        study.begin(database, workers=0)
        chance = random.Random(wanted.seed)
        with Observer(database.url) as observer, Crew(database, wanted.workers) as crew:
            done = kill_all_along(wanted, study, observer, crew, chance)
            crew.finish(LIMIT_SECONDS)
            found = verdict(database, observer, crew, study)
        found |= {"kills": done, "kills_missed": wanted.kills - done}
        found |= {"same_as_undisturbed": is_same(made, database, study, wanted.workers)}
    return found


def kill_all_along(wanted: Wanted, study: Study, observer: Observer, crew: Crew, chance: random.Random) -> int:
    """Kills so often, spread over the search and the front's measurement; returns how often."""
    late = max(1, wanted.kills // 6)
    early = sorted(chance.uniform(0.0, LATEST) for _ in range(wanted.kills - late))
    done = 0
    for share in early:
        done += kill_at(lambda at=share: observer.count(SEARCH_SEED) >= at * study.images, crew, chance)
    engine = open_engine(observer.url, read_only=True)
    crew.until(lambda: compared(engine) > 0, LIMIT_SECONDS)
    images = compared(engine) * study.settings["quality.final_images"]
    engine.dispose()
    for share in (0.0, *sorted(chance.uniform(0.0, LATEST * 0.8) for _ in range(late - 1))):
        done += kill_at(lambda at=share: observer.count(FINAL_SEED) >= at * images, crew, chance)
    return done


def kill_at(is_due: Any, crew: Crew, chance: random.Random) -> bool:
    """Waits for a moment and kills somebody a random while after it; False where all had ended."""
    if not crew.until(is_due, LIMIT_SECONDS):
        return False
    crew.rest(chance.uniform(0.0, JITTER_SECONDS))
    victim = crew.victim(chance)
    if victim is None:
        return False
    crew.kill(victim)
    return True


def compared(engine: Engine) -> int:
    """How many schedules the front's measurement compares; 0 while the study searches."""
    choice = shared_state.choice_of(optuna.load_study(study_name=STUDY, storage=optuna_storage(engine)))
    return 0 if choice is None else len(choice.compared)


def verdict(database: Database, observer: Observer, crew: Crew, study: Study) -> dict[str, Any]:
    """What a study that came to its end has lost, doubled and left behind."""
    engine = open_engine(database.url, read_only=True)
    in_vain = images_in_vain(engine, crew)
    found = {
        "lost": len(observer.lost()),
        "duplicated": duplicated(engine),
        "zombies": len(zombies(engine)) + len(crew.alive),
        "images_lost_per_kill": max(in_vain, default=0),
        "mean_images_lost_per_kill": round(sum(in_vain) / max(1, len(in_vain)), 2),
        "chunk_images": study.chunk,
        "findings": findings(database),
        "incomplete": incomplete(engine, study),
        "rows_watched": len(observer.seen),
        "looks": observer.looks,
        "starts": len(crew.members),
        "exit_codes": crew.codes,
        "lock_errors": len(said(crew.members, WORDS_OF_LOCKS)),
        "tracebacks": len(said(crew.members, ("Traceback",))),
        "longest_pause_seconds": round(longest_pause(engine), 1),
    }
    engine.dispose()
    return found


def findings(database: Database) -> list[str]:
    """What `exeunt db check` finds, features held to their digests; nothing is what it should find."""
    done = run(database, ["db", "check", "--json"], check=False)
    if done.returncode not in (0, 1):
        return [done.stderr.strip()[-500:]]
    return [f"{each['kind']}: {each['what']}" for each in json.loads(done.stdout)["findings"]][:5]


def images_in_vain(engine: Engine, crew: Crew) -> list[int]:
    """Of each worker that was killed, the images that it sampled and that no row in its name holds."""
    with reading(engine) as connection:
        query = select(EVALUATIONS.c.digest, CHUNKS.c.first_image, CHUNKS.c.owner).join(EVALUATIONS)
        rows = {(digest, first, owner.split(":")[-2]) for digest, first, owner in connection.execute(query)}
    killed = [each for each in crew.members if each.killed]
    return [
        sum(
            images
            for (digest, first), images in each.in_vain.items()
            if (digest, first, str(each.process.pid)) not in rows
        )
        for each in killed
    ]


def incomplete(engine: Engine, study: Study) -> int:
    """How many evaluations of the search lack images; every one that was begun must be whole."""
    wanted = study.settings["quality.num_images"], study.settings["quality.final_images"]
    counts = [sum(images for images, _ in chunks.values()) for chunks in measured(engine).values()]
    return sum(1 for count in counts if count not in wanted)


def is_same(made: Databases, disturbed: Database, study: Study, workers: int) -> bool:
    """Whether nobody's disturbance changes what is measured: the same evaluations, chunk by chunk to the last bit."""
    with made.new() as database:
        copy_timings(disturbed, database)
        study.begin(database, workers)
        return features(database) == features(disturbed)


def features(database: Database) -> Mapping[str, Mapping[int, tuple[int, str]]]:
    engine = open_engine(database.url, read_only=True)
    try:
        return measured(engine)
    finally:
        engine.dispose()
