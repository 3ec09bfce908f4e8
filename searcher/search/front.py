"""The front, measured again: end to end on the clock, and on noises that no selection saw.

One worker chooses what is compared, so that all measure the same. Images are the elastic part. What is timed is timed
first; then all compared schedules get images in rounds of equal size, so that they stand at one count whenever time
ends: whichever worker is free takes the schedule that has fewest images and that no other worker samples. One worker
works out the values at the count that they have in common.

Beside figures a study keeps sample images of what it compared, and schedule files of its front. Samples are the first
images that final values are worked out from, so they cost no image more. Once the front is known, those of schedules
that no report shows are forgotten, unless the study keeps all of them. With them and the operations of its networks,
which are counted then, a report loads no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...studies.workers import shared_state
from ...studies.workers.shared_state import FrontChoice
from ..measuring.costs import are_timed, time_end_to_end
from ..measuring.objective import AWAITED, UNMEASURABLE
from ..spaces.candidates import Candidate
from .budget import LEAST_COMPARED, MOST_COMPARED, Forecast
from .session import Session


def measure_front(session: Session) -> None:
    """Times the promoted schedules beside the full one and measures them on final seeds at one count."""
    choice = choose_front(session)
    if choice.measured:
        return
    known = {each.key: each for each in reversed(session.results.members())}
    compared = [known[key] for key in choice.compared]
    _time(session, compared)
    rounds = Rounds(session, compared)
    rounds.run()
    _close(session, choice, rounds)


def choose_front(session: Session) -> FrontChoice:
    """What all workers compare: this one's choice, unless another one was first."""
    while True:
        with session.exclusive("front") as mine:
            if mine:
                session.refresh(now=True)
                session.choice = shared_state.choice_of(session.proposer.study) or _choose(session)
                return session.choice
        session.wait()


def _choose(session: Session) -> FrontChoice:
    compared = affordable(session.forecast, session.promoted())
    choice = FrontChoice(session.budget.share.id, tuple(each.key for each in compared), ended=session.ended)
    shared_state.publish_choice(session.proposer.study, choice)
    labels = ", ".join(each.label for each in compared)
    session.watch.say(f"comparing {len(compared)} schedules on final seeds: {labels}")
    return choice


def affordable(forecast: Forecast, ranked: Sequence[Candidate]) -> Sequence[Candidate]:
    """As many of them as can be measured at the full final count; a few even if at no more than the search's."""
    quality = forecast.objective.study_setup.config.quality

    def most(images: int) -> int:
        """For how many of them what is left buys the timing, and bringing each to that many images."""
        for count in range(min(len(ranked), MOST_COMPARED), 0, -1):
            compared = ranked[:count]
            seconds = forecast.timing_seconds(compared) + forecast.closing_seconds(count, images)
            seconds += forecast.sampling_seconds([(each, images) for each in compared])
            if forecast.fits(seconds, images * count):
                return count
        return 0

    some = most(min(quality.num_images, quality.final_images))
    return ranked[: max(most(quality.final_images), min(some, LEAST_COMPARED), min(2, len(ranked)))]


def _time(session: Session, compared: Sequence[Candidate]) -> None:
    """Times whole trajectories on the target device, unless all were timed before or another worker times them."""
    costs, meter = session.objective.costs, session.budget.meter
    if not costs.can_time or are_timed(costs, compared):
        return
    with session.exclusive("timing") as mine:
        if mine and not are_timed(costs, compared):
            seconds, is_limited = session.forecast.timing_seconds(compared), not math.isinf(meter.seconds_left)
            time_end_to_end(costs, compared, seconds, is_limited=is_limited, check=session.objective.check)


