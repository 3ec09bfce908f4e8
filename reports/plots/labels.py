"""Places labels beside their points so that none covers another label or a point. Geometry alone, in any one unit."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """A rectangle with its sides parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def holds(self, other: "Box") -> bool:
        """Whether `other` lies inside."""
        inside = self.left <= other.left and other.right <= self.right
        return inside and self.bottom <= other.bottom and other.top <= self.top


@dataclass(frozen=True)
class Label:
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
    sides = _Sides(obstacles)
    places = list[Box | None]()
    for label in labels:
        free = (
            box
            for reach in (1.0, 1.7, 2.6, 3.7, 5.0)
            for angle in _ANGLES
            if bounds.holds(box := _beside(label, gap * reach, angle)) and not sides.meet(box)
        )
        places.append(next(free, None))
        if (box := places[-1]) is not None:
            sides.add(box)
    return places


class _Sides:
    """The sides of many boxes as arrays, since a plot may have thousands of points."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.values = np.array([astuple(box) for box in boxes], dtype=float).reshape(-1, 4)

    def meet(self, box: Box) -> bool:
        """Whether the box covers a part of one of them."""
        left, bottom, right, top = self.values.T
        width = np.minimum(right, box.right) - np.maximum(left, box.left)
        height = np.minimum(top, box.top) - np.maximum(bottom, box.bottom)
        return bool(np.any((width > 0) & (height > 0)))

    def add(self, box: Box) -> None:
        self.values = np.vstack([self.values, astuple(box)])


def _beside(label: Label, distance: float, angle: float) -> Box:
    """The label's box in one direction: its nearest side or corner is `distance` from the point."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x = label.x + distance * dx + dx * label.width / 2
    y = label.y + distance * dy + dy * label.height / 2
    return Box(x - label.width / 2, y - label.height / 2, x + label.width / 2, y + label.height / 2)
