"""The parts of one command's work on a study, and its other workers: how many there are, and how it waits for them."""

import time
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from ...backends.errors import Interrupted
from ...backends.quality.names import GUARD_PAIRED
from ...reports.view.interval import Interval
from ...reports.view.standard import standard_of
from ...studies import interruption
from ...studies.store.records import QualityRecord
from ...studies.store.store import Store
from ...studies.workers import shared_state
from ...studies.workers.shared_state import FrontChoice, has_timing_worker, order
from ...studies.workers.trials import TrialKeeper, peer_snapshot
from ...studies.workers.workers import Worker, exclusive
from ..measuring.objective import AWAITED
from ..monitoring.progress import ProgressListener
from ..proposals.improvement import Bounds
from ..spaces.candidates import Candidate
from .budget import Forecast, SharedBudget
from .promotion import (
    NO_YARDSTICK,
    Measured,
    Yardstick,
    front_error,
    priorities,
    search_bounds,
    violation,
    worst_excess,
    yardstick,
)
from .proposer import OpenProposals, Proposer
from .results import Results

if TYPE_CHECKING:
    from ..measuring.fitting import RowFitter

LOOK_SECONDS = 1.0  # between two looks: a look takes some milliseconds


class Peers:
    """What one worker knows of the others: how many are alive, which died, and whether all must pause or stop.

    Attributes:
        others: the living workers beside this one, when it last looked.
    """

    def __init__(self, store: Store, study: str, worker: Worker, keeper: TrialKeeper) -> None:
        self.worker, self.keeper, self.others = worker, keeper, 0
        self._store, self._study = store, study
        self._looked = self._asked = float("-inf")
        self._wanted: str | None = None

    @property
    def size(self) -> int:
        return 1 + self.others

    def look(self, *, now: bool = False) -> bool:
        """Ends the dead and counts the living, once a second or `now`.

        Returns:
            Whether it looked, and others are there or were there the last time: what they did is worth reading then.
        """
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        before = self.others
        found = peer_snapshot(self._store, self._study)
        if found.dead or found.orphans:
            self.keeper.fail_dead()
        self.others = len(found.alive - {self.worker.owner})
        self._looked = time.monotonic()
        return before + self.others > 0

    def wanted(self) -> str | None:
        """What a user ordered all workers to do, `pause` or `stop`, as of the last second."""
        if time.monotonic() - self._asked >= LOOK_SECONDS:
            found = order(self._store, self._study)
            self._wanted = None if found is None else found.wanted
            self._asked = time.monotonic()
        return self._wanted


_POLL_SECONDS = 0.25  # between two looks at what this worker waits for


class Stopped(Interrupted):
    """A user stopped all workers of the study."""

    identifier = "stopped"


class NoTimingWorker(Interrupted):
    """No worker is left on the study's target device."""

    identifier = "no-target"


