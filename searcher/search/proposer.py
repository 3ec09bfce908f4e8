"""Asking Optuna for schedules, and reporting their measurements to it.

Optuna's study has two objectives, quality (a distance, down) and predicted images per second (up), one constraint that
keeps samplers from the worthless end of the front, and one flat set of parameters. Every trial is told once, at the
search's count of images; later measurements of the same schedule live in our own tables, because finished trials can't
be changed.

Optuna 5.0's samplers take a constraint beside several objectives: TPE counts a trial that violates it among the bad
ones, NSGA-II puts it behind all others, and GP multiplies the gain in hypervolume that it expects by the probability of
keeping it.
"""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ...backends.quality.intervals import FloatArray
from ...backends.schedule import Schedule
from ...studies.database.errors import corrupt_values
from ...studies.database.optuna.storage import StudyStorage
from ...studies.database.transactions import seconds_spent
from ...studies.workers.trials import RETRY_OF
from ..measuring.objective import AWAITED, UNMEASURABLE
from ..spaces.base import Space
from ..spaces.candidates import Candidate
from ..spaces.levers import Parameters
from .promotion import Measured
from .results import Results

if TYPE_CHECKING:
    from ..proposals.improvement import Bounds
    from ..proposals.sampler import Trust

# Optuna's own. Each takes a seed, and whether others propose beside it.
SAMPLERS: dict[str, Callable[[int, bool], BaseSampler]] = {
    # The parameters of a schedule act together; TPE's default for two objectives takes them one by one. Beside others
    # it counts what they are measuring among the bad ones, so as not to propose it again.
    "tpe": lambda seed, beside: TPESampler(multivariate=True, n_startup_trials=10, seed=seed, constant_liar=beside),
    "gp": lambda seed, _: GPSampler(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda seed, _: NSGAIISampler(seed=seed, population_size=20),
    "random": lambda seed, _: RandomSampler(seed=seed),
}

_LOG = logging.getLogger("exeunt.work")


# The constraint's name in Optuna's tables.
WORTHLESS = "worthless"


def optuna_study(storage: BaseStorage, name: str) -> optuna.Study:
    """Optuna's study of that name, made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=storage, study_name=name, directions=["minimize", "maximize"], load_if_exists=True
    )
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        study.set_metric_names(["quality", "images_per_second"])
    return study


class Proposer:
    """One study's dialogue with Optuna.

    Args:
        study: see `optuna_study`; it is in the storage.
        weights: the name of the weights that proposals run on.
        sampler: a name in `SAMPLERS`.
        seed: of the sampler. It is mixed with the number of trials that there are, because a sampler's state is not
            stored, and a resumed study must not propose its first schedules again.
        own: notes which worker a new trial belongs to, so that it can be set to FAIL if that worker dies.
        salt: drawn for this process where others propose beside it, since equal seeds propose equal schedules; None
            where it is alone.
        fits: whether a schedule may be proposed at all; None where all may.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: StudyStorage,
        space: Space,
        weights: str,
        sampler: str,
        seed: int,
        own: Callable[[Trial], None],
        salt: int | None = None,
        fits: Callable[[Schedule], bool] | None = None,
    ) -> None:
        self.study, self.space = study, space
        self._storage, self._weights, self._own, self._fits = storage, weights, own, fits
        self._asked: dict[int, Trial] = {}
        self.is_warm = False
        self._trials: list[FrozenTrial] | None = None
        # A study of an earlier version goes on as it began: finished trials can't be changed, and GP takes no mixture.
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._constrained = all(WORTHLESS in trial.constraints for trial in told)
        mixed = seed + 7919 * len(study.get_trials(deepcopy=False)) + (salt or 0)
        self._vector: Callable[[tuple[str, str]], FloatArray | None] = lambda _: None
        self._bounds: Callable[[], Bounds | None] = lambda: None
        self.study.sampler = self._made(sampler, mixed % 2**32, salt is not None)

    def _made(self, name: str, seed: int, beside: bool) -> BaseSampler:
        """The sampler of that name. Raises InputError where it doesn't work on the space."""
        if name == "auto":
            name = "front" if self.space.name == "free" else "tpe"
        if name != "front":
            return SAMPLERS[name](seed, beside)
        from ..proposals.sampler import FrontSampler
        from ..spaces.free import require_free

        return FrontSampler(
            require_free(self.space, name),
            seed=seed,
            bounds=lambda: self._bounds(),
            outcome=lambda trial: self._vector((trial.user_attrs.get("schedule", ""), self._weights)),
            constraint=WORTHLESS,
            fits=self._fits,
        )

    def learn(
        self, vector: Callable[[tuple[str, str]], FloatArray | None], bounds: Callable[[], "Bounds | None"]
    ) -> None:
        """Gives the sampler `front` what it asks for beside the trials.

        Args:
            vector: from a schedule's digest and the name of its weights to a vector whose squared length is near its
                quality, or None where there is none.
            bounds: what bounds the hypervolume; None before anything was measured.
        """
        self._vector, self._bounds = vector, bounds

    @property
    def trust(self) -> "Trust | None":
        """How far the sampler's surrogate is to be trusted; None where it has none."""
        return getattr(self.study.sampler, "trust", None)

    @property
    def expected_gain(self) -> float | None:
        """In hypervolume, of the proposal that was asked for last; None where no model chose it."""
        waits = any(each.state == TrialState.WAITING for each in self._seen)
        return None if waits else getattr(self.study.sampler, "expected_gain", None)

    def look(self) -> list[FrozenTrial]:
        """The study's trials as they are now. The counts below are of them until this proposer changes one."""
        self._trials = self.study.get_trials(deepcopy=False)
        return self._trials

    @property
    def _seen(self) -> list[FrozenTrial]:
        return self.look() if self._trials is None else self._trials

    @property
    def num_trials(self) -> int:
        return len(self._seen)

    def warm_start(self, points: Sequence[Parameters] = ()) -> None:
        """Puts a user's points next, but for those that the study has, and in a new study the space's good shapes."""
        is_new, self.is_warm = not self.look(), bool(points)
        for point in points:
            self.study.enqueue_trial(point, skip_if_exists=True)
        for point in self.space.warm_starts() if is_new else ():
            self.study.enqueue_trial(point)
        self._trials = None

    def ask(self) -> Candidate:
        """The next schedule to measure.

        Raises StorageError: the sampler, or the space, can't use what the trials hold.
        """
        self._trials = None
        with corrupt_values("the study's trials"), self._storage.together():
            trial = self.study.ask(fixed_distributions=self.space.distributions())
            schedule = self.space.build(trial.params)
            self._own(trial)
            trial.set_user_attr("schedule", schedule.digest)
        self._asked[trial.number] = trial
        return Candidate.proposed(f"trial {trial.number}", self._weights, schedule, trial.number)

    @property
    def unfinished(self) -> list[int]:
        """The trials that this process asked for and has not told anything yet."""
        return list(self._asked)

    def note(self, number: int, reason: str) -> None:
        """Stores why this worker leaves a trial to others."""
        with suppress(UpdateFinishedTrialError):
            self._asked[number].set_user_attr("reason", reason)

    def asked(self) -> int:
        """Trials that any worker asked for. A trial that was restarted after its worker died counts once."""
        trials = self._seen
        again = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        asked = [trial for trial in trials if trial.state != TrialState.WAITING and "label" not in trial.user_attrs]
        return sum(1 for trial in asked if trial.number not in again)

    def asked_elsewhere(self) -> int:
        """Trials that other workers are measuring."""
        running = (trial for trial in self._seen if trial.state == TrialState.RUNNING)
        return sum(1 for trial in running if trial.number not in self._asked)

    def tell(self, number: int, measured: Measured, violation: float) -> None:
        """Finishes a trial that was asked for, unless other workers considered this one dead and restarted the trial.

        Its schedule was measured as this candidate or an earlier one; `violation` is as `promotion.violation` says.
        """
        self._trials = None
        trial = self._asked.pop(number)
        with suppress(UpdateFinishedTrialError), self._storage.together():
            if self._constrained:
                trial.set_constraint(WORTHLESS, violation)
            self.study.tell(trial, [measured.quality, measured.speed], skip_if_finished=True)

    def fail(self, number: int, reason: str) -> None:
        """Finishes a trial that could not be measured, and keeps why."""
        self._trials = None
        trial = self._asked.pop(number)
        with suppress(UpdateFinishedTrialError), self._storage.together():
            trial.set_user_attr("reason", reason)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def tell_known(self, measured: Measured, violation: float) -> None:
        """Adds a schedule that was not proposed, such as a baseline, if the space can express it and it is not there.

        Others stay out: samplers learn from the parameters that all trials share.
        """
        point = self.space.parameters(measured.candidate.schedule)
        if point is None:
            return
        self._trials = None
        trial = create_trial(
            params=point,
            distributions=self.space.distributions(),
            values=[measured.quality, measured.speed],
            constraints={WORTHLESS: violation} if self._constrained else None,
            user_attrs={"schedule": measured.candidate.key[0], "label": measured.candidate.label},
        )
        self._storage.add_once(self._storage.get_study_id_from_name(self.study.study_name), trial, "schedule")


