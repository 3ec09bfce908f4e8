"""Checks a worker's device: it samples stored images again and compares them.

A device with a broken memory, a wrong version or another arithmetic makes other images of the same noises, and values
of theirs must not be mixed with those of the study. So a joining worker shows first that it makes the same ones.
"""

import numpy as np

from ...backends.errors import DeviceError
from ...backends.quality.extractors import FeatureArray
from ...backends.sampling.loop import NonFiniteSamples
from ...studies.store.evaluations import DamagedFeatures, FailedEvaluation
from ..measuring.objective import Objective

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
    """The checks of one worker's device. It is `doubted` unless one process works on a study alone."""

    def __init__(self, objective: Objective, *, doubted: bool) -> None:
        self._objective, self._doubted = objective, doubted
        self._failures = 0

    def pass_once(self) -> None:
        """Samples the baseline's first images again, up to three times, if this device is to be checked.

        Raises DeviceError: they differed from the stored ones each time.
        """
        stored = self._stored() if self._doubted else None
        if stored is None:
            return
        reason = ""
        for _ in range(MOST_FAILURES):
            self._objective.check()
            reason = self._objection(stored)
            if not reason:
                return
            self._objective.say(f"check of this device: {reason}")
        device = self._objective.study_setup.environment["device"]
        raise DeviceError(
            f"{device} can't be trusted: {MOST_FAILURES} times in a row {reason}. "
            "Check the device, its driver and the versions of torch here and where the study was started."
        )

    def failed(self, error: Exception) -> None:
        """Notes a schedule that could not be measured; after three in a row the device is checked again.

        Raises DeviceError: the check failed as well.
        """
        if isinstance(error, FailedEvaluation):
            return  # It failed before, perhaps elsewhere.
        self._failures += 1
        if self._failures == MOST_FAILURES:
            self._failures = 0
            self.pass_once()

    def succeeded(self, sampled: int) -> None:
        """Notes that so many images could be sampled."""
        if sampled:
            self._failures = 0

    def _stored(self) -> FeatureArray | None:
        """(N, D) features of the baseline's first images, if the study has them whole."""
        setup = self._objective.study_setup
        quality = setup.config.quality
        key = self._objective.key(setup.baseline, quality.search_seed)
        try:
            return self._objective.store.evaluations.features(key, range(min(CHECKED_IMAGES, quality.num_images)))
        except DamagedFeatures as error:
            self._objective.say(f"this device can't be checked, because the stored features are lost. {error}")
            return None

    def _objection(self, stored: FeatureArray) -> str:
        """How images that were sampled again differ from the stored ones; empty if they don't."""
        setup = self._objective.study_setup
        try:
            found = self._objective.sample_again(setup.baseline, range(len(stored)))
        except (NonFiniteSamples, DeviceError) as error:
            return f"{len(stored)} images of the baseline failed: {error}"
        limit, apart = TOLERANCE[setup.config.checkpoint.dtype], feature_difference(found, stored)
        if apart <= limit:
            return ""
        return (
            f"features of {len(stored)} images of the baseline differ from the stored ones by {apart:.3g} of the "
            f"images' own spread (at most {limit:g})"
        )
