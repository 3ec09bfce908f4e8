"""What the Pareto front plot shows, as a value."""

from dataclasses import dataclass

from ..view.interval import Interval
from ..view.standard import Standard
from ..view.view import Point, Seeds, StudyView


@dataclass(frozen=True)
class Mark:
    """One point: `speed` in images a second, `excess` in the metric's units, `name` short enough for a label."""

    name: str
    family: str
    speed: Interval
    excess: Interval
    on_front: bool
    other_weights: bool
    is_knee: bool

    @property
    def is_faint(self) -> bool:
        """Whether it is one of the trials that something else dominates: drawn without bars or name."""
        return not self.family and not self.on_front


@dataclass(frozen=True)
class Gap:
    """The best ratio as a distance on the plot: from the baseline's speed to the point's, at the point's excess."""

    baseline_speed: float
    point_speed: float
    excess: float
    text: str


@dataclass(frozen=True)
class FrontInfo:
    """What the front plot shows.

    Attributes:
        full_speed: the full schedule's images a second, where the speed-up is 1; None until it is measured.
        limit: the excess up to which people want a schedule; None where there is nothing to state it in.
        standard: what quality is compared with.
    """

    seeds: Seeds
    metric: str
    num_images: int
    marks: tuple[Mark, ...]
    full_speed: float | None
    limit: float | None
    gap: Gap | None
    standard: Standard

    @property
    def groups(self) -> list[list[int]]:
        """Indices of the marks that look the same, group by group, in a fixed order."""
        found: dict[tuple[str, bool, bool], list[int]] = {}
        for index, mark in enumerate(self.marks):
            found.setdefault((mark.family, mark.on_front, mark.other_weights), []).append(index)
        return list(found.values())

    @property
    def logarithmic(self) -> bool:
        """Whether the excess distances can stand on a logarithmic axis."""
        return all(mark.excess.value > 0 for mark in self.marks)


def front_info(view: StudyView, seeds: Seeds) -> FrontInfo | None:
    """The measured points on one set of seeds; None while there are none."""
    if not (points := view.measured(seeds)):
        return None
    full = view.full if view.full in points else None
    quality, full_quality = points[0].quality(seeds), full and full.quality(seeds)
    part = full_quality and view.standard.relative(1.0, full_quality.excess.value)
    assert quality is not None
    return FrontInfo(
        seeds=seeds,
        metric=quality.metric,
        num_images=quality.num_images,
        marks=tuple(_mark(view, point, seeds) for point in points),
        full_speed=view.speed(full, seeds) if full else None,
        limit=view.standard.limit / part if part else None,
        gap=_gap(view) if seeds == "final" else None,
        standard=view.standard,
    )


def _mark(view: StudyView, point: Point, seeds: Seeds) -> Mark:
    quality, speed = point.quality(seeds), view.speed_interval(point, seeds)
    assert quality is not None, point.label
    assert speed is not None, point.label
    return Mark(
        name=f"#{point.trial}" if point.role == "trial" else point.label.removesuffix(f" · {point.weights}"),
        family=point.family,
        speed=speed,
        excess=quality.excess,
        on_front=point in view.front(seeds),
        other_weights=view.is_on_other_weights(point),
        is_knee=point is view.knee(seeds),
    )


def _gap(view: StudyView) -> Gap | None:
    if (best := view.best) is None:
        return None
    rival, own, quality = view.speed(best.baseline, "final"), view.speed(best.point, "final"), best.point.final
    assert rival is not None, best.baseline.label
    assert own is not None, best.point.label
    assert quality is not None, best.point.label
    return Gap(rival, own, quality.excess.value, f"{best.ratio:.2f} ×")
