"""The front, measured again: end to end on the clock, and on noises that no selection saw.

One worker chooses what is compared, so that all measure the same. Images are the elastic part. What is timed is timed
first; then all compared schedules get images in rounds, and one worker works out the values at the count that they have
in common.

Final images for all compared schedules, in rounds of equal size, so that they stand at one count whenever time ends.

Whoever of the workers is free takes the schedule that has fewest images and that no other worker is at.

Timing the compared schedules end to end, in one sitting, each beside the full schedule.

What a study keeps for people beside figures: sample images of what it compared, and schedule files of its front.

Samples are the first images that final values are worked out from, so they cost no image more. Once the front is known,
those of schedules that no report shows are forgotten, unless the study keeps all of them. With them and the operations
of its networks, which are counted then, a report loads no network.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...backends.timing.memory import peak_memory
from ...backends.timing.pieces import trajectory
from ...backends.timing.samples import Timing
from ...backends.timing.throughput import TimedSchedule, time_schedules
from ...studies.store.records import ThroughputRecord
from ...studies.store.store import Store
from ...studies.workers import shared_state
from ...studies.workers.shared_state import FrontChoice
from ...studies.workers.workers import exclusive
from ..measuring.candidate import Candidate
from ..measuring.costs import timing_key
from ..measuring.objective import AWAITED, UNMEASURABLE
from ..measuring.setup import weights_digest
from .reserve import MOST_COMPARED, closing_seconds, promoted, sampling_seconds, timing_seconds
from .session import Session, await_target

if TYPE_CHECKING:
    from ...reports.view.view import Point, StudyView
    from .session import Session


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
            if self._session.peers.others:
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
        return seconds <= session.meter.seconds_left and images <= session.meter.images_left

    def read(self) -> None:
        """Reads how many images each one has."""
        seed, most = self._quality.final_seed, self._quality.final_images
        self._counts = {each.key: self._session.objective.reached(each, seed, most) for each in self.left}


def _is_over(session: Session) -> bool:
    """Whether another worker has measured the front, or the study was given another budget."""
    return session.choice is None or session.choice.measured


_LOG = logging.getLogger("exeunt.work")


def time_end_to_end(session: Session, compared: Sequence[Candidate]) -> None:
    """Times whole trajectories on the target device, unless all were timed there before or another worker is at it."""
    if not session.costs.can_time or are_timed(session, compared):
        return
    with exclusive(session.store, f"timing {session.name}", session.peers.worker) as mine:
        if mine and not are_timed(session, compared):
            _time(session, compared)


def are_timed(session: Session, compared: Sequence[Candidate]) -> bool:
    """Whether this study has timed all of them on its target."""
    study_setup, target = session.study_setup, session.costs.target
    keys = {timing_key(study_setup, network, target): name for name, network in study_setup.networks.items()}
    found = {
        (record.schedule_digest, keys[record.key])
        for record in session.store.measurements.throughputs(session.name)
        if record.study == session.name and record.purpose == "final" and record.key in keys
    }
    return found >= {each.key for each in compared}


def _time(session: Session, compared: Sequence[Candidate]) -> None:
    study_setup, baseline = session.study_setup, compared[0]
    device = study_setup.network.device
    subjects = {each.key: TimedSchedule((study_setup.networks[each.weights],), each.schedule) for each in compared}
    config = study_setup.config.throughput
    limit = timing_seconds(session, compared)
    timings = time_schedules(
        subjects,
        baseline.key,
        batch_size=config.batch_size,
        repeats=config.repeats,
        max_seconds=None if math.isinf(session.meter.seconds_left) else limit,
        observe=lambda _key, _seconds: session.check(),
    )
    latencies = time_schedules(subjects, baseline.key, batch_size=1, repeats=config.repeats, max_seconds=0.2 * limit)
    for each in compared:
        memory = peak_memory(trajectory(subjects[each.key].networks, each.schedule, config.batch_size), device)
        _put(session, each, baseline, timings[each.key], latencies[each.key], memory.num_bytes)


def _put(
    session: Session, candidate: Candidate, baseline: Candidate, timing: Timing, latency: Timing, peak: int
) -> None:
    networks = session.study_setup.networks
    session.store.measurements.put_throughput(
        ThroughputRecord(
            schedule_digest=candidate.schedule.digest,
            key=timing_key(session.study_setup, networks[candidate.weights], session.costs.target),
            baseline_digest=baseline.schedule.digest,
            baseline_weights_sha256=weights_digest(networks[baseline.weights]),
            purpose="final",
            seconds=timing.seconds,
            baseline_seconds=timing.neighbours,
            predicted_seconds=session.costs.predicted_seconds(candidate.schedule),
            latency_seconds=latency.seconds,
            peak_memory_bytes=peak,
            study=session.name,
        )
    )
    seconds = round(sum(timing.seconds) + sum(latency.seconds), 4)
    _LOG.info("timed", extra={"about": {"label": candidate.label, "seconds": seconds}})


def keep_front(session: Session) -> None:
    """Keeps what a report needs of a front that was measured, and its schedule files; forgets the other samples."""
    from ...reports.view.loading import load_view
    from ...reports.view.operations import keep_operations
    from ...reports.view.selection import highlights

    view, store, keep = load_view(session.store, session.name), session.store, session.study_setup.config.run.keep
    keep_operations(store, view, session.study_setup.networks)
    if keep == "none":
        return
    front = [*view.front("final"), *([view.full] if view.full else [])]
    _keep_schedules(store, view, front)
    if keep == "front":
        shown = [each.point for each in highlights(view)]
        store.kept.drop(view.name, "samples", but=_members(store, view, [*front, *shown]))


def _keep_schedules(store: Store, view: StudyView, points: Sequence[Point]) -> None:
    """Keeps the schedule files of these points and of no others."""
    from ...reports.files.export import export_text

    members = _members(store, view, points)
    for member, point in members.items():
        about = {"label": point.label, "weights": point.weights}
        store.kept.keep(view.name, "schedule", member, about, export_text(view, point).encode())
    store.kept.drop(view.name, "schedule", but=members)


def _members(store: Store, view: StudyView, points: Sequence[Point]) -> dict[tuple[str, str], Point]:
    """Points by their schedules' digests and their weights'."""
    digests = {
        (each.schedule_digest, each.weights_name): each.weights_sha256 for each in store.studies.members(view.name)
    }
    return {(point.key[0], digests[point.key]): point for point in points}


# Fewer would compare too little.
LEAST_COMPARED = 8


def measure_front(session: Session) -> None:
    """Times the promoted schedules beside the full one and measures them on final seeds at one count."""
    choice = choose_front(session)
    if choice.measured:
        return
    compared = _chosen(session, choice)
    time_end_to_end(session, compared)
    rounds = Rounds(session, compared)
    rounds.run()
    close(session, choice, rounds)


def choose_front(session: Session) -> FrontChoice:
    """What all workers compare: this one's choice, unless another one was first."""
    while True:
        with exclusive(session.store, f"front {session.name}", session.peers.worker) as mine:
            if mine:
                session.refresh(now=True)
                session.choice = shared_state.choice_of(session.proposer.study) or _choose(session)
                return session.choice
        session.wait()


