"""The study's figures as CSV rows and as one JSON object. Search values and final values have columns of their own."""

import csv
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, cast

from ...backends.errors import json_text
from ..view.advantage import Advantage
from ..view.definitions import best_ratio
from ..view.interval import Interval
from ..view.pareto import Score
from ..view.view import Point, Quality, Seeds, StudyView

TableValue = str | int | float | bool | None


def point_row(view: StudyView, point: Point) -> dict[str, TableValue]:
    """Everything that is known of one point, under the names that the CSV and the JSON share."""
    throughput, speedup = point.throughput, view.speedup(point)
    return {
        "label": point.label,
        "role": point.role,
        "family": point.family or None,
        "weights": point.weights,
        "trial": point.trial,
        "digest": point.key[0],
        "num_steps": point.num_steps,
        "mean_depth": point.mean_depth,
        "block_evaluations": point.block_evaluations,
        "flops": point.flops,
        **_quality_cells(view, point, "search"),
        **_quality_cells(view, point, "final"),
        "speedup": speedup.value if speedup else None,
        "speedup_lower": speedup.lower if speedup else None,
        "speedup_upper": speedup.upper if speedup else None,
        "acceleration": 1 - 1 / speedup.value if speedup else None,
        "images_per_second": (speed := view.speed(point, "final")),
        "images_per_second_with_text": view.with_text(speed) if speed else None,
        "images_per_second_raw": throughput.images_per_second if throughput else None,
        "seconds_per_batch": throughput.median_seconds if throughput else None,
        "predicted_seconds_per_batch": point.predicted_seconds,
        "latency_seconds": throughput.latency_seconds if throughput else None,
        "peak_memory_bytes": throughput.peak_memory_bytes if throughput else None,
        "on_search_front": point in view.front("search"),
        "on_final_front": point in view.front("final"),
        "is_knee": point is view.knee("final"),
    }


def _quality_cells(view: StudyView, point: Point, seeds: Seeds) -> dict[str, TableValue]:
    quality = point.quality(seeds)
    cells: dict[str, TableValue] = {
        "metric": quality.metric if quality else None,
        "num_images": quality.num_images if quality else None,
        **_quality_values(quality),
        **_score_values(view, quality),
        "relative_excess": view.relative_excess(point, seeds),
        "to_baseline": quality.to_baseline if quality else None,
        **_kernel_values(quality.kernel if quality else None),
    }
    return {f"{seeds}_{name}": cell for name, cell in cells.items()}


def _score_values(view: StudyView, quality: Quality | None) -> dict[str, TableValue]:
    """A user's score with the sign that people know; no columns for distances."""
    if view.standard.kind != "score":
        return {}
    shown = view.standard.shown(quality.distance) if quality else None
    values = (shown.value, shown.lower, shown.upper) if shown else (None, None, None)
    return dict(zip(("score", "score_lower", "score_upper"), values, strict=True))


def _kernel_values(kernel: Interval | None) -> dict[str, TableValue]:
    return {
        "kernel": kernel.value if kernel else None,
        "kernel_lower": kernel.lower if kernel else None,
        "kernel_upper": kernel.upper if kernel else None,
    }


def _quality_values(quality: Quality | None) -> dict[str, TableValue]:
    names = ("distance", "distance_lower", "distance_upper", "floor", "excess")
    if quality is None:
        return dict.fromkeys(names)
    distance = quality.distance
    return dict(
        zip(names, (distance.value, distance.lower, distance.upper, quality.floor, quality.excess.value), strict=True)
    )


def to_csv(view: StudyView) -> str:
    """One line a point, with a header; raw seconds stand at the end, separated by spaces."""
    buffer = StringIO()
    rows = [{**point_row(view, point), **_raw_cells(point)} for point in view.points]
    names = list(rows[0]) if rows else ["label"]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(cell) for name, cell in row.items()} for row in rows)
    return buffer.getvalue()


def _raw_cells(point: Point) -> dict[str, TableValue]:
    timed = point.throughput.timed if point.throughput else ((), ())
    texts = [" ".join(f"{seconds:.6g}" for seconds in each) or None for each in timed]
    return {"seconds_raw": texts[0], "full_schedule_seconds_raw": texts[1]}


def _inert(cell: TableValue) -> TableValue:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front, which spreadsheets show as text."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def report_to_dict(view: StudyView) -> dict[str, Any]:
    """The whole report as plain values that JSON can hold; what is not known yet is null."""
    best, knee = view.best, view.knee("final")
    return {
        "study": view.name,
        "storage": view.storage,
        "state": view.state,
        "missing": list(view.missing),
        "best_ratio": best.ratio if best else None,
        "best_ratio_lower": best.lower if best else None,
        "best": _advantage(best) if best else None,
        "advantages": [_advantage(entry) for entry in view.advantages],
        "best_ratio_definition": best_ratio(view),
        "knee": knee.label if knee else None,
        "full_schedule": point_row(view, view.full) if view.full else None,
        "front": [point_row(view, point) for point in view.front("final")],
        "search_front": [point_row(view, point) for point in view.front("search")],
        "baselines": [point_row(view, point) for point in view.points if point.role == "baseline"],
        "num_points": len(view.points),
        "num_trials": sum(point.role == "trial" for point in view.points),
        "standard": _standard(view),
        "text_seconds": view.text_seconds,
        "interval_level": view.level,
        "conditions": dict(view.conditions),
        "configuration": view.configuration,
        "reference_point": _reference(view.reference_point),
        "hypervolume": [{"images": entry.cost, "hypervolume": entry.hypervolume} for entry in view.progress],
        "failures": list(view.failures),
    }


def _advantage(entry: Advantage[Point]) -> dict[str, Any]:
    return {
        "point": entry.point.label,
        "trial": entry.point.trial,
        "baseline": entry.baseline.label,
        "ratio": entry.ratio,
        "contender": entry.contender.label,
        "ratio_lower": entry.lower,
    }


def _standard(view: StudyView) -> dict[str, Any]:
    """What quality is compared with; `noise` is what another noise changes."""
    noise = view.standard.noise
    return {
        "kind": view.standard.kind,
        "noise": noise.value if noise else None,
        "noise_interval": list(noise.ends) if noise else None,
        "higher_is_better": view.standard.higher_is_better,
        "limit": view.standard.limit,
    }


def _reference(score: Score | None) -> dict[str, float] | None:
    return {"distance": score.quality, "images_per_second": score.speed} if score else None


def report_to_json(view: StudyView) -> str:
    """`report_to_dict` as strict JSON: an unbounded end of an interval is null."""
    return json_text(_finite(report_to_dict(view))) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in cast(Mapping[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in cast(Sequence[Any], value)]
    return value
