"""One command's work on one study: what it measures with, where it writes, what it may spend, who watches."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from ..studies.records import Member, QualityRecord
from ..studies.store import Store
from .allowance import Allowance
from .candidates import Candidate
from .laboratory import Laboratory, weights_digest
from .objective import Objective
from .progress import Watch
from .promotion import Measured
from .proposing import Proposer


@dataclass
class Session:
    """Holds the parts together, and what has been measured on search seeds so far.

    Attributes:
        laboratory: what to measure with.
        store: the study database.
        objective: measures candidates.
        proposer: the dialogue with Optuna.
        allowance: what may be spent.
        watch: who is told.
        check: raises to stop.
        measured: by the candidates' keys, in order.
        left_out: the keys of candidates that can't be measured.
    """

    laboratory: Laboratory
    store: Store
    objective: Objective
    proposer: Proposer
    allowance: Allowance
    watch: Watch
    check: Callable[[], None]
    measured: dict[tuple[str, str], Measured] = field(default_factory=dict[tuple[str, str], Measured])
    left_out: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    @property
    def name(self) -> str:
        """The study's name."""
        return self.laboratory.config.name

    @cached_property
    def noise(self) -> float | None:
        """What another noise changes, where quality is stated against the baseline's images; else None."""
        found = self.objective.noise()
        return None if found is None else found.value

    def measure(self, candidate: Candidate) -> Measured:
        """A candidate's values on search seeds; sampled, or looked up where they are known.

        Raises:
            FailedEvaluation, NonFiniteSamples, UnusableFeatures: it can't be measured; the store keeps the reason.
            Interrupted: the command is to stop; committed chunks are kept.
        """
        self.check()
        if candidate.key not in self.measured:
            quality = self.laboratory.config.quality
            self.register(candidate)
            sampled = self.objective.collect(candidate, quality.search_seed, range(quality.num_images))
            record = self.objective.score(candidate, quality.search_seed, quality.num_images)
            self._remember(candidate, record)
            self.watch.say(self._line(candidate, sampled))
        return self.measured[candidate.key]

    def leave_out(self, candidate: Candidate, error: Exception) -> None:
        """Goes on without a candidate that can't be measured, and says why."""
        self.left_out.add(candidate.key)
        self.watch.say(f"{candidate.label} failed: {error}")

    def register(self, candidate: Candidate) -> None:
        """Makes the candidate a member of the study, unless it is one."""
        self.store.evaluations.add_schedule(candidate.schedule)
        self.store.studies.add_member(
            self.name,
            Member(
                label=candidate.label,
                role=candidate.role,
                family=candidate.family,
                schedule_digest=candidate.schedule.digest,
                weights_sha256=weights_digest(self.laboratory.networks[candidate.weights]),
                weights_name=candidate.weights,
                trial_number=candidate.trial,
            ),
        )

    def restore(self) -> None:
        """Takes in what earlier sessions of this study have measured on search seeds."""
        quality = self.laboratory.config.quality
        for candidate in self.members():
            record = self.objective.scored(candidate, quality.search_seed, quality.num_images)
            if record is not None:
                self._remember(candidate, record)

    def members(self) -> list[Candidate]:
        """The study's members, in the order in which they were added."""
        members = self.store.studies.members(self.name)
        schedules = self.store.evaluations.schedules(member.schedule_digest for member in members)
        return [
            Candidate(
                member.label,
                member.role,
                member.family,
                member.weights_name,
                schedules[member.schedule_digest],
                member.trial_number,
            )
            for member in members
        ]

    def enter(self, state: str) -> None:
        """Begins a part of the work, and notes it."""
        self.note(state)
        self.watch.phase(state, 1.0)

    def note(self, state: str) -> None:
        """Notes what the study is doing, where `exeunt status` reads it."""
        self.proposer.study.set_user_attr("state", state)

    def _remember(self, candidate: Candidate, record: QualityRecord) -> None:
        floor, speed = record.floor or 0.0, self.objective.images_per_second(candidate.schedule)
        excess, upper = record.value - floor, record.upper - floor
        self.measured[candidate.key] = Measured(candidate, record.value, excess, speed, upper)

    def _line(self, candidate: Candidate, sampled: int) -> str:
        found = self.measured[candidate.key]
        origin = "" if sampled else " (looked up)"
        speed = f"{found.speed:.0f}" if found.speed >= 10 else f"{found.speed:.2g}"
        return f"{candidate.label}: {self.laboratory.metric.told(found.quality)}, {speed} images/s{origin}"