class Session:
    """Holds the parts together. A function takes those that it uses; the phases of the work take all of them.

    Attributes:
        watch: who is told what goes on.
        choice: what all workers compare in the end, once one of them has chosen.
        open: the proposals of this worker that wait for their values.
        fitted: the keys of the trials whose rows this worker has fitted.
        ended: why the search ends before its budget, as a sentence's end; empty while it doesn't.
    """

    def __init__(
        self, results: Results, proposer: Proposer, peers: Peers, budget: SharedBudget, watch: ProgressListener
    ) -> None:
        self.results, self.proposer, self.peers, self.budget, self.watch = results, proposer, peers, budget, watch
        self.objective = results.objective
        self.study_setup, self.store = self.objective.study_setup, self.objective.store
        self.choice: FrontChoice | None = None
        self.fitted: set[tuple[str, str]] = set()
        self.ended = ""
        self.open = OpenProposals(proposer, results, self.violation, self.bounds)
        proposer.learn(results.vector, self.bounds)
        self._judged_by, self._yardstick = (-1, -1), NO_YARDSTICK
        self._alone_since: float | None = None  # found nobody on the target device, on `time.monotonic`'s clock

    @property
    def name(self) -> str:
        return self.study_setup.config.name

    @property
    def forecast(self) -> Forecast:
        """What the rest of the work will take, as it looks now."""
        return Forecast(self.objective, self.budget.meter, self.peers.size)

    @cached_property
    def _noise(self) -> QualityRecord | None:
        """What another noise changes, where quality is stated against the baseline's images; else None."""
        while True:
            try:
                return self.objective.noise()
            except AWAITED:
                self.wait()

    @cached_property
    def fitter(self) -> "RowFitter":
        """Fits rows of the study's schedules; its full trajectories are sampled at the first fit."""
        from ..measuring.fitting import RowFitter

        return RowFitter(self.study_setup, self.objective.check)

    @property
    def yardstick(self) -> Yardstick:
        """What schedules are judged by, as far as it was measured."""
        nothing = self.objective.nothing
        if self._judged_by != (known := (len(nothing), len(self.results.measured))):
            noise = None if self._noise is None else Interval.of(self._noise)
            config = self.study_setup.config
            standard = standard_of(config.quality, noise, self.objective.scale, config.run.goal)
            paired = [each.value for each in nothing if each.metric.endswith(f":{GUARD_PAIRED}")]
            self._yardstick = yardstick(self.results.measured.values(), standard, min(paired, default=None))
            self._judged_by = known
        return self._yardstick

    def bounds(self) -> Bounds | None:
        """What bounds the hypervolume that the sampler is after."""
        return search_bounds(self.results.ordered, self.yardstick.standard)

    def front_noise(self) -> float | None:
        """The standard error of the hypervolume that the sampler is after, in pairs; None before there is one."""
        if (bounds := self.bounds()) is None:
            return None
        wanted = [each for each in self.results.ordered if self.violation(each) <= 0]
        full = {each.candidate.weights: each.candidate for each in wanted if each.candidate.family == "full"}
        baseline = self.study_setup.baseline

        def error(candidate: Candidate) -> float:
            return self.objective.error_beside(candidate, full.get(candidate.weights, baseline))

        return front_error(wanted, bounds, error)

    def violation(self, measured: Measured) -> float:
        """How far a schedule is in the worthless end of the front, or vetoed; 0 or less where it is neither."""
        judged = self.yardstick
        return violation(measured, worst_excess(self.results.ordered, judged.standard), judged.guards)

    def promoted(self) -> list[Candidate]:
        """All that deserve final seeds, the most deserving first."""
        return [each.candidate for each in priorities(self.results.ordered, self.yardstick)]

    def exclusive(self, work: str) -> AbstractContextManager[bool]:
        """Whether it is this worker's turn to do a work of the study, for as long as the block lasts."""
        return exclusive(self.store, f"{work} {self.name}", self.peers.worker)

    def refresh(self, *, now: bool = False) -> None:
        """Reads what other workers have done, once a second or `now`. It costs almost nothing without others.

        Raises Stopped: all workers are to end.
        """
        self.objective.check()
        self.obey_requests()
        if self.peers.look(now=now):
            found, self.choice = shared_state.share_and_choice(self.proposer.study)
            if found is not None and found.id != self.budget.share.id:
                self.budget.spend(found)
                self.ended = ""
            self.results.restore()
        if self.peers.others:
            self.budget.count()

    def obey_requests(self) -> None:
        """Waits while the study is paused."""
        said = False
        while (wanted := self.peers.wanted()) is not None:
            if wanted == "stop":
                raise Stopped("Stopped by `exeunt study stop`; what was committed is kept. Go on with `exeunt resume`.")
            if not said:
                self.watch.say("paused by `exeunt study pause`")
            said = True
            self.rest(_POLL_SECONDS)
        if said:
            self.watch.say("going on")

    def wait(self) -> None:
        self.rest(_POLL_SECONDS)
        self.refresh()

    def rest(self, seconds: float) -> None:
        """Sleeps, unless this command is to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.objective.check()
            interruption.wait(min(left, _POLL_SECONDS))

    def await_others(self) -> None:
        """Waits a moment for other workers to do their part.

        Raises NoTimingWorker: this worker can't time anything, and for one lease no worker that can was alive.
        """
        self.wait()
        costs, now = self.objective.costs, time.monotonic()
        if costs.can_time or has_timing_worker(self.store, self.name, costs.target):
            self._alone_since = None
            return
        self._alone_since = self._alone_since or now
        if now - self._alone_since > self.study_setup.config.run.lease_seconds:
            raise NoTimingWorker(
                f"study `{self.name}` must be timed on {costs.target['device']}, but no worker runs there, and this "
                "one has nothing left to do. Start a worker there, or make this device the target: "
                "exeunt worker --target."
            )

    def enter(self, state: str) -> None:
        """Begins a part of the work, and notes it where `exeunt status` reads it."""
        shared_state.enter(self.proposer.study, state, beside_others=self.peers.others > 0)
        self.watch.phase(state, 1.0)
