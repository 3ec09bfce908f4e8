"""Looking at studies: what `exeunt status` shows, once or again and again, read without changing or holding anything.

The database is opened for each look and closed after it, so that a watcher has one connection for a moment and none
in between, and a server that was restarted, or a file that was replaced, is simply there at the next look.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from ...backends.errors import StorageError
from ...reports.view.loading import load_view
from ...reports.view.search_front import FrontReader, SearchFront
from ...studies.config.study import StudyConfig
from ...studies.database.errors import Unreachable, corrupt_rows
from ...studies.database.transactions import reading
from ...studies.store.scores import Asked, final_stamp
from ...studies.store.store import Store, open_store
from ...studies.workers.activity import Activity, activity
from ...studies.workers.status import StudyStatus, standing


class Finals(NamedTuple):
    """What was measured on final seeds: points on the front, and the best ratio as the report has it, if any."""

    front_size: int = 0
    best_ratio: float | None = None
    best_ratio_lower: float | None = None


@dataclass(frozen=True)
class StudySnapshot:
    """One study at one moment: its budget as its settings have it, its front on search seeds, its final values."""

    study: str
    budget: str
    status: StudyStatus
    activity: Activity
    front: SearchFront
    finals: Finals


@dataclass(frozen=True)
class Snapshot:
    """What one look found.

    Attributes:
        at: seconds since 1970 on this machine's clock.
        studies: those of the look before while the storage is out of reach.
        outage: why nothing could be read; None while all is well.
    """

    at: float
    studies: tuple[StudySnapshot, ...]
    outage: str | None = None


class StatusReader:
    """Looks at one study of a database, or at all if `study` is None."""

    def __init__(self, url: str, study: str | None) -> None:
        self._url = url
        self._study = study
        self._last: tuple[StudySnapshot, ...] | None = None
        self._fronts: dict[str, FrontReader] = {}
        self._finals: dict[str, tuple[tuple[int, float], Finals]] = {}

    def read(self) -> Snapshot:
        """The studies as they stand.

        Raises:
            InputError: there is no such database or study.
            StorageError: the database can't be read.
        """
        with open_store(self._url, read_only=True) as store, corrupt_rows(store.url):
            names = [store.studies.require(self._study)] if self._study else store.studies.names()
            self._last = tuple(self._read_study(store, name) for name in names)
        return Snapshot(time.time(), self._last)

    def look(self) -> Snapshot:
        """The same, with a storage that is out of reach told and not raised, unless it never could be read."""
        try:
            return self.read()
        except StorageError as error:
            # What was read before will be readable again; what never was may be no study database at all.
            if self._last is None and not isinstance(error, Unreachable):
                raise
            return Snapshot(time.time(), self._last or (), str(error))

    def _read_study(self, store: Store, study: str) -> StudySnapshot:
        config = store.studies.config(study)
        return StudySnapshot(
            study=study,
            budget=config.run.budget,
            status=standing(store, study),
            activity=activity(store, study, config.quality.search_seed),
            front=self._fronts.setdefault(study, FrontReader(study)).read(store),
            finals=self._read_finals(store, config),
        )

    def _read_finals(self, store: Store, config: StudyConfig) -> Finals:
        """Read whole, with all that its intervals need, when there are new final values: once a budget."""
        asked = Asked(config, store.studies.pins(config.name))
        with reading(store.engine) as connection:
            stamp = final_stamp(connection, asked)
        known = self._finals.get(config.name)
        if known is None or known[0] != stamp:
            found = Finals()
            if stamp[0]:
                view = load_view(store, config.name)
                best = view.best
                found = Finals(len(view.front("final")), best.ratio if best else None, best.lower if best else None)
            known = self._finals[config.name] = (stamp, found)
        return known[1]
