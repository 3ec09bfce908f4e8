"""Timing the compared schedules end to end, in one sitting, each beside the full schedule."""

import logging
import math
from collections.abc import Sequence

from ..backends.timing.memory import peak_memory
from ..backends.timing.pieces import trajectory
from ..backends.timing.samples import Timing
from ..backends.timing.throughput import Subject, time_schedules
from ..studies.store.records import ThroughputRecord
from ..studies.workers.turns import turn
from .candidates import Candidate
from .costs import timing_key
from .laboratory import weights_digest
from .reserve import timing_seconds
from .session import Session

LOG = logging.getLogger("exeunt.work")


def time_end_to_end(session: Session, compared: Sequence[Candidate]) -> None:
    """Times whole trajectories on the target device, unless all were timed there before or another worker is at it."""
    if not session.costs.can_time or are_timed(session, compared):
        return
    with turn(session.store, f"timing {session.name}", session.crew.worker) as mine:
        if mine and not are_timed(session, compared):
            _time(session, compared)


def are_timed(session: Session, compared: Sequence[Candidate]) -> bool:
    """Whether this study has timed all of them on its target."""
    laboratory, target = session.laboratory, session.costs.target
    keys = {timing_key(laboratory, network, target): name for name, network in laboratory.networks.items()}
    found = {
        (record.schedule_digest, keys[record.key])
        for record in session.store.measurements.throughputs(session.name)
        if record.study == session.name and record.purpose == "final" and record.key in keys
    }
    return found >= {each.key for each in compared}


def _time(session: Session, compared: Sequence[Candidate]) -> None:
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


def _put(
    session: Session, candidate: Candidate, baseline: Candidate, timing: Timing, latency: Timing, peak: int
) -> None:
    networks = session.laboratory.networks
    session.store.measurements.put_throughput(
        ThroughputRecord(
            schedule_digest=candidate.schedule.digest,
            key=timing_key(session.laboratory, networks[candidate.weights], session.costs.target),
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
    LOG.info("timed", extra={"about": {"label": candidate.label, "seconds": seconds}})
