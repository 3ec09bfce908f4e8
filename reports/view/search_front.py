"""The search's front and its hypervolume at this moment, cheap enough to read every few seconds.

A `StudyView` has them too, with everything else that a study has measured, which takes a second for thousands of
schedules. Here only the values are read, and the costs of schedules come from summaries that were read before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ...studies.database.transactions import reading
from ...studies.store import scores
from ...studies.store.records import ScheduleSummary, batch_seconds, kind_key
from ...studies.store.scores import Asked, Scored
from ...studies.store.store import Store
from .loading import timed_kinds
from .pareto import Score, front, hypervolume
from .standard import standard_of


@dataclass(frozen=True)
class SearchFront:
    """A front on search seeds.

    Attributes:
        size: its points, baselines among them, and vetoed ones: guards are not read every few seconds.
        hypervolume: what it dominates within `reference`; None until the full schedule is measured.
        reference: the full schedule's speed at its floor plus four times its excess, or at its own value plus what
            another noise changes; see `StudyView.reference_point`.
    """

    size: int
    hypervolume: float | None
    reference: Score | None


class FrontReader:
    """Reads the front of one study, as often as it is asked."""

    def __init__(self, study: str) -> None:
        self._study = study
        self._summaries: dict[str, ScheduleSummary] = {}

    def read(self, store: Store) -> SearchFront:
        """The front at this moment, as `StudyView` has it but for vetoes."""
        config, pins = store.studies.config(self._study), store.studies.pins(self._study)
        rows, noise = _values(store, Asked(config, pins))
        timed = timed_kinds(store, config, store.studies.environment(self._study), pins)
        medians = [{kind_key(kind): median(raw) for kind, raw in each.items()} for each in timed]
        unknown = {row.schedule_digest for row in rows} - self._summaries.keys()
        if unknown:
            self._summaries |= store.evaluations.held(unknown)
        found = {  # without those that make a kind of call that isn't timed
            row.member: Score(row.value, config.throughput.batch_size / seconds)
            for row in rows
            if (seconds := batch_seconds(self._summaries[row.schedule_digest], medians))
        }
        corner = _corner(rows, found, noise)
        measured = list(found.values())
        return SearchFront(
            size=len(front(measured, lambda score: score)),
            hypervolume=hypervolume(measured, corner) if corner else None,
            reference=corner,
        )


def _values(store: Store, asked: Asked) -> tuple[list[Scored], float | None]:
    """Each member's value, and what another noise changes where that was measured."""
    quality = asked.config.quality
    with reading(store.engine) as connection:
        search = scores.full_question(connection, asked, quality.search_seed)
        final = scores.full_question(connection, asked, quality.final_seed)
        against_images = standard_of(quality, None).kind == "reference"
        reference = asked.pins.get("quality.reference") if against_images else search
        rows = scores.scored(connection, asked, quality.search_seed, reference)
        noise = scores.noise(connection, asked, search, final) if search and final else None
    return list({row.member: row for row in rows}.values()), noise


def _corner(rows: Sequence[Scored], found: Mapping[int, Score], noise: float | None) -> Score | None:
    """The reference point: what is not better than the full schedule with four times its excess counts for nothing."""
    full = next((row for row in rows if row.family == "full"), None)
    if full is None or full.member not in found:
        return None
    beyond = 3 * max(full.value - (full.floor or 0.0), 0.0) if noise is None else noise
    return Score(full.value + beyond, found[full.member].speed)
