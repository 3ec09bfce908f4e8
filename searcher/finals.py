"""The front, measured again: end to end on the clock, and on noises that no selection saw.

Images are the elastic part. What is timed is timed first; then all compared schedules get images in rounds of equal
size, so that they stand at one count whenever the budget ends.
"""

import math
from collections.abc import Sequence

from ..backends.peak_memory import peak_memory
from ..backends.pieces import trajectory
from ..backends.throughput import Subject, Timing, time_schedules
from ..studies.records import ThroughputRecord
from .candidates import Candidate
from .laboratory import weights_digest
from .objective import UNMEASURABLE, timing_key
from .reserve import MOST_COMPARED, closing_seconds, promoted, timing_seconds
from .session import Session

# Fewer would compare too little.
LEAST_COMPARED = 8


def measure_front(session: Session) -> None:
    """Times the promoted schedules beside the full one and measures them on final seeds at one count."""
    compared = affordable(session, promoted(session))
    session.watch.say(
        f"comparing {len(compared)} schedules on final seeds: {', '.join(each.label for each in compared)}"
    )
    time_end_to_end(session, compared)
    compared, count = sample_in_rounds(session, compared)
    seed = session.laboratory.config.quality.final_seed
    for candidate in compared:
        session.objective.score(candidate, seed, count)
        session.objective.score_beside(candidate, seed, count)


def affordable(session: Session, ranked: Sequence[Candidate]) -> list[Candidate]:
    """As many of them as can be measured at the full final count; a few even if at no more than the search's."""
    quality = session.laboratory.config.quality
    least = min(quality.num_images, quality.final_images)
    counts = range(min(len(ranked), MOST_COMPARED), 0, -1)
    whole = next((n for n in counts if _is_affordable(session, ranked[:n], quality.final_images)), 0)
    some = next((n for n in counts if _is_affordable(session, ranked[:n], least)), 0)
    return list(ranked[: max(whole, min(some, LEAST_COMPARED), min(2, len(ranked)))])


def _is_affordable(session: Session, compared: Sequence[Candidate], count: int) -> bool:
    """Whether what is left buys timing these and bringing each to that many images."""
    seconds = timing_seconds(session, compared) + closing_seconds(session, len(compared), count)
    seconds += sum(session.objective.seconds(each.schedule, count) for each in compared)
    allowance = session.allowance
    return seconds <= allowance.seconds_left and count * len(compared) <= allowance.images_left


def time_end_to_end(session: Session, compared: Sequence[Candidate]) -> None:
    """Times whole trajectories in one sitting, each beside the full schedule's, unless all were timed before."""
    if _timed(session) >= {each.key for each in compared}:
        return
    laboratory, baseline = session.laboratory, compared[0]
    device = laboratory.network.device
    subjects = {each.key: Subject((laboratory.networks[each.weights],), each.schedule) for each in compared}
    config = laboratory.config.throughput
    limit = timing_seconds(session, compared)
    timings = time_schedules(
        subjects,
        baseline.key,
        batch_size=config.batch_size,
        repeats=config.repeats,
        max_seconds=None if math.isinf(session.allowance.seconds_left) else limit,
        observe=lambda _key, _seconds: session.check(),
    )
    latencies = time_schedules(subjects, baseline.key, batch_size=1, repeats=config.repeats, max_seconds=0.2 * limit)
    for each in compared:
        memory = peak_memory(trajectory(subjects[each.key].networks, each.schedule, config.batch_size), device)
        _put(session, each, baseline, timings[each.key], latencies[each.key], memory.num_bytes)


def _timed(session: Session) -> set[tuple[str, str]]:
    """Schedules and weights that this study has timed end to end."""
    names = {weights_digest(network): name for name, network in session.laboratory.networks.items()}
    records = session.store.measurements.throughputs(session.name)
    return {
        (record.schedule_digest, names[record.key.weights_sha256])
        for record in records
        if record.study == session.name and record.purpose == "final" and record.key.weights_sha256 in names
    }


def _put(
    session: Session, candidate: Candidate, baseline: Candidate, timing: Timing, latency: Timing, peak: int
) -> None:
    networks = session.laboratory.networks
    session.store.measurements.put_throughput(
        ThroughputRecord(
            schedule_digest=candidate.schedule.digest,
            key=timing_key(session.laboratory, networks[candidate.weights]),
            baseline_digest=baseline.schedule.digest,
            baseline_weights_sha256=weights_digest(networks[baseline.weights]),
            purpose="final",
            seconds=timing.seconds,
            baseline_seconds=timing.neighbours,
            predicted_seconds=session.objective.predicted_seconds(candidate.schedule),
            latency_seconds=latency.seconds,
            peak_memory_bytes=peak,
            study=session.name,
        )
    )


def sample_in_rounds(session: Session, compared: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """Adds final images to all of them in turn while the budget lasts.

    Returns:
        Those that all could be sampled for, and the count that they have reached.
    """
    quality, count = session.laboratory.config.quality, 0
    left = list(compared)
    while count < quality.final_images:
        target = min(count + quality.batch_size, quality.final_images)
        if count and not _fits(session, left, target):
            break
        left = [each for each in left if _collect(session, each, target, needed=each == compared[0])]
        count = target
    return left, count


def _collect(session: Session, candidate: Candidate, target: int, *, needed: bool) -> bool:
    """Brings a candidate to that many final images, or leaves it out where that can't be and it isn't needed."""
    try:
        session.objective.collect(candidate, session.laboratory.config.quality.final_seed, range(target))
    except UNMEASURABLE as error:
        if needed:
            raise
        session.leave_out(candidate, error)
        return False
    return True


def _fits(session: Session, compared: Sequence[Candidate], target: int) -> bool:
    """Whether every one of them can be brought to that many images within the budget."""
    seed = session.laboratory.config.quality.final_seed
    missing = [session.objective.missing(each, seed, target) for each in compared]
    seconds = sum(session.objective.seconds(each.schedule, n) for each, n in zip(compared, missing, strict=True))
    seconds += closing_seconds(session, len(compared), target)
    allowance = session.allowance
    return seconds <= allowance.seconds_left and sum(missing) <= allowance.images_left
