"""The state of a stored study: what it is doing, what it has spent, and what is left of a budget."""

from dataclasses import dataclass

from ..config.budget import Budget, parse_budget
from ..database.errors import corrupt_rows
from ..database.optuna.tables import marked_trials, study_attributes, trial_counts
from ..database.transactions import reading
from ..store.records import Progress
from ..store.store import Store, open_store
from .shared_state import CHOICE, FINISHED, GRANT, STATE, BudgetShare, end_reason, seconds_at_work
from .trials import RETRY_OF

# An interrupted study gets at least this share of its time and images again, or it could not measure its front.
LEAST_SHARE = 0.4


@dataclass(frozen=True)
class StudyStatus:
    """How a study stands.

    Attributes:
        state: what it does or did last, in words; "finished" once its front was measured.
        trials: Optuna's trials by state.
        progress: what is committed.
        rest: what is left of the budget that the study was given last; None where no worker took one.
        ended: why its last search ended before its budget was spent; empty where it did not.
    """

    state: str
    trials: dict[str, int]
    progress: Progress
    rest: Budget | None = None
    ended: str = ""

    @property
    def finished(self) -> bool:
        """Whether the front was measured and nothing was asked for since."""
        return self.state == FINISHED

    def left(self, budget: Budget) -> Budget:
        """What an interrupted study has left of a budget, with enough to measure its front."""

        def left(limit: float | None, rest: float | None) -> float | None:
            return None if limit is None else max(limit if rest is None else rest, LEAST_SHARE * limit)

        rest = self.rest or Budget()
        seconds = left(budget.seconds, rest.seconds)
        images = left(budget.images, rest.images)
        return Budget(
            seconds=None if seconds is None else round(seconds, 1),
            trials=budget.trials if rest.trials is None else rest.trials,
            images=None if images is None else round(images),
        )


def standing(store: Store, study: str) -> StudyStatus:
    """How a study of an open database stands."""
    with reading(store.engine) as connection:
        trials, states = trial_counts(connection, study), study_attributes(connection, STATE, study)
        grants, choices = (study_attributes(connection, each, study) for each in (GRANT, CHOICE))
        others = marked_trials(connection, "label", study) + marked_trials(connection, RETRY_OF, study)
    counts, progress = trials.get(study, {}), store.studies.progress(study)
    asked = sum(counts.values()) - counts.get("waiting", 0) - others
    rest = _rest(store, study, BudgetShare(**grants[study]), asked, progress.images) if study in grants else None
    ended = end_reason(grants.get(study), choices.get(study))
    return StudyStatus(str(states.get(study, "not started")), counts, progress, rest, ended)


def _rest(store: Store, study: str, grant: BudgetShare, asked: int, images: int) -> Budget:
    """What all workers together have left of a budget that was given."""
    budget, seconds = parse_budget(grant.budget, rest=True), seconds_at_work(store, study, grant.started)
    return Budget(
        seconds=None if budget.seconds is None else max(0.0, budget.seconds - seconds),
        trials=None if budget.trials is None else max(0, budget.trials - max(0, asked - grant.trials)),
        images=None if budget.images is None else max(0, budget.images - (images - grant.images)),
    )


def read_status(url: str, study: str) -> StudyStatus:
    """How a study of a database at a URL stands, read without changing anything."""
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        return standing(store, study)
