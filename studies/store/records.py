"""The rows of the study database as frozen values. Nothing here touches a database, torch or NumPy.

A schedule has its costs stored beside it: thousands are listed, and few are looked at whole.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from statistics import median
from typing import Any

from ...backends.plan import DECODE, SOLVER_STEP, compile_plan
from ...backends.schedule import Schedule, block_evaluations, depths, parse

# The kind of call under which the seconds are kept that encoding one prompt took: no part of any schedule's time.
TEXT_ENCODING = "text encoding"


CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


class _Key:
    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of a dataclass's plain values, as 64 hexadecimal digits."""
        return hashlib.sha256(CANONICAL.encode(vars(self)).encode()).hexdigest()


@dataclass(frozen=True)
class EvaluationKey(_Key):
    """The question that an evaluation answers: equal keys have equal features, in whichever study they are asked.

    The image range is no part of it, because image i depends on (`seed`, i) alone: more images add to an evaluation.
    `weights_sha256` joins the digests with `+` where a schedule uses several networks; `extractor` is the digest of the
    feature extractor with its weights, crop and resize filter.
    """

    schedule_digest: str
    weights_sha256: str
    conditions_digest: str
    seed: int
    extractor: str
    dtype: str
    executor: str


@dataclass(frozen=True)
class Claim:
    """A worker's exclusive right to add images to one evaluation, until its lease ends on the database's clock.

    `token` is the fencing token: it rises with each claim of the evaluation, and a commit with an older one is refused.
    `study` is the study that pays for the images, or None outside studies.
    """

    evaluation: str
    owner: str
    token: int
    lease_seconds: float
    study: str | None = None


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation as it stands: how many images are committed, what they cost, and whether it failed for good."""

    key: EvaluationKey
    digest: str
    num_images: int
    seconds: float
    failed: bool
    failures: tuple[str, ...]


@dataclass(frozen=True)
class ChunkRecord:
    """One committed chunk without its features: images [first_image, first_image + num_images) of an evaluation.

    `seconds` is the device time it took, `committed` the database's clock in seconds since 1970.
    """

    evaluation: str
    first_image: int
    num_images: int
    seconds: float
    owner: str
    study: str | None
    committed: float


@dataclass(frozen=True)
class QualityRecord:
    """A quality value worked out from images [first_image, first_image + num_images) of an evaluation.

    `reference` is the digest of what the images are compared with: real images, or the baseline's evaluation.
    `lower` and `upper` enclose the expectation at this count at confidence `level`; `floor` is the distance between
    real images and real images at the same count, or for a score the full schedule's own value; None for a metric
    without one. `excess` is the value beyond it.

    `influence` holds image i's influence on the value, so that two values on the same noises and count have a paired
    interval (the deviation of the difference ÷ √n); empty where it was not kept. `finished` is the database's clock in
    seconds since 1970, None in a record that is not stored yet.
    """

    evaluation: str
    metric: str
    reference: str
    first_image: int
    num_images: int
    value: float
    lower: float
    upper: float
    standard_error: float
    level: float
    floor: float | None = None
    influence: tuple[float, ...] = ()
    finished: float | None = None

    @property
    def excess(self) -> float | None:
        return None if self.floor is None else self.value - self.floor


@dataclass(frozen=True)
class TimingKey(_Key):
    """The conditions under which seconds were measured: values under different keys are never compared.

    `versions` names what else moves a figure (torch, CUDA, driver, number of threads), as one line of text.
    """

    device: str
    batch_size: int
    executor: str
    dtype: str
    weights_sha256: str
    versions: str


@dataclass(frozen=True)
class ThroughputRecord:
    """One end-to-end timing: raw seconds per batch, repeat by repeat, each beside the baseline's nearest in time.

    `purpose` is "search" for what the selection saw and "final" for what is reported. `predicted_seconds` is the sum
    over the plan's calls that the search used, per batch, or None. `latency_seconds` are raw repeats at batch 1, empty
    if they were not taken. `peak_memory_bytes` is the device's, None where it is not known.
    """

    schedule_digest: str
    key: TimingKey
    baseline_digest: str
    baseline_weights_sha256: str
    purpose: str
    seconds: tuple[float, ...]
    baseline_seconds: tuple[float, ...]
    predicted_seconds: float | None = None
    latency_seconds: tuple[float, ...] = ()
    peak_memory_bytes: int | None = None
    study: str | None = None

    @property
    def images_per_second(self) -> float:
        return self.key.batch_size / median(self.seconds)


@dataclass(frozen=True)
class Member:
    """A schedule's place in a study: which weights it runs on, what it is called, and the trial that proposed it.

    `label` is unique in the study among those on the same weights ("full", "exit 8", "trial 17"). `role` is "baseline"
    or "trial"; `family` is the baseline's ("fewer-steps") or the space's name ("mixed").
    """

    label: str
    role: str
    family: str
    schedule_digest: str
    weights_sha256: str
    weights_name: str
    trial_number: int | None = None


@dataclass(frozen=True)
class Progress:
    """What a study has spent and has, counted from committed rows and never from counters.

    `sampling_seconds` is the sum over chunks, `timing_seconds` over end-to-end timings, `worker_seconds` over the time
    that its workers were there, whatever they did.
    """

    images: int
    chunks: int
    schedules_measured: int
    evaluations_failed: int
    sampling_seconds: float
    timing_seconds: float
    worker_seconds: float

    @property
    def device_seconds(self) -> float:
        return self.sampling_seconds + self.timing_seconds


# Of how costs are worked out, and of the names that plans give to kinds of calls. Others are worked out again.
COSTS_VERSION = 1


@dataclass(frozen=True, eq=False)
class ScheduleSummary:
    """A schedule with its costs. One from a database is parsed when all of it is needed.

    Attributes:
        digest: the schedule's.
        num_steps: its steps.
        num_blocks: of its first network.
        block_evaluations: of one image, guidance branches counted.
        mean_depth: blocks that run, averaged over the steps.
        calls: how often its plan makes calls of each kind, by `kind_key`, for each of its networks.
        source: the schedule that it was made from, or the JSON text that a database has of it.
    """

    digest: str
    num_steps: int
    num_blocks: int
    block_evaluations: int
    mean_depth: float
    calls: tuple[Mapping[str, int], ...]
    source: Schedule | str

    @cached_property
    def schedule(self) -> Schedule:
        """All of it."""
        return parse(self.source) if isinstance(self.source, str) else self.source


_COSTS = ("num_steps", "num_blocks", "block_evaluations", "mean_depth")


@cache
def kind_key(kind: str) -> str:
    """What stands for a kind of call, whose name may be long."""
    return hashlib.sha256(kind.encode()).hexdigest()[:16]


@lru_cache(maxsize=512)
def summarized(schedule: Schedule) -> ScheduleSummary:
    """The summary of a valid schedule; a study asks for those of its baselines again and again."""
    calls = [Counter[str]() for _ in schedule.networks]
    for step in compile_plan(schedule).steps:
        calls[step.network].update(kind_key(call.kind) for call in step.calls)
    return ScheduleSummary(
        digest=schedule.digest,
        num_steps=schedule.num_steps,
        num_blocks=schedule.networks[0].num_blocks,
        block_evaluations=block_evaluations(schedule),
        mean_depth=sum(depths(schedule)) / schedule.num_steps,
        calls=tuple(calls),
        source=schedule,
    )


def batch_seconds(found: ScheduleSummary, medians: Sequence[Mapping[str, float]]) -> float | None:
    """Seconds per batch: a schedule's calls of its networks, the solver's arithmetic, and the decoder, added up.

    `medians` has, for each network, the seconds of each timed kind of call by `kind_key`; those of the first have the
    other two. None where a kind isn't timed.
    """
    step, decode = kind_key(SOLVER_STEP), kind_key(DECODE)
    if len(found.calls) > len(medians) or not any(found.calls) or not {step, decode} <= medians[0].keys():
        return None
    pairs = list(zip(found.calls, medians, strict=False))
    if not all(calls.keys() <= known.keys() for calls, known in pairs):
        return None
    called = sum(count * known[key] for calls, known in pairs for key, count in sorted(calls.items()))
    return called + found.num_steps * medians[0][step] + medians[0][decode]


def summary_to_json(found: ScheduleSummary) -> dict[str, Any]:
    """What is stored of a summary beside its schedule."""
    costs = {name: getattr(found, name) for name in _COSTS}
    return {"version": COSTS_VERSION, **costs, "calls": [dict(each) for each in found.calls]}


def stored_schedule(digest: str, text: str, stored: Mapping[str, Any] | None) -> ScheduleSummary:
    """A schedule as the database has it; costs of another version are worked out again."""
    if stored is None or stored["version"] != COSTS_VERSION:
        return summarized(parse(text))
    costs = {name: stored[name] for name in _COSTS}
    return ScheduleSummary(digest=digest, **costs, calls=tuple(stored["calls"]), source=text)
