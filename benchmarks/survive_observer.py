"""What is committed in a study's database, seen all along: which rows there were, and whether all of them stay."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from exeunt.backends.errors import StorageError
from exeunt.studies.database.engine import open_engine
from exeunt.studies.database.tables import (
    CALL_TIMINGS,
    CHUNKS,
    EVALUATIONS,
    LEASES,
    MEMBERS,
    QUALITIES,
    SCHEDULES,
    THROUGHPUTS,
    WORKERS,
)
from exeunt.studies.database.transactions import reading
from sqlalchemy import Connection, Engine, select, text

POLL_SECONDS = 0.3
FINISHED_TRIALS = """
    SELECT trials.number, CAST(trials.state AS VARCHAR(20)), trial_values.objective, trial_values.value
    FROM trials LEFT JOIN trial_values ON trial_values.trial_id = trials.trial_id
    WHERE CAST(trials.state AS VARCHAR(20)) IN ('COMPLETE', 'FAIL')
"""
LABELS = """
    SELECT trial_user_attributes.value_json FROM trial_user_attributes
    JOIN trials ON trials.trial_id = trial_user_attributes.trial_id
    WHERE trial_user_attributes.key = 'label' AND CAST(trials.state AS VARCHAR(20)) = 'COMPLETE'
"""
RUNNING = "SELECT number FROM trials WHERE CAST(state AS VARCHAR(20)) = 'RUNNING'"

Rows = dict[tuple[Any, ...], tuple[Any, ...]]


def committed(connection: Connection) -> Rows:
    """Every row that may never go or change again, by its key."""
    digest = EVALUATIONS.c.digest
    chunk, quality = CHUNKS.c, QUALITIES.c
    chunks = select(digest, chunk.first_image, chunk.num_images, chunk.sha256, chunk.owner, chunk.committed)
    qualities = select(digest, quality.metric, quality.reference, quality.num_images, quality.value, quality.lower)
    members = select(MEMBERS.c.label, MEMBERS.c.weights_name, MEMBERS.c.schedule_digest, MEMBERS.c.trial_number)
    timings = select(CALL_TIMINGS.c.timing_key_id, CALL_TIMINGS.c.kind_digest, CALL_TIMINGS.c.measured)
    found: Rows = {}
    for name, query, key in (
        ("chunk", chunks.join(EVALUATIONS), 2),
        ("quality", qualities.join(EVALUATIONS), 4),
        ("schedule", select(SCHEDULES.c.digest), 1),
        ("member", members, 2),
        ("timing", timings, 2),
        ("throughput", select(THROUGHPUTS.c.entry, THROUGHPUTS.c.measured), 1),
        ("trial", text(FINISHED_TRIALS), 3),
    ):
        found |= {(name, *row[:key]): tuple(row[key:]) for row in connection.execute(query)}
    return found


def images_by_seed(connection: Connection) -> Counter[int]:
    """How many images are committed on each seed's noises."""
    query = select(EVALUATIONS.c.seed, CHUNKS.c.num_images).join(EVALUATIONS)
    found = Counter[int]()
    for seed, images in connection.execute(query):
        found[seed] += images
    return found


def measured(engine: Engine) -> dict[str, dict[int, tuple[int, str]]]:
    """By evaluation, the first image of each chunk with its count and its features' digest."""
    columns = EVALUATIONS.c.digest, CHUNKS.c.first_image, CHUNKS.c.num_images, CHUNKS.c.sha256
    found: dict[str, dict[int, tuple[int, str]]] = {}
    with reading(engine) as connection:
        for digest, first, images, sha256 in connection.execute(select(*columns).join(EVALUATIONS)):
            found.setdefault(digest, {})[first] = (images, sha256)
    return found


def duplicated(engine: Engine) -> int:
    """Chunks with an image that another one of the same evaluation has, and trials told twice for one schedule."""
    with reading(engine) as connection:
        labels = Counter(connection.execute(text(LABELS)).scalars())
    twice = sum(count - 1 for count in labels.values())
    for chunks in measured(engine).values():
        end = 0
        for first, (images, _) in sorted(chunks.items()):
            twice += first < end
            end = max(end, first + images)
    return twice


def zombies(engine: Engine) -> list[str]:
    """What looks as if somebody were at work."""
    with reading(engine) as connection:
        trials = connection.execute(text(RUNNING)).scalars().all()
        leases = connection.execute(select(LEASES.c.name).where(LEASES.c.owner.is_not(None))).scalars().all()
        workers = connection.execute(select(WORKERS.c.owner).where(WORKERS.c.ended.is_(None))).scalars().all()
    return [f"trial {each}" for each in trials] + [f"lease {each}" for each in leases] + list(workers)


def longest_pause(engine: Engine) -> float:
    """The longest time between two commits of chunks, in seconds on the database's clock."""
    with reading(engine) as connection:
        moments = connection.execute(select(CHUNKS.c.committed).order_by(CHUNKS.c.committed)).scalars().all()
    return max((after - before for before, after in pairwise(moments)), default=0.0)


@dataclass
class Observer:
    """Reads what is committed, again and again, from `with` to its end.

    Attributes:
        url: of the database, which must be there.
        seen: all rows that it ever saw, as it saw them first.
        changed: the keys of those that it saw otherwise later.
        images: committed images by their noises' seed, when it looked last.
        looks: how often it looked.
        missed: how often the database was out of reach.
        broken: what ended it before its time.
    """

    url: str
    seen: Rows = field(default_factory=dict)
    changed: set[tuple[Any, ...]] = field(default_factory=set)
    images: Mapping[int, int] = field(default_factory=dict)
    looks: int = 0
    missed: int = 0
    broken: Exception | None = None

    def __enter__(self) -> "Observer":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Looks from now on."""
        self._stop = threading.Event()
        self._engine = open_engine(self.url, read_only=True)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks away, and keeps what was seen."""
        self._stop.set()
        self._thread.join()
        self._engine.dispose()

    def count(self, seed: int) -> int:
        """Images on a seed's noises when it looked last. Raises what ended it before its time."""
        if self.broken is not None:
            raise self.broken
        return self.images.get(seed, 0)

    def lost(self) -> list[tuple[Any, ...]]:
        """The keys of rows that were seen and are gone, or are not what they were."""
        with reading(self._engine) as connection:
            now = committed(connection)
        return sorted({key for key, row in self.seen.items() if now.get(key) != row} | self.changed, key=str)

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self._look()
            except StorageError:
                self.missed += 1
            except Exception as error:
                self.broken = error
                return

    def _look(self) -> None:
        with reading(self._engine) as connection:
            rows, images = committed(connection), images_by_seed(connection)
        self.changed |= {key for key, row in self.seen.items() if rows.get(key) != row}
        self.seen = rows | self.seen
        self.images = images
        self.looks += 1
