"""A network whose images take time and no core, so that many workers fit on few cores."""

import time
from typing import Any

from exeunt.backends.networks.closed_form import ClosedFormNetwork, Mixture
from torch import Tensor


class Asleep(ClosedFormNetwork):
    """The closed-form network, which sleeps `seconds_per_image` while it decodes: as long for every schedule."""

    def __init__(self, mixture: Mixture, *, seconds_per_image: float = 0.0, **options: Any) -> None:
        super().__init__(mixture, **options)
        self.seconds_per_image = seconds_per_image

    def decode(self, x: Tensor) -> Tensor:
        """As the closed-form network's, later."""
        time.sleep(self.seconds_per_image * len(x))
        return super().decode(x)
