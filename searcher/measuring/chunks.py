"""Sampling one chunk of images and their features, in batches as large as memory lets them be.

Batches change no image but for rounding, since noises belong to images. So where a batch does not fit, half of it is
tried, down to single images; a schedule of which not even one fits fails with that reason.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...backends.errors import DeviceError, first_line
from ...backends.quality.extractors import FeatureArray
from ...backends.quality.guards.pixels import are_pictures, image_statistics
from ...backends.sampling.loop import Samples, sample
from ...backends.timing.device import free_cached_memory, is_broken_device, is_out_of_memory
from ..spaces.candidates import Candidate
from .setup import StudySetup

T = TypeVar("T")
SHOWN_IMAGES = 12
# Of the baseline's images, until what shows nothing is made of them.
MOST_KEPT_BYTES = 256_000_000


class OutOfMemory(DeviceError):
    """Not even one image of a schedule fits into the device's memory."""

    identifier = "out-of-memory"


@dataclass(frozen=True)
class Chunk:
    """Features (N, D) of consecutive images, and the seconds that sampling them and making features took.

    Attributes:
        statistics: (N, S) of their pixels; None where they are too small for any.
        images: the first few of them, (N, H, W, 3) uint8.
    """

    features: FeatureArray
    statistics: FeatureArray | None
    images: NDArray[np.uint8]
    sampling_seconds: float
    feature_seconds: float

    @property
    def seconds(self) -> float:
        return self.sampling_seconds + self.feature_seconds


class ChunkSampler:
    """Samples chunks for one study.

    Args:
        check: raises to stop; called at every step of sampling.
        say: told of batches that did not fit.
    """

    def __init__(self, study_setup: StudySetup, check: Callable[[], None], say: Callable[[str], None]) -> None:
        self._setup, self._check, self._say = study_setup, check, say
        self.begin()
        self._kept: dict[int, Tensor] = {}  # the baseline's images, by the first one of each batch

    def begin(self) -> None:
        """Another schedule may need less memory: batches are whole again."""
        self.batch_size = self._setup.config.quality.batch_size

    def chunk(self, candidate: Candidate, seed: int, images: range) -> Chunk:
        """Samples these images of a candidate.

        Raises:
            OutOfMemory: one image does not fit.
            NonFiniteSamples: a batch ended with NaN or infinity.
            DeviceError: the device failed.
        """
        return self._fitting(candidate, len(images), lambda: self._sample(candidate, seed, images))

    def _fitting(self, candidate: Candidate, count: int, work: Callable[[], T]) -> T:
        """Samples in batches that fit into memory. Raises what `chunk` raises."""
        while True:
            try:
                with self._setup.lock.shared():
                    return work()
            except (RuntimeError, MemoryError) as error:
                reason = self._reason(error, candidate)
            self._halve(candidate, min(self.batch_size, count), reason)

    def _sample(self, candidate: Candidate, seed: int, images: range) -> Chunk:
        started = time.perf_counter()
        found = list(self._batches(candidate, seed, images))
        sampled = time.perf_counter()
        features = self._setup.features(found, seed)
        pictures = are_pictures(found[0].images)
        statistics = np.concatenate([image_statistics(batch.images) for batch in found]) if pictures else None
        self._remember(candidate, seed, found)
        return Chunk(features, statistics, _first(found), sampled - started, time.perf_counter() - sampled)

    def _batches(self, candidate: Candidate, seed: int, images: range) -> Iterator[Samples]:
        return sample(
            self._setup.networks_of(candidate.weights, candidate.schedule),
            candidate.schedule,
            seed=seed,
            images=images,
            conditions=self._setup.conditions,
            batch_size=self.batch_size,
            observe=lambda _step, _values: self._check(),
        )

    def _remember(self, candidate: Candidate, seed: int, batches: Sequence[Samples]) -> None:
        """Keeps the baseline's images on search seeds for `baseline_images`, as far as they are small."""
        if candidate.key != self._setup.baseline.key or seed != self._setup.config.quality.search_seed:
            return
        kept = sum(images.numel() for images in self._kept.values())
        if kept + sum(batch.images.numel() for batch in batches) <= MOST_KEPT_BYTES:
            self._kept |= {batch.first: batch.images.cpu() for batch in batches}

    def baseline_images(self, count: int) -> Tensor:
        """The baseline's first images on search seeds, (N, 3, H, W) on the CPU; sampled again unless they just were.

        Raises what `chunk` raises.
        """
        candidate, seed = self._setup.baseline, self._setup.config.quality.search_seed
        kept, self._kept = self._kept, {}
        parts: list[Tensor] = []
        while (first := sum(map(len, parts))) < count:
            parts.append(kept[first] if first in kept else self._one_batch(candidate, seed, range(first, count)))
        return torch.cat(parts)[:count]

    def _one_batch(self, candidate: Candidate, seed: int, images: range) -> Tensor:
        """As many of the first of these images as go into a batch."""
        return self._fitting(candidate, len(images), lambda: next(self._batches(candidate, seed, images)).images.cpu())

    def _reason(self, error: BaseException, candidate: Candidate) -> str:
        """The first line of an allocation's failure. Raises anything else."""
        reason = first_line(error)
        if is_out_of_memory(error):
            return reason
        if is_broken_device(error):
            name = self._setup.environment["device"]
            raise DeviceError(
                f"{name} failed while it sampled {candidate.label}: {reason}. Check the device."
            ) from error
        raise error

    def _halve(self, candidate: Candidate, size: int, reason: str) -> None:
        if size == 1:
            raise OutOfMemory(f"one image of {candidate.label} does not fit into memory: {reason}")
        self.batch_size = size // 2
        free_cached_memory(self._setup.network.device)
        self._say(f"{candidate.label}: {size} images a call don't fit into memory ({reason}); trying {self.batch_size}")


def _first(batches: Sequence[Samples]) -> NDArray[np.uint8]:
    """The first images (N, H, W, 3), however few a batch has."""
    few = [batch.images[:SHOWN_IMAGES].permute(0, 2, 3, 1).cpu().numpy() for batch in batches[:SHOWN_IMAGES]]
    return np.concatenate(few)[:SHOWN_IMAGES]
