"""Final images for all compared schedules, in rounds of equal size, so that they stand at one count whenever time ends.

Whoever of the workers is free takes the schedule that has fewest images and that no other worker is at.
"""

from collections.abc import Sequence

from .candidates import Candidate
from .objective import AWAITED, UNMEASURABLE
from .reserve import closing_seconds, sampling_seconds
from .session import Session
from .target import await_target


class Rounds:
    """The final images of the compared schedules.

    Attributes:
        left: the candidates that could be sampled so far, the baseline first.
    """

    def __init__(self, session: Session, compared: Sequence[Candidate]) -> None:
        self.left = list(compared)
        self._session = session
        self._baseline = compared[0]
        self._quality = session.laboratory.config.quality
        self._busy: set[tuple[str, str]] = set()
        self._counts: dict[tuple[str, str], int] = {}
        self.read()
        # The first round is taken whatever the budget, since values are worth nothing without images.
        self._allowed = max(self.count, min(self._quality.batch_size, self._quality.final_images))

    @property
    def count(self) -> int:
        """The images that all of them have."""
        return min(self._counts[each.key] for each in self.left)

    def run(self) -> None:
        """Adds images while the budget lasts, or until another worker has done the rest."""
        while not _is_over(self._session) and self._step():
            self._session.refresh()
            if self._session.crew.others:
                self.read()

    def _step(self) -> bool:
        """Takes one schedule one round further; False where nothing is left to do, or no budget to do it with."""
        unfinished = [each for each in self.left if self._counts[each.key] < self._quality.final_images]
        free = [each for each in unfinished if each.key not in self._busy]
        if free:
            candidate = min(free, key=lambda each: self._counts[each.key])
            target = self._next_count(candidate)
            if self._allows(target):
                self._take(candidate, target)
                return True
        # Those that others are at may yet need this worker, up to what was allowed before.
        if any(self._counts[each.key] < self._allowed for each in unfinished):
            self._busy.clear()
            await_target(self._session)
            return True
        return False

    def _next_count(self, candidate: Candidate) -> int:
        batch = self._quality.batch_size
        return min((self._counts[candidate.key] // batch + 1) * batch, self._quality.final_images)

    def _allows(self, target: int) -> bool:
        """Whether the budget has room for bringing all to that count."""
        if target > self._allowed and self._fits(target):
            self._allowed = target
        return target <= self._allowed

    def _take(self, candidate: Candidate, target: int) -> None:
        try:
            self._session.collect(candidate, self._quality.final_seed, range(target))
        except AWAITED:
            self._busy.add(candidate.key)
            return
        except UNMEASURABLE as error:
            if candidate.key == self._baseline.key:
                raise
            self._session.leave_out(candidate, error)
            self.left.remove(candidate)
            return
        self._counts[candidate.key] = max(self._counts[candidate.key], target)
        self._busy.clear()

    def _fits(self, target: int) -> bool:
        """Whether every one of them can be brought to that many images within the budget."""
        session, seed = self._session, self._quality.final_seed
        wanted = [(each, session.objective.missing(each, seed, target)) for each in self.left]
        seconds = sampling_seconds(session, wanted) + closing_seconds(session, len(self.left), target)
        images = sum(count for _, count in wanted)
        return seconds <= session.allowance.seconds_left and images <= session.allowance.images_left

    def read(self) -> None:
        """Reads how many images each one has."""
        seed, most = self._quality.final_seed, self._quality.final_images
        self._counts = {each.key: self._session.objective.reached(each, seed, most) for each in self.left}


def _is_over(session: Session) -> bool:
    """Whether another worker has measured the front, or the study was given another budget."""
    return session.choice is None or session.choice.measured
