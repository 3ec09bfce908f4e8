"""Sampling one chunk of images and their features, in batches as large as memory lets them be.

Batches change no image but for rounding, since noises belong to images. So where a batch does not fit, half of it is
tried, down to single images; a schedule of which not even one fits fails with that reason.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...backends.errors import DeviceError, first_line
from ...backends.quality.extractors import FeatureArray
from ...backends.sampling.loop import Samples, sample
from ...backends.timing.device import free_cached_memory, is_broken_device, is_out_of_memory
from ..spaces.candidates import Candidate
from .setup import StudySetup

SHOWN_IMAGES = 12


class OutOfMemory(DeviceError):
    """Not even one image of a schedule fits into the device's memory."""

    identifier = "out-of-memory"


@dataclass(frozen=True)
class Chunk:
    """Features (N, D) of consecutive images, and the seconds that sampling them and making features took.

    `images` are the first few of them, (N, H, W, 3) uint8.
    """

    features: FeatureArray
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
        while True:
            try:
                with self._setup.lock.shared():
                    return self._sample(candidate, seed, images)
            except (RuntimeError, MemoryError) as error:
                reason = self._reason(error, candidate)
            self._halve(candidate, min(self.batch_size, len(images)), reason)

    def _sample(self, candidate: Candidate, seed: int, images: range) -> Chunk:
        study_setup, started = self._setup, time.perf_counter()
        batches = sample(
            [study_setup.networks[candidate.weights]],
            candidate.schedule,
            seed=seed,
            images=images,
            conditions=study_setup.conditions,
            batch_size=self.batch_size,
            observe=lambda _step, _values: self._check(),
        )
        found = list(batches)
        sampled = time.perf_counter()
        features = study_setup.features(found, seed)
        return Chunk(features, _first(found), sampled - started, time.perf_counter() - sampled)

    def _reason(self, error: BaseException, candidate: Candidate) -> str:
        """The first line of an allocation's failure. Raises anything else."""
        reason = first_line(error)
        if is_out_of_memory(error):
            return reason
        if is_broken_device(error):
            name = self._setup.environment["device"]
            raise DeviceError(f"{name} failed while it sampled {candidate.label}: {reason}. Check it.") from error
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
