"""How a stored study stands: what it is doing, what it has spent, and what is left of a budget."""

from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from ..studies.budget import Budget
from ..studies.records import Progress
from ..studies.storage import optuna_storage
from ..studies.store import Store, open_store
from ..studies.transactions import storage_errors
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
    progress = store.studies.progress(study)
    with storage_errors(store.engine):
        try:
            loaded = optuna.load_study(study_name=study, storage=optuna_storage(store.engine))
        except KeyError:
            return Standing("not started", {}, progress)
        states = [trial.state.name.lower() for trial in loaded.get_trials(deepcopy=False)]
    counted = {state.name.lower(): states.count(state.name.lower()) for state in TrialState}
    return Standing(
        state=str(loaded.user_attrs.get("state", "not started")),
        trials={state: count for state, count in counted.items() if count},
        progress=progress,
    )


def standing_at(url: str, study: str) -> Standing:
    """How a study of a database at a URL stands, read without changing anything."""
    with open_store(url, read_only=True) as store:
        return standing(store, study)