class OpenProposals:
    """The proposals of one worker that were not reported to Optuna yet.

    Attributes:
        waiting: those that wait for another worker's part.
        log: says what each trial cost.
    """

    def __init__(
        self,
        proposer: Proposer,
        results: Results,
        violation: Callable[[Measured], float],
        bounds: Callable[[], "Bounds | None"],
    ) -> None:
        self.waiting: list[Candidate] = []
        self.log = TrialLog()
        self._proposer, self._results, self._violation = proposer, results, violation
        self._bounds = bounds

    def add(self, candidate: Candidate) -> None:
        """Measures one more; a schedule whose samples are not finite fails its trial."""
        self.waiting.append(candidate)
        self.settle()

    def settle(self) -> None:
        """Measures what waits and tells its trials, once; what needs another worker first goes on waiting."""
        self.waiting = [each for each in self.waiting if not self._settled(each)]

    def _settled(self, candidate: Candidate) -> bool:
        assert candidate.trial is not None, "a sampler's proposal"
        try:
            measured = self._results.look(candidate, self._bounds())
            self._proposer.tell(candidate.trial, measured, self._violation(measured))
        except AWAITED:
            return False
        except UNMEASURABLE as error:
            self._proposer.fail(candidate.trial, str(error))
            self._results.leave_out(candidate, error)
        self.log.done(candidate.label, failed=candidate.key in self._results.left_out)
        return True


class TrialLog:
    """Counts from one trial of this worker to its next, and logs what each cost: seconds, and those on the database."""

    def __init__(self) -> None:
        self._at, self._storage = time.perf_counter(), seconds_spent()

    def done(self, label: str, *, failed: bool) -> None:
        """Logs a trial that was told."""
        now, storage = time.perf_counter(), seconds_spent()
        spent = {"seconds": round(now - self._at, 4), "storage_seconds": round(storage - self._storage, 4)}
        _LOG.info("trial", extra={"about": {"label": label, "state": "failed" if failed else "complete", **spent}})
        self._at, self._storage = now, storage
