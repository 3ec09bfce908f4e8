"""The rows of the study database as frozen values. Nothing here touches a database, torch or NumPy."""

import hashlib
import json
from dataclasses import dataclass
from statistics import median

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

    @property
    def baseline_images_per_second(self) -> float:
        return self.key.batch_size / median(self.baseline_seconds)


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
