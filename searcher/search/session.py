"""One command's work on one study: what it measures with, where it writes, what it may spend, who watches.

What each trial cost a worker, as log records for whoever collects them: seconds, and those spent on the database.

Waiting for workers on the device that a study is about, where this one measures quality alone.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from ...backends.errors import Interrupted
from ...studies import interruption
from ...studies.config.budget import parse_budget
from ...studies.database.retries import seconds_spent
from ...studies.store.outlines import ScheduleSummary
from ...studies.store.records import QualityRecord
from ...studies.store.store import Store
from ...studies.workers import shared_state, spending
from ...studies.workers.shared_state import NOTHING, BudgetShare, FrontChoice
from ...studies.workers.target import has_timing_worker
from ..measuring.candidate import Candidate
from ..measuring.costs import Costs
from ..measuring.objective import AWAITED, UNMEASURABLE, Objective
from ..measuring.setup import StudySetup
from ..monitoring.progress import ProgressListener
from .budget import BudgetMeter
from .device_check import DeviceCheck
from .peers import Peers
from .promotion import Measured
from .proposer import Proposer

_LOG = logging.getLogger("exeunt.work")


class TrialLog:
    """Counts from one trial of this worker to its next."""

    def __init__(self) -> None:
        self._at, self._storage = time.perf_counter(), seconds_spent()

    def done(self, label: str, *, failed: bool = False) -> None:
        """Logs a trial that was told."""
        now, storage = time.perf_counter(), seconds_spent()
        spent = {"seconds": round(now - self._at, 4), "storage_seconds": round(storage - self._storage, 4)}
        _LOG.info("trial", extra={"about": {"label": label, "state": "failed" if failed else "complete", **spent}})
        self._at, self._storage = now, storage


_POLL_SECONDS = 0.25  # between two looks at what this worker waits for


class Stopped(Interrupted):
    """Somebody wants all workers of the study to end."""

    identifier = "stopped"


@dataclass
class Session:
    """Holds the parts together, and what has been measured on search seeds so far.

    Attributes:
        study_setup: what to measure with.
        store: the study database.
        objective: measures candidates.
        costs: what schedules take.
        proposer: the dialogue with Optuna.
        peers: the other workers of the study.
        grant: the budget that they spend together.
        meter: what is left of it.
        trust: whether this worker's device can be relied on.
        watch: who is told.
        check: raises to stop.
        measured: by the candidates' keys, in the order in which this worker learnt of them.
        left_out: the keys of candidates that can't be measured.
        given: what a user proposed.
        open: proposals that wait for another worker's part.
        choice: what all workers compare in the end, once one of them has chosen.
        log: says what each trial cost.
        unmanned_since: when this worker found nobody on the target device, on `time.monotonic`'s clock.
    """

    study_setup: StudySetup
    store: Store
    objective: Objective
    costs: Costs
    proposer: Proposer
    peers: Peers
    meter: BudgetMeter
    trust: DeviceCheck
    watch: ProgressListener
    check: Callable[[], None]
    measured: dict[tuple[str, str], Measured] = field(default_factory=dict[tuple[str, str], Measured])
    left_out: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    given: list[Candidate] = field(default_factory=list[Candidate])
    open: list[Candidate] = field(default_factory=list[Candidate])
    grant: BudgetShare = NOTHING
    choice: FrontChoice | None = None
    unmanned_since: float | None = None
    log: TrialLog = field(default_factory=TrialLog)
    _schedules: dict[str, ScheduleSummary] = field(default_factory=dict[str, ScheduleSummary])

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study_setup.config.name

    @property
    def is_stated(self) -> bool:
        """Whether the schedule that everything is stated against has been measured."""
        return self.study_setup.baseline.key in self.measured

    @property
    def results(self) -> list[Measured]:
        """What has been measured, the schedule that everything is stated against first."""
        first = self.study_setup.baseline.key
        return sorted(self.measured.values(), key=lambda each: each.candidate.key != first)

    @cached_property
    def noise(self) -> float | None:
        """What another noise changes, where quality is stated against the baseline's images; else None."""
        while True:
            try:
                found = self.objective.noise()
                return None if found is None else found.value
            except AWAITED:
                self.wait()

    def measure(self, candidate: Candidate) -> Measured:
        """A candidate's values on search seeds; sampled, or looked up where they are known.

        Raises:
            UNMEASURABLE: it can't be measured; the store keeps the reason.
            AWAITED: another worker has to do its part first, or all are to pause.
            Interrupted: the command is to stop; committed chunks are kept.
        """
        self.check()
        if candidate.key not in self.measured:
            quality = self.study_setup.config.quality
            sampled = self.collect(candidate, quality.search_seed, range(quality.num_images), register=True)
            record = self.objective.score(candidate, quality.search_seed, quality.num_images)
            self._remember(candidate, record)
            self.watch.say(self._line(candidate, sampled))
        return self.measured[candidate.key]

    def collect(self, candidate: Candidate, seed: int, images: range, *, register: bool = False) -> int:
        """As `Objective.collect`; raises DeviceError as well where this worker's device can't be trusted any more."""
        try:
            sampled = self.objective.collect(candidate, seed, images, register=register)
        except UNMEASURABLE as error:
            self.trust.failed(error)
            raise
        self.trust.succeeded(sampled)
        return sampled

    def leave_out(self, candidate: Candidate, error: Exception) -> None:
        """Goes on without a candidate that can't be measured, and says why."""
        self.left_out.add(candidate.key)
        self.watch.say(f"{candidate.label} failed: {error}")

    def refresh(self, *, now: bool = False) -> None:
        """Takes in what other workers have done, once a second or `now`; costs next to nothing where there are none.

        Raises:
            Stopped: all workers are to end.
        """
        self.check()
        self.heed()
        if self.peers.look(now=now):
            self._take_grant()
            self.restore()
        if self.peers.others:
            self._count()

    def spend(self, grant: BudgetShare) -> None:
        """Spends from now on what is left of a budget that all workers have."""
        self.grant, self.choice = grant, shared_state.choice_of(self.proposer.study)
        seconds = spending.seconds_at_work(self.store, self.name, grant.started)
        self.meter.restart(parse_budget(grant.budget, rest=True), seconds)
        self._count()

    def heed(self) -> None:
        """Waits for as long as all workers are to pause."""
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
        """Waits a moment for others, and takes in what they did meanwhile."""
        self.rest(_POLL_SECONDS)
        self.refresh()

    def rest(self, seconds: float) -> None:
        """Sleeps, unless this command is to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            interruption.wait(min(left, _POLL_SECONDS))

    def restore(self) -> None:
        """Takes in what this study has measured on search seeds, in earlier sessions or beside this one."""
        members = self.members()
        self.given = [each for each in members if each.role == "trial" and each.trial is None]
        self.objective.refresh()
        if not self.costs.can_time:
            self.costs.refresh()
        for candidate in members:
            if self.is_done(candidate):
                continue
            record = self._scored(candidate)
            if record is not None and self.costs.can_tell(candidate.stored):
                self._learn(candidate, record)

    def members(self) -> list[Candidate]:
        """The study's members, in the order in which they were added."""
        members = self.store.studies.members(self.name)
        unknown = {member.schedule_digest for member in members} - self._schedules.keys()
        if unknown and not self._schedules:
            self._schedules = self.store.evaluations.stored_schedules(self.name)
        elif unknown:
            self._schedules |= self.store.evaluations.held(unknown)
        return [
            Candidate(
                member.label,
                member.role,
                member.family,
                member.weights_name,
                self._schedules[member.schedule_digest],
                member.trial_number,
            )
            for member in members
        ]

    def enter(self, state: str) -> None:
        """Begins a part of the work, and notes it where `exeunt status` reads it."""
        shared_state.enter(self.proposer.study, state, beside_others=self.peers.others > 0)
        self.watch.phase(state, 1.0)

    def _take_grant(self) -> None:
        """Goes on with another budget if the study was given one meanwhile."""
        found, choice = shared_state.grant_and_choice(self.proposer.study)
        if found is not None and found.id != self.grant.id:
            self.spend(found)
        self.choice = choice

    def _count(self) -> None:
        """Counts what all workers have spent of the grant, and what they are about to spend."""
        self.proposer.look()
        running = self.proposer.asked_elsewhere()
        self.meter.trials = self.trials_spent() - self.grant.trials
        if self.meter.budget.images is not None:
            spent = spending.images_spent(self.store, self.name) - self.grant.images
            self.meter.images = spent + running * self.study_setup.config.quality.num_images

    def trials_spent(self) -> int:
        """Proposals of the study that were measured, could not be, or are being measured; a user's among them."""
        return self.proposer.asked() + sum(1 for each in self.given if self.is_done(each) or self._scored(each))

    def is_done(self, candidate: Candidate) -> bool:
        """Whether a candidate was measured, or can't be."""
        return candidate.key in self.measured or self.is_left_out(candidate)

    def is_left_out(self, candidate: Candidate) -> bool:
        """Whether a candidate can't be measured."""
        return candidate.key in self.left_out

    def _scored(self, candidate: Candidate) -> QualityRecord | None:
        quality = self.study_setup.config.quality
        return self.objective.scored(candidate, quality.search_seed, quality.num_images)

    def _learn(self, candidate: Candidate, record: QualityRecord) -> None:
        try:
            self._remember(candidate, record)
        except UNMEASURABLE as error:
            self.leave_out(candidate, error)

    def _remember(self, candidate: Candidate, record: QualityRecord) -> None:
        floor, speed = record.floor or 0.0, self.costs.images_per_second(candidate.stored)
        excess, upper = record.value - floor, record.upper - floor
        self.measured[candidate.key] = Measured(candidate, record.value, excess, speed, upper)

    def _line(self, candidate: Candidate, sampled: int) -> str:
        found = self.measured[candidate.key]
        origin = "" if sampled else " (looked up)"
        speed = f"{found.speed:.0f}" if found.speed >= 10 else f"{found.speed:.2g}"
        return f"{candidate.label}: {self.study_setup.metric.told(found.quality)}, {speed} images/s{origin}"


class NoTimingWorker(Interrupted):
    """No worker is left on the study's target device."""

    identifier = "no-target"


def await_target(session: Session) -> None:
    """Waits a moment for other workers.

    Raises:
        Unmanned: this one can't time anything, and for as long as a lease nobody lived who can.
    """
    session.wait()
    target, now = session.costs.target, time.monotonic()
    if session.costs.can_time or has_timing_worker(session.store, session.name, target):
        session.unmanned_since = None
        return
    session.unmanned_since = session.unmanned_since or now
    if now - session.unmanned_since > session.study_setup.config.run.lease_seconds:
        raise NoTimingWorker(
            f"study `{session.name}` is timed on {target['device']}, where no worker is at work, and this worker has "
            "nothing left to do. Start one there, or make this device the target: exeunt worker --target."
        )
