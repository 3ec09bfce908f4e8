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
    points = view.measured(seeds)
    if not points:
        return None
    front, knee = view.front(seeds), view.knee(seeds)
    quality = points[0].quality(seeds)
    full = view.full if view.full in points else None
    full_excess = full.quality(seeds) if full else None
    assert quality is not None
    return FrontInfo(
        seeds=seeds,
        metric=quality.metric,
        num_images=quality.num_images,
        marks=tuple(_mark(view, point, seeds, point in front, point is knee) for point in points),
        full_speed=view.speed(full, seeds) if full else None,
        limit=_limit(view, full_excess.excess.value) if full_excess else None,
        gap=_gap(view) if seeds == "final" else None,
        standard=view.standard,
    )


def _limit(view: StudyView, full_excess: float) -> float | None:
    """The excess at the standard's limit."""
    part = view.standard.relative(1.0, full_excess)
    return view.standard.limit / part if part else None


def _mark(view: StudyView, point: Point, seeds: Seeds, on_front: bool, is_knee: bool) -> Mark:
    quality, speed = point.quality(seeds), view.speed_interval(point, seeds)
    assert quality is not None, point.label
    assert speed is not None, point.label
    name = f"#{point.trial}" if point.role == "trial" else point.label.removesuffix(f" · {point.weights}")
    return Mark(name, point.family, speed, quality.excess, on_front, view.is_on_other_weights(point), is_knee)


def _gap(view: StudyView) -> Gap | None:
    if (best := view.best) is None:
        return None
    rival, own, quality = view.speed(best.baseline, "final"), view.speed(best.point, "final"), best.point.final
    assert rival is not None, best.baseline.label
    assert own is not None, best.point.label
    assert quality is not None, best.point.label
    return Gap(rival, own, quality.excess.value, f"{best.ratio:.2f} ×")
