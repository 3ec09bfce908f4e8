"""Places labels beside their points so that none covers another label or a point. Geometry alone, in any one unit."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """A rectangle with its sides parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def holds(self, other: "Box") -> bool:
        """Whether `other` lies inside."""
        inside = self.left <= other.left and other.right <= self.right
        return inside and self.bottom <= other.bottom and other.top <= self.top


class Label(NamedTuple):
    """A text of known size that belongs to the point (x, y)."""

    x: float
    y: float
    width: float
    height: float


# Right, left, above and below come before the corners, and near before far: (distance, angle) in order of preference.
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)


def place_labels(labels: Sequence[Label], obstacles: Sequence[Box], bounds: Box, gap: float) -> list[Box | None]:
    """A place for each label, earlier ones first; None where every place within reach covers something.

    `gap` is the room between a point and its label at the nearest place; the farthest is five times as far.
    """
    taken = np.array(obstacles, dtype=float).reshape(-1, 4)  # an array, since a plot may have thousands of points
    places = list[Box | None]()
    for label in labels:
        near = (_beside(label, gap * reach, angle) for reach in (1.0, 1.7, 2.6, 3.7, 5.0) for angle in _ANGLES)
        place = next((box for box in near if bounds.holds(box) and not _meets(taken, box)), None)
        places.append(place)
        taken = np.vstack([taken, *([place] if place else [])])
    return places


def _meets(taken: NDArray[np.float64], box: Box) -> bool:
    """Whether the box covers a part of one that is taken."""
    left, bottom, right, top = taken.T
    return bool(np.any((left < box.right) & (right > box.left) & (bottom < box.top) & (top > box.bottom)))


def _beside(label: Label, distance: float, angle: float) -> Box:
    """The label's box in one direction: its nearest side or corner is `distance` from the point."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x = label.x + distance * dx + dx * label.width / 2
    y = label.y + distance * dy + dy * label.height / 2
    return Box(x - label.width / 2, y - label.height / 2, x + label.width / 2, y + label.height / 2)