def _choose(session: Session) -> FrontChoice:
    compared = affordable(session, promoted(session))
    choice = FrontChoice(session.grant.id, tuple(each.key for each in compared))
    shared_state.publish_choice(session.proposer.study, choice)
    session.watch.say(
        f"comparing {len(compared)} schedules on final seeds: {', '.join(each.label for each in compared)}"
    )
    return choice


def _chosen(session: Session, choice: FrontChoice) -> list[Candidate]:
    """The candidates of a choice, in its order."""
    known = {each.key: each for each in reversed(session.members())}
    return [known[key] for key in choice.compared]


def affordable(session: Session, ranked: Sequence[Candidate]) -> list[Candidate]:
    """As many of them as can be measured at the full final count; a few even if at no more than the search's."""
    quality = session.study_setup.config.quality
    least = min(quality.num_images, quality.final_images)
    counts = range(min(len(ranked), MOST_COMPARED), 0, -1)
    whole = next((n for n in counts if _is_affordable(session, ranked[:n], quality.final_images)), 0)
    some = next((n for n in counts if _is_affordable(session, ranked[:n], least)), 0)
    return list(ranked[: max(whole, min(some, LEAST_COMPARED), min(2, len(ranked)))])


def _is_affordable(session: Session, compared: Sequence[Candidate], count: int) -> bool:
    """Whether what is left buys timing these and bringing each to that many images."""
    seconds = timing_seconds(session, compared) + closing_seconds(session, len(compared), count)
    seconds += sampling_seconds(session, [(each, count) for each in compared])
    meter = session.meter
    return seconds <= meter.seconds_left and count * len(compared) <= meter.images_left


def close(session: Session, choice: FrontChoice, rounds: Rounds) -> None:
    """Works out the final values at one count, or waits until another worker has done so."""
    while session.choice == choice:
        if are_timed(session, rounds.left):
            with exclusive(session.store, f"front {session.name}", session.peers.worker) as mine:
                if mine and not shared_state.is_spent(session.proposer.study):
                    _score(session, rounds)
                    keep_front(session)
                    session.choice = replace(choice, measured=True)
                    shared_state.publish_choice(session.proposer.study, session.choice)
                    shared_state.enter(session.proposer.study, shared_state.FINISHED, beside_others=False)
                    return
        else:
            time_end_to_end(session, rounds.left)
            if are_timed(session, rounds.left):
                continue
        await_target(session)


def _score(session: Session, rounds: Rounds) -> None:
    rounds.read()
    seed, count = session.study_setup.config.quality.final_seed, rounds.count
    for candidate in rounds.left:
        session.objective.score(candidate, seed, count)
        session.objective.score_beside(candidate, seed, count)
