"""What a study has measured on search seeds, as far as one worker knows."""

from ...backends.quality.intervals import FloatArray
from ...reports.view.interval import SpeedUnit
from ...studies.store.records import QualityRecord, ScheduleSummary
from ..measuring.objective import UNMEASURABLE, Objective
from ..proposals.improvement import Bounds
from ..spaces.candidates import FITTED, Candidate
from .device_check import DeviceCheck
from .promotion import Measured
from .rungs import Rung, chosen, counts, falls_short

RUNG_EVERY = 10  # more schedules measured, before the number of images of a first look is chosen anew


class Results:
    """Measures candidates on search seeds, and takes in what others have measured.

    Attributes:
        measured: by the candidates' keys, in the order in which this worker read them.
        short: candidates that fell short of the front on few images, by their keys, with the number of these.
        left_out: the keys of candidates that can't be measured.
        given: what a user proposed.
    """

    def __init__(self, objective: Objective, device_check: DeviceCheck) -> None:
        self.objective, self.device_check = objective, device_check
        quality = objective.study_setup.config.quality
        self._seed, self._count = quality.search_seed, quality.num_images
        self.measured: dict[tuple[str, str], Measured] = {}
        self.short: dict[tuple[str, str], tuple[Candidate, int]] = {}
        self.left_out: set[tuple[str, str]] = set()
        self.given: list[Candidate] = []
        self._schedules: dict[str, ScheduleSummary] = {}
        self._vectors: dict[tuple[str, str], FloatArray | None] = {}
        self._few = counts(quality.num_images, quality.batch_size)
        self.rung: Rung | None = None
        self._judged = 0  # how many were measured when it was chosen

    @property
    def is_stated(self) -> bool:
        """Whether the schedule that everything is stated against has been measured."""
        return self.objective.study_setup.baseline.key in self.measured

    @property
    def ordered(self) -> list[Measured]:
        """What has been measured, the schedule that everything is stated against first."""
        first = self.objective.study_setup.baseline.key
        return sorted(self.measured.values(), key=lambda each: each.candidate.key != first)

    def measure(self, candidate: Candidate) -> Measured:
        """A candidate's values on search seeds; sampled, or looked up where they are known.

        Raises:
            UNMEASURABLE: it can't be measured; the store keeps the reason.
            AWAITED: another worker has to do its part first, or all are to pause.
            Interrupted: the command is to stop; committed chunks are kept.
        """
        self.objective.check()
        self.objective.refuse_too_large(candidate)
        if candidate.key not in self.measured:
            seed, count = self._seed, self._count
            sampled = self.collect(candidate, seed, range(count), register=True)
            found = self._remember(candidate, self.objective.score(candidate, seed, count))
            told = self.objective.study_setup.metric.told(found.quality)
            known = "" if sampled else " (already measured)"
            self.objective.say(f"{candidate.label}: {told}, {self._told(found.speed)}{known}")
        return self.measured[candidate.key]

    def _told(self, speed: float) -> str:
        """A speed in words."""
        timed = self.objective.study_setup.config.throughput
        unit = SpeedUnit(timed.batch_size, timed.objective == "latency")
        stated = unit.of(speed)
        return f"{stated:.0f} {unit.short}" if stated >= 10 else f"{stated:.2g} {unit.short}"

    def look(self, candidate: Candidate, bounds: Bounds | None) -> Measured:
        """As `measure`, but where a proposal falls short of the front on few images, what it looks like on these."""
        self._choose_rung(bounds)
        rung, full = self.rung, self.objective.study_setup.baseline
        if rung is None or bounds is None or candidate.key in self.measured or not self.is_stated:
            return self.measure(candidate)
        self.objective.check()
        self.objective.refuse_too_large(candidate)
        self.collect(candidate, self._seed, range(rung.count), register=True)
        own, base = (self.objective.score(each, self._seed, rung.count) for each in (candidate, full))
        speed, difference = self.objective.costs.images_per_second(candidate.stored), own.value - base.value
        if not falls_short(difference, speed, self.ordered, rung, bounds):
            return self.measure(candidate)
        self.short[candidate.key] = candidate, rung.count
        stated = self.measured[full.key]
        about = f"about {self.objective.study_setup.metric.told(stated.quality + difference)}"
        self.objective.say(f"{candidate.label}: {about} on {rung.count} images, short of the front")
        excess = stated.excess + difference
        return Measured(candidate, stated.quality + difference, excess, speed, excess + own.upper - own.value)

    def _choose_rung(self, bounds: Bounds | None) -> None:
        """How many images a first look takes, chosen anew now and then as more is measured."""
        known = len(self.measured)
        if not self._few or bounds is None or not self.is_stated or known < self._judged + RUNG_EVERY:
            return
        self._judged = known

        def few(each: Measured, count: int) -> float:
            return self.objective.score(each.candidate, self._seed, count).value

        self.rung = chosen(self.ordered, self._few, few, max(bounds.least, 1e-12))

    def collect(self, candidate: Candidate, seed: int, images: range, *, register: bool = False) -> int:
        """As `Objective.collect`; raises DeviceError as well where this worker's device can't be trusted any more."""
        try:
            sampled = self.objective.collect(candidate, seed, images, register=register)
        except UNMEASURABLE as error:
            self.device_check.failed(error)
            raise
        self.device_check.succeeded(sampled)
        return sampled

    def leave_out(self, candidate: Candidate, error: Exception) -> None:
        """Excludes a candidate that can't be measured, and says why."""
        self.left_out.add(candidate.key)
        self.objective.say(f"{candidate.label} failed: {error}")

    def vector(self, key: tuple[str, str]) -> FloatArray | None:
        """What the search learns from of a measured candidate; None where it has no such, or was not read here yet."""
        if key not in self._vectors and key in self.measured:
            self._vectors[key] = self.objective.vector(self.measured[key].candidate, self._count)
        elif key not in self._vectors and key in self.short:
            self._vectors[key] = self._vector_of_few(*self.short[key])
        return self._vectors.get(key)

    def _vector_of_few(self, candidate: Candidate, count: int) -> FloatArray | None:
        """A vector of few images, with what the full schedule's has beyond its own of as many."""
        full = self.objective.study_setup.baseline
        parts = [self.objective.vector(*each) for each in ((candidate, count), (full, self._count), (full, count))]
        found = [part for part in parts if part is not None]
        return found[0] + found[1] - found[2] if len(found) == len(parts) else None

    def is_done(self, candidate: Candidate) -> bool:
        """Whether a candidate was measured, or can't be."""
        return candidate.key in self.measured or candidate.key in self.left_out

    def restore(self) -> None:
        """Reads what this study has measured on search seeds, in earlier sessions or by other workers."""
        members, costs = self.members(), self.objective.costs
        self.given = [each for each in members if each.role == "trial" and each.trial is None and each.family != FITTED]
        self.objective.refresh()
        if not costs.can_time:
            costs.refresh()
        for candidate in members:
            record = None if self.is_done(candidate) else self._scored(candidate)
            few = [count for count in self._few if self.objective.scored(candidate, self._seed, count)]
            if record is None and few:
                self.short[candidate.key] = candidate, few[-1]
            if record is not None and costs.can_tell(candidate.stored):
                try:
                    self._remember(candidate, record)
                except UNMEASURABLE as error:
                    self.leave_out(candidate, error)

    def members(self) -> list[Candidate]:
        """The study's members, in the order in which they were added."""
        store, name = self.objective.store, self.objective.study_setup.config.name
        members = store.studies.members(name)
        unknown = {each.schedule_digest for each in members} - self._schedules.keys()
        if unknown:
            found = store.evaluations.held(unknown) if self._schedules else store.evaluations.stored_schedules(name)
            self._schedules |= found
        known = self._schedules
        return [
            Candidate(
                each.label, each.role, each.family, each.weights_name, known[each.schedule_digest], each.trial_number
            )
            for each in members
        ]

    def given_spent(self) -> int:
        """How many of the user's proposals any worker has measured, or could not measure."""
        return sum(1 for each in self.given if self.is_done(each) or self._scored(each))

    def _scored(self, candidate: Candidate) -> QualityRecord | None:
        return self.objective.scored(candidate, self._seed, self._count)

    def _remember(self, candidate: Candidate, record: QualityRecord) -> Measured:
        floor, speed = record.floor or 0.0, self.objective.costs.images_per_second(candidate.stored)
        figures = self.objective.judged_by(record)
        found = Measured(candidate, record.value, record.value - floor, speed, record.upper - floor, figures)
        self.measured[candidate.key] = found
        if self.short.pop(candidate.key, None):
            self._vectors.pop(candidate.key, None)
        return found
