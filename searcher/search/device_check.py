"""Whether a worker's device can be relied on: it samples images again that the study has, and compares.

A device with a broken memory, a wrong version or another arithmetic makes other images of the same noises, and values
of theirs must not be mixed with those of the study. So a joining worker shows first that it makes the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...backends.errors import DeviceError
from ...backends.quality.extractors import FeatureArray
from ...backends.sampling.loop import NonFiniteSamples
from ...backends.timing.device import device_name
from ...studies.store.evaluations import DamagedFeatures, FailedEvaluation

if TYPE_CHECKING:
    from .session import Session

CHECKED_IMAGES = 16
MOST_FAILURES = 3
# The root mean square difference of features, as a share of how far images are from each other; see
# `feature_difference`.
# On the bundled checkpoint (20 steps, CPU) other batches and thread counts come to 0.0003 in float32, which is what
# storing rounds, to 0.0003 in float16 and 0.04 in bfloat16; float16 is 0.02 and bfloat16 0.08 from float32, and other
# images are at 1.5. Larger networks, longer trajectories and other devices get room.
TOLERANCE = {"float32": 0.05, "float16": 0.2, "bfloat16": 0.4}


def feature_difference(found: FeatureArray, stored: FeatureArray) -> float:
    """How far features (N, D) are from stored ones of the same images: 0 if equal, 1.4 if they are of other images.

    It is √(mean ‖found − stored‖² ÷ mean ‖stored − their mean‖²); features that are all equal are compared with 0.
    """
    wanted = stored.astype(np.float64)
    scatter = np.square(wanted - wanted.mean(axis=0)).sum() or np.square(wanted).sum() or 1.0
    return float(np.sqrt(np.square(found - wanted).sum() / scatter))


class DeviceCheck:
    """What one worker has shown of its device.

    Args:
        doubted: whether it has to show anything: not where one process makes a study alone.
    """

    def __init__(self, doubted: bool) -> None:
        self._doubted = doubted
        self._failures = 0

    def earn(self, session: Session) -> None:
        """Samples the baseline's first images again, up to three times, unless this worker need not.

        Raises:
            DeviceError: each time they were others than those that are stored.
        """
        stored = self._stored(session) if self._doubted else None
        if stored is None:
            return
        reason = ""
        for _ in range(MOST_FAILURES):
            session.check()
            reason = _objection(session, stored)
            if not reason:
                return
            session.watch.say(f"check of this device: {reason}")
        device = device_name(session.laboratory.network.device)
        raise DeviceError(
            f"{device} can't be trusted: {MOST_FAILURES} times in a row {reason}. "
            "Check the device, its driver and the versions of torch here and where the study began."
        )

    def failed(self, session: Session, error: Exception) -> None:
        """Notes a schedule that could not be measured; after three in a row the device itself is checked again.

        Raises:
            DeviceError: the check failed as well.
        """
        if isinstance(error, FailedEvaluation):
            return  # It failed before, perhaps elsewhere.
        self._failures += 1
        if self._failures == MOST_FAILURES:
            self._failures = 0
            self.earn(session)

    def succeeded(self, sampled: int) -> None:
        """Notes that so many images could be sampled."""
        if sampled:
            self._failures = 0

    def _stored(self, session: Session) -> FeatureArray | None:
        """(N, D) features of the baseline's first images, if the study has them whole."""
        key = session.objective.key(session.laboratory.baseline, session.laboratory.config.quality.search_seed)
        try:
            return session.store.evaluations.features(key, range(_count(session)))
        except DamagedFeatures as error:
            session.watch.say(f"this device can't be checked, as what it would be compared with is lost. {error}")
            return None


def _count(session: Session) -> int:
    return min(CHECKED_IMAGES, session.laboratory.config.quality.num_images)


def _objection(session: Session, stored: FeatureArray) -> str:
    """Why images sampled again are not those that are stored; empty if they are."""
    laboratory = session.laboratory
    try:
        found = session.objective.sample_again(laboratory.baseline, range(len(stored)))
    except (NonFiniteSamples, DeviceError) as error:
        return f"{len(stored)} images of the baseline failed: {error}"
    limit, apart = TOLERANCE[laboratory.config.checkpoint.dtype], feature_difference(found, stored)
    if apart <= limit:
        return ""
    return (
        f"features of {len(stored)} images of the baseline are {apart:.3g} of the images' own spread from the stored "
        f"ones (at most {limit:g})"
    )
