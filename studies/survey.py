"""One look at all workers of a study: who lives, who died, and whether a dead one left a trial behind."""

from __future__ import annotations

from dataclasses import dataclass

from .optuna_rows import marks_of_running
from .patience import patiently
from .store import Store
from .transactions import reading
from .trials import OWNER
from .workers import unended_workers


@dataclass(frozen=True)
class Survey:
    """What there was at one moment.

    Attributes:
        alive: the owners that work on the study.
        dead: those that don't live any more and that nobody has ended yet, of all studies.
        orphans: how many running trials have no living owner.
    """

    alive: frozenset[str]
    dead: frozenset[str]
    orphans: int


def survey(store: Store, study: str) -> Survey:
    """Looks at a study's workers and trials. Whoever asks for a trial is among the workers by then."""

    def look() -> Survey:
        with reading(store.engine) as connection:
            workers = unended_workers(connection)
            owners = marks_of_running(connection, OWNER, study)
        dead = frozenset(each.owner for each in workers if each.dead is not None)
        alive = frozenset(each.owner for each in workers if each.study == study) - dead
        return Survey(alive, dead, sum(1 for owner in owners if owner not in alive))

    return patiently(store.engine, look)
