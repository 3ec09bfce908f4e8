"""The page's sortable tables of points: cells with the text that is shown and the value that is sorted by."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..plots.style import family_look
from ..view.interval import Interval, per_second, places, spelled_number
from ..view.standard import QualityKind
from ..view.view import Point, Seeds, StudyView


@dataclass(frozen=True)
class Column:
    """A heading with the unit under it; columns of text are sorted as text."""

    title: str
    unit: str = ""
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """`value` is what is sorted by; an empty one comes last."""

    text: str
    value: str
    note: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class TableRow:
    """One point; `id` is the row's in the page, `color` a name of the palette."""

    id: str
    color: str
    on_front: bool
    badges: tuple[str, ...]
    cells: tuple[Cell, ...]


# What stands for quality, by how the study states it.
QUALITY_COLUMNS: dict[QualityKind, tuple[Column, ...]] = {
    "reference": (
        Column("excess", "distance, interval"),
        Column("loss", "%, interval"),
        Column("× full's", "excess"),
        Column("to full", "paired"),
        Column("kernel", "distance"),
    ),
    "baseline": (Column("to full", "distance, interval"), Column("loss", "%, interval")),
    "score": (Column("score", "mean, interval"), Column("lost", "paired interval"), Column("loss", "%, interval")),
}
OTHER_COLUMNS = (
    Column("1 − t/t₀"),
    Column("steps"),
    Column("mean depth", "blocks"),
    Column("block runs", "an image"),
    Column("GFLOP", "an image"),
    Column("latency", "ms, one image"),
    Column("memory", "MiB, peak"),
    Column("stored values", "MiB, most"),
)
TEXT_COLUMN = Column("images/s", "with text")


OTHER_SEEDS: dict[Seeds, Seeds] = {"final": "search", "search": "final"}


def columns(view: StudyView, seeds: Seeds) -> tuple[Column, ...]:
    """The headings of a study's table of values on these seeds; the loss on the others stands beside them."""
    text = () if view.text_seconds is None else (TEXT_COLUMN,)
    names = (Column("schedule", text=True), Column("weights", text=True))
    certainty = (
        Column("loss", f"%, {OTHER_SEEDS[seeds]}"),
        Column("on the front", "probability"),
        Column("tied with", text=True),
    )
    unit = view.unit
    speed = (Column("speed-up", "interval"), Column(unit.short, f"per {unit.per}" if unit.is_latency else ""))
    return (*names, *QUALITY_COLUMNS[view.standard.kind], *certainty, *speed, *OTHER_COLUMNS, *text)


def table_rows(view: StudyView, points: Sequence[Point], seeds: Seeds, prefix: str, most: int) -> list[TableRow]:
    """One row a point, the front first and then the slowest, `most` at the most; point i's has the id `prefix`-i."""
    front = set(view.front(seeds))
    order = sorted(range(len(points)), key=lambda i: (points[i] not in front, view.speed(points[i], seeds)))
    return [
        TableRow(
            f"{prefix}-{index}",
            family_look(points[index].family).color,
            points[index] in front,
            _badges(view, points[index], seeds),
            tuple(_cells(view, points[index], seeds)),
        )
        for index in order[:most]
    ]


def _badges(view: StudyView, point: Point, seeds: Seeds) -> tuple[str, ...]:
    badges = {
        "recommended": seeds == "final" and point is view.recommended,
        "knee": point is view.knee(seeds),
        "best ratio": seeds == "final" and view.best is not None and point is view.best.point,
        "vetoed": bool(view.objections(point, seeds)),
        "tie": bool(view.ties(point, seeds)),
    }
    return tuple(name for name, holds in badges.items() if holds)


def _cells(view: StudyView, point: Point, seeds: Seeds) -> list[Cell]:
    speed = view.speed(point, seeds)
    speedup = view.speedup(point) if seeds == "final" else _predicted_speedup(view, point)
    timed = point.throughput
    latency, memory = timed and timed.latency_seconds, timed and timed.peak_memory_bytes
    return [
        Cell(point.label.removesuffix(f" · {point.weights}"), point.label, is_text=True),
        Cell(point.weights, point.weights, is_text=True),
        *_quality_cells(view, point, seeds),
        *_certainty_cells(view, point, seeds),
        _interval(speedup, digits=2, unit=" ×"),
        _speed(view.unit.of(speed) if speed else None),
        _number(100 * (1 - 1 / speedup.value) if speedup else None, 0, " %"),
        _number(point.stored.num_steps, 0),
        _number(point.stored.mean_depth, 1),
        _number(point.stored.block_evaluations, 0),
        _number(point.flops / 1e9 if point.flops else None, 2),
        _number(latency * 1000 if latency else None, 1),
        _number(memory / 2**20 if memory else None, 0),
        _number(point.memory.stored / 2**20 if point.memory else None, 1),
        *([] if view.text_seconds is None else [_speed(view.with_text(speed))]),
    ]


def _quality_cells(view: StudyView, point: Point, seeds: Seeds) -> list[Cell]:
    quality, loss = point.quality(seeds), view.loss(point, seeds)
    lost = _interval(loss and loss.times(100), digits=1)
    if view.standard.kind == "reference":
        return [
            _interval(quality and quality.excess, digits=1),
            lost,
            _number(view.relative_excess(point, seeds), 2),
            _number(quality and quality.to_baseline, 1),
            _number(quality and quality.kernel and quality.kernel.value, 3),
        ]
    values = [quality and quality.excess]
    if view.standard.kind == "score":
        values.insert(0, quality and view.standard.shown(quality.distance))
    cells = [_interval(value, digits=places(value)) for value in values]
    return [*cells, lost]


def _certainty_cells(view: StudyView, point: Point, seeds: Seeds) -> list[Cell]:
    """The loss on the other seeds, the probability of being on the front on both, and ties."""
    loss = view.loss(point, OTHER_SEEDS[seeds])
    own, other = view.probability(point, seeds), view.probability(point, OTHER_SEEDS[seeds])
    ties = ", ".join(each.label for each in view.ties(point, seeds))
    note = "" if other is None else f"{OTHER_SEEDS[seeds]} {other:.0%}"
    return [
        _number(100 * loss.value if loss else None, 1),
        Cell("–" if own is None else f"{own:.0%}", "" if own is None else repr(own), note),
        Cell(ties, ties, is_text=True),
    ]


def _predicted_speedup(view: StudyView, point: Point) -> Interval | None:
    full = view.full.predicted_seconds if view.full else None
    ratio = full / point.predicted_seconds if full and point.predicted_seconds else None
    return Interval(ratio, ratio, ratio) if ratio else None


def _speed(value: float | None) -> Cell:
    return Cell(per_second(value), repr(float(value))) if value else Cell("–", "")


def _number(value: float | None, digits: int, unit: str = "") -> Cell:
    if value is None:
        return Cell("–", "")
    rounded = round(value, digits) + 0.0  # no "−0"
    return Cell(
        f"{rounded:.{digits}f}{unit}" if abs(value) < 1e4 else f"{spelled_number(value)}{unit}", repr(float(value))
    )


def _interval(interval: Interval | None, digits: int, unit: str = "") -> Cell:
    """The value, and the interval beside it unless it has no width."""
    if interval is None:
        return Cell("–", "")
    note = "" if interval.lower == interval.upper else f"[{interval.lower:.{digits}f}, {interval.upper:.{digits}f}]"
    return Cell(f"{interval.value:.{digits}f}{unit}", repr(float(interval.value)), note)
