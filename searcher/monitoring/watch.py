"""Looking at studies again and again: what `exeunt status --watch` shows, read without changing or holding anything.

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
from ...studies.database.errors import Unreachable
from ...studies.database.foreign import corrupt_rows
from ...studies.database.transactions import reading
from ...studies.store.scores import Asked, final_stamp
from ...studies.store.store import Store, open_store
from ...studies.workers.activity import Activity, activity
from ...studies.workers.status import StudyStatus, standing


class Finals(NamedTuple):
    """What was measured on final seeds.

    Attributes:
        front_size: points on the final front.
        best_ratio, best_ratio_lower: as the report has them; None before there are any.
    """

    front_size: int = 0
    best_ratio: float | None = None
    best_ratio_lower: float | None = None


@dataclass(frozen=True)
class StudySnapshot:
    """One study at one moment.

    Attributes:
        study: its name.
        budget: what its settings say, as text.
        stands: what it does, has spent and has left.
        activity: who works, how fast, and what went wrong.
        front: on search seeds.
        finals: on final seeds.
    """

    study: str
    budget: str
    stands: StudyStatus
    activity: Activity
    front: SearchFront
    finals: Finals


@dataclass(frozen=True)
class Snapshot:
    """What one look found.

    Attributes:
        at: seconds since 1970 on this machine's clock.
        glances: the studies; those of the look before while the storage is out of reach.
        outage: why nothing could be read; None while all is well.
    """

    at: float
    glances: tuple[StudySnapshot, ...]
    outage: str | None = None


class StatusReader:
    """Looks at one study of a database, or at all.

    Args:
        url: the database's.
        study: a name; None for all.
    """

    def __init__(self, url: str, study: str | None) -> None:
        self._url = url
        self._study = study
        self._last: tuple[StudySnapshot, ...] | None = None
        self._fronts: dict[str, FrontReader] = {}
        self._finals: dict[str, tuple[tuple[int, float], Finals]] = {}

    def look(self) -> Snapshot:
        """The studies as they stand. A storage that is out of reach is told of and not raised.

        Raises:
            InputError: there is no such database or study.
            StorageError: the database can't be read, and never could.
        """
        try:
            with open_store(self._url, read_only=True) as store, corrupt_rows(store.url):
                names = [store.studies.require(self._study)] if self._study else store.studies.names()
                self._last = tuple(self._glance(store, name) for name in names)
        except StorageError as error:
            # What was read before will be readable again; what never was may be no study database at all.
            if self._last is None and not isinstance(error, Unreachable):
                raise
            return Snapshot(time.time(), self._last or (), str(error))
        return Snapshot(time.time(), self._last)

    def _glance(self, store: Store, study: str) -> StudySnapshot:
        config = store.studies.config(study)
        front = self._fronts.setdefault(study, FrontReader(study))
        return StudySnapshot(
            study=study,
            budget=config.run.budget,
            stands=standing(store, study),
            activity=activity(store, study, config.quality.search_seed),
            front=front.read(store),
            finals=self._final(store, config),
        )

    def _final(self, store: Store, config: StudyConfig) -> Finals:
        """Read whole, with all that its intervals need, when there are new final values: once a budget."""
        asked = Asked(config, store.studies.pins(config.name))
        with reading(store.engine) as connection:
            stamp = final_stamp(connection, asked)
        known = self._finals.get(config.name)
        if known is None or known[0] != stamp:
            known = self._finals[config.name] = (stamp, _finals(store, config.name) if stamp[0] else Finals())
        return known[1]


def _finals(store: Store, study: str) -> Finals:
    view = load_view(store, study)
    best = view.best
    return Finals(len(view.front("final")), best.ratio if best else None, best.lower if best else None)