class Rounds:
    """The final images of the compared schedules.

    Attributes:
        left: the candidates that could be sampled so far, the baseline first.
    """

    def __init__(self, session: Session, compared: Sequence[Candidate]) -> None:
        self.left = list(compared)
        self._session = session
        self._baseline = compared[0]
        self._quality = session.study_setup.config.quality
        self._busy: set[tuple[str, str]] = set()
        self._counts: dict[tuple[str, str], int] = {}
        self.read()
        # The first round is sampled even beyond the budget, since there are no values without images.
        self._allowed = max(self.count, min(self._quality.batch_size, self._quality.final_images))

    @property
    def count(self) -> int:
        """The images that all of them have."""
        return min(self._counts[each.key] for each in self.left)

    def read(self) -> None:
        """Reads how many images each one has."""
        seed, most = self._quality.final_seed, self._quality.final_images
        self._counts = {each.key: self._session.objective.reached(each, seed, most) for each in self.left}

    def run(self) -> None:
        """Adds images while the budget lasts, unless the front is measured by now or there is another budget."""
        while (choice := self._session.choice) is not None and not choice.measured and self._step():
            self._session.refresh()
            if self._session.peers.others:
                self.read()

    def _step(self) -> bool:
        """Takes one schedule one round further; False where nothing is left to do, or no budget to do it with."""
        batch, final_images = self._quality.batch_size, self._quality.final_images
        unfinished = [each for each in self.left if self._counts[each.key] < final_images]
        free = [each for each in unfinished if each.key not in self._busy]
        if free:
            candidate = min(free, key=lambda each: self._counts[each.key])
            target = min((self._counts[candidate.key] // batch + 1) * batch, final_images)
            if target > self._allowed and self._fits(target):
                self._allowed = target
            if target <= self._allowed:
                self._take(candidate, target)
                return True
        # Others may yet leave this worker what they sample, up to what was allowed before.
        if any(self._counts[each.key] < self._allowed for each in unfinished):
            self._busy.clear()
            self._session.await_others()
            return True
        return False

    def _fits(self, target: int) -> bool:
        """Whether every one of them can be brought to that many images within the budget."""
        forecast, seed = self._session.forecast, self._quality.final_seed
        wanted = [(each, forecast.objective.missing(each, seed, target)) for each in self.left]
        seconds = forecast.sampling_seconds(wanted) + forecast.closing_seconds(len(self.left), target)
        return forecast.fits(seconds, sum(count for _, count in wanted))

    def _take(self, candidate: Candidate, target: int) -> None:
        try:
            self._session.results.collect(candidate, self._quality.final_seed, range(target))
        except AWAITED:
            self._busy.add(candidate.key)
        except UNMEASURABLE as error:
            if candidate.key == self._baseline.key:
                raise
            self._session.results.leave_out(candidate, error)
            self.left.remove(candidate)
        else:
            self._counts[candidate.key] = max(self._counts[candidate.key], target)
            self._busy.clear()


def _close(session: Session, choice: FrontChoice, rounds: Rounds) -> None:
    """Works out the final values at one count, or waits until another worker has done so."""
    costs, objective, study = session.objective.costs, session.objective, session.proposer.study
    seed = session.study_setup.config.quality.final_seed
    while session.choice == choice:
        _time(session, rounds.left)
        if are_timed(costs, rounds.left):
            with session.exclusive("front") as mine:
                if mine and not shared_state.is_spent(study):
                    rounds.read()
                    for candidate in rounds.left:
                        objective.score(candidate, seed, rounds.count)
                        objective.score_beside(candidate, seed, rounds.count)
                    keep_front(session)
                    session.choice = replace(choice, measured=True)
                    shared_state.publish_choice(study, session.choice)
                    shared_state.enter(study, shared_state.FINISHED, beside_others=False)
                    return
        session.await_others()


def keep_front(session: Session) -> None:
    """Keeps what a report needs of a front that was measured, and its schedule files; forgets the other samples."""
    from ...reports.files.export import export_text
    from ...reports.view.loading import load_view
    from ...reports.view.operations import keep_operations
    from ...reports.view.selection import pictured
    from ...reports.view.view import Point

    store, name, keep = session.store, session.name, session.study_setup.config.run.keep
    view = load_view(store, name)
    keep_operations(store, view, session.study_setup.all_networks)
    if keep == "none":
        return
    weights = {(each.schedule_digest, each.weights_name): each.weights_sha256 for each in store.studies.members(name)}

    def stored(points: Iterable[Point]) -> dict[tuple[str, str], Point]:
        """Points by their schedules' digests and their weights'."""
        return {(point.key[0], weights[point.key]): point for point in points}

    front = [*view.front("final"), *([view.full] if view.full else [])]
    for member, point in stored(front).items():
        about = {"label": point.label, "weights": point.weights}
        store.kept.keep(name, "schedule", member, about, export_text(view, point).encode())
    store.kept.drop(name, "schedule", but=stored(front))
    if keep == "front":
        store.kept.drop(name, "samples", but=stored(each.point for each in pictured(view)))
