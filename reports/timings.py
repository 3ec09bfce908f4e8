"""End-to-end timings as the view has them: the newest of each schedule, with the sitting that it belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from ..studies.store.records import ThroughputRecord
from .view import Key, Throughput

WeightsKey = tuple[str, str]  # schedule digest, digest of the weights


def throughputs(records: Sequence[ThroughputRecord], names: Mapping[str, str], full: Key) -> dict[Key, Throughput]:
    """The newest timing of each schedule beside the full one, by the points' keys.

    `records` stand oldest first, `names` gives each weights digest its name. Timings beside another baseline are left
    out.
    """
    found: dict[Key, Throughput] = {}
    sittings = _sittings(records)
    for record in records:
        if record.key.weights_sha256 in names and _baseline(record, names) == full:
            key = record.schedule_digest, names[record.key.weights_sha256]
            found[key] = _throughput(record, sittings)
    return found


def _baseline(record: ThroughputRecord, names: Mapping[str, str]) -> Key:
    return record.baseline_digest, names.get(record.baseline_weights_sha256, "")


def _throughput(record: ThroughputRecord, sittings: Sequence[frozenset[float]]) -> Throughput:
    return Throughput(
        batch_size=record.key.batch_size,
        seconds=record.seconds,
        neighbours=record.baseline_seconds,
        latency_seconds=median(record.latency_seconds) if record.latency_seconds else None,
        peak_memory_bytes=record.peak_memory_bytes,
        sitting=_sitting(record.baseline_seconds, sittings),
    )


def _sittings(records: Iterable[ThroughputRecord]) -> list[frozenset[float]]:
    """The baseline's own seconds of each timing session, which are the neighbours of all others."""
    return [
        frozenset(record.seconds)
        for record in records
        if (record.schedule_digest, record.key.weights_sha256)
        == (record.baseline_digest, record.baseline_weights_sha256)
    ]


def _sitting(neighbours: Sequence[float], sittings: Sequence[frozenset[float]]) -> int | None:
    return next((index for index, seconds in enumerate(sittings) if seconds.issuperset(neighbours)), None)
