"""Timing schedules end to end, in one sitting, each beside the full schedule."""

import logging
from collections.abc import Callable, Sequence

from ...backends.timing.device import peak_memory
from ...backends.timing.pieces import trajectory
from ...backends.timing.throughput import TimedSchedule, time_schedules
from ...studies.store.records import ThroughputRecord
from ..spaces.candidate import Candidate
from .costs import Costs, timing_key
from .setup import weights_digest

_LOG = logging.getLogger("exeunt.work")


def are_timed(costs: Costs, candidates: Sequence[Candidate]) -> bool:
    """Whether the study has timed all of them on its target."""
    study_setup = costs.study_setup
    name, networks = study_setup.config.name, study_setup.networks.items()
    keys = {timing_key(study_setup, network, costs.target): weights for weights, network in networks}
    found = {
        (record.schedule_digest, keys[record.key])
        for record in costs.store.measurements.throughputs(name)
        if record.study == name and record.purpose == "final" and record.key in keys
    }
    return found >= {each.key for each in candidates}


def time_end_to_end(
    costs: Costs, compared: Sequence[Candidate], seconds: float, *, is_limited: bool, check: Callable[[], None]
) -> None:
    """Times whole trajectories, and keeps their seconds, latencies and memory.

    Args:
        costs: of the study, by a worker that can time.
        compared: what to time, the baseline first.
        seconds: what that is about to take.
        is_limited: whether it may take no more; a fifth of it is the most for latencies in any case.
        check: raises to stop.
    """
    study_setup, baseline = costs.study_setup, compared[0]
    config, networks = study_setup.config.throughput, study_setup.networks
    subjects = {each.key: TimedSchedule((networks[each.weights],), each.schedule) for each in compared}
    timings = time_schedules(
        subjects,
        baseline.key,
        batch_size=config.batch_size,
        repeats=config.repeats,
        max_seconds=seconds if is_limited else None,
        observe=lambda _key, _seconds: check(),
    )
    latencies = time_schedules(subjects, baseline.key, batch_size=1, repeats=config.repeats, max_seconds=0.2 * seconds)
    for each in compared:
        subject, timing, latency = subjects[each.key], timings[each.key], latencies[each.key]
        memory = peak_memory(trajectory(subject.networks, each.schedule, config.batch_size), study_setup.network.device)
        costs.store.measurements.put_throughput(
            ThroughputRecord(
                schedule_digest=each.key[0],
                key=timing_key(study_setup, networks[each.weights], costs.target),
                baseline_digest=baseline.key[0],
                baseline_weights_sha256=weights_digest(networks[baseline.weights]),
                purpose="final",
                seconds=timing.seconds,
                baseline_seconds=timing.neighbours,
                predicted_seconds=costs.predicted_seconds(each.stored),
                latency_seconds=latency.seconds,
                peak_memory_bytes=memory.num_bytes,
                study=study_setup.config.name,
            )
        )
        spent = round(sum(timing.seconds) + sum(latency.seconds), 4)
        _LOG.info("timed", extra={"about": {"label": each.label, "seconds": spent}})
