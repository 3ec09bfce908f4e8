"""How a stored study stands: what it is doing, what it has spent, and what is left of a budget."""

from dataclasses import dataclass

from ..studies.budget import Budget
from ..studies.optuna_rows import study_attributes, trial_counts
from ..studies.records import Progress
from ..studies.store import Store, open_store
from ..studies.transactions import reading
from .notes import FINISHED

# An interrupted study gets at least this share of its budget again, or it could not measure its front.
LEAST_SHARE = 0.4


@dataclass(frozen=True)
class Standing:
    """How a study stands.

    Attributes:
        state: what it does or did last, in words; "finished" once its front was measured.
        trials: Optuna's trials by state.
        progress: what is committed.
    """

    state: str
    trials: dict[str, int]
    progress: Progress

    @property
    def finished(self) -> bool:
        """Whether the front was measured and nothing was asked for since."""
        return self.state == FINISHED

    def left(self, budget: Budget) -> Budget:
        """What an interrupted study has left of a budget, with enough to measure its front."""

        def left(limit: float | None, spent: float) -> float | None:
            return None if limit is None else max(limit - spent, LEAST_SHARE * limit)

        told = self.trials.get("complete", 0) + self.trials.get("fail", 0)
        seconds = left(budget.seconds, self.progress.worker_seconds)
        trials, images = left(budget.trials, told), left(budget.images, self.progress.images)
        return Budget(
            seconds=None if seconds is None else round(seconds, 1),
            trials=None if trials is None else round(trials),
            images=None if images is None else round(images),
        )


def standing(store: Store, study: str) -> Standing:
    """How a study of an open database stands."""
    with reading(store.engine) as connection:
        trials, states = trial_counts(connection, study), study_attributes(connection, "state", study)
    return Standing(str(states.get(study, "not started")), trials.get(study, {}), store.studies.progress(study))


def standing_at(url: str, study: str) -> Standing:
    """How a study of a database at a URL stands, read without changing anything."""
    with open_store(url, read_only=True) as store:
        return standing(store, study)
