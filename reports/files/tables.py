"""The study's figures as CSV rows and as one JSON object. Search values and final values have columns of their own."""

import csv
import json
import re
from dataclasses import asdict
from io import StringIO
from typing import Any

from ...backends.errors import json_text
from ..view.interval import Interval
from ..view.pareto import Advantage
from ..view.standard import Standard, best_ratio
from ..view.view import Point, Seeds, StudyView

TableValue = str | int | float | bool | None


def point_row(view: StudyView, point: Point) -> dict[str, TableValue]:
    """Everything that is known of one point, under the names that the CSV and the JSON share."""
    timed, speedup, speed = point.throughput, view.speedup(point), view.speed(point, "final")
    return {
        "label": point.label,
        "role": point.role,
        "family": point.family or None,
        "weights": point.weights,
        "trial": point.trial,
        "digest": point.stored.digest,
        "num_steps": point.stored.num_steps,
        "mean_depth": point.stored.mean_depth,
        "block_evaluations": point.stored.block_evaluations,
        "flops": point.flops,
        "weight_bytes": point.memory and point.memory.weights,
        "stored_bytes": point.memory and point.memory.stored,
        **_quality_cells(view, point, "search"),
        **_quality_cells(view, point, "final"),
        **_interval_cells("speedup", speedup),
        "acceleration": 1 - 1 / speedup.value if speedup else None,
        "images_per_second": speed,
        "milliseconds_per_batch": 1000 * view.batch_size / speed if speed else None,
        "images_per_second_with_text": view.with_text(speed),
        "images_per_second_raw": timed and timed.images_per_second,
        "seconds_per_batch": timed and timed.median,
        "predicted_seconds_per_batch": point.predicted_seconds,
        "latency_seconds": timed and timed.latency_seconds,
        "peak_memory_bytes": timed and timed.peak_memory_bytes,
        "on_search_front": point in view.front("search"),
        "on_final_front": point in view.front("final"),
        "is_knee": point is view.knee("final"),
        "is_recommended": point is view.recommended,
    }


def _quality_cells(view: StudyView, point: Point, seeds: Seeds) -> dict[str, TableValue]:
    quality, standard = point.quality(seeds), view.standard
    score = quality and standard.shown(quality.distance)  # with the sign that people know
    cells: dict[str, TableValue] = {
        "metric": quality and quality.metric,
        "num_images": quality and quality.num_images,
        **_interval_cells("distance", quality and quality.distance),
        "floor": quality and quality.floor,
        "excess": quality and quality.excess.value,
        **(_interval_cells("score", score) if standard.kind == "score" else {}),
        **_interval_cells("loss", view.loss(point, seeds)),
        "vetoes": "; ".join(view.objections(point, seeds)) or None,
        "relative_excess": view.relative_excess(point, seeds),
        "to_baseline": quality and quality.to_baseline,
        **_interval_cells("kernel", quality and quality.kernel),
        "front_probability": view.probability(point, seeds),
        "ties": "; ".join(each.label for each in view.ties(point, seeds)) or None,
    }
    return {f"{seeds}_{name}": cell for name, cell in cells.items()}


def _interval_cells(name: str, interval: Interval | None) -> dict[str, TableValue]:
    return {
        name: interval and interval.value,
        f"{name}_lower": interval and interval.lower,
        f"{name}_upper": interval and interval.upper,
    }


def to_csv(view: StudyView) -> str:
    """One line a point, with a header; raw seconds stand at the end, separated by spaces."""
    buffer, rows = StringIO(), list[dict[str, TableValue]]()
    for point in view.points:
        timed = point.throughput.timed if point.throughput else ((), ())
        own, full = (" ".join(f"{seconds:.6g}" for seconds in each) or None for each in timed)
        rows.append({**point_row(view, point), "seconds_raw": own, "full_schedule_seconds_raw": full})
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["label"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(cell) for name, cell in row.items()} for row in rows)
    return buffer.getvalue()


# Some skip blanks, ends of lines and marks that nobody sees, and take full-width signs for plain ones.
_FORMULA = re.compile(r"[\s\0\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠]|[\t\r\n]")


def _inert(cell: TableValue) -> TableValue:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front, which spreadsheets show as text."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def report_to_dict(view: StudyView) -> dict[str, Any]:
    """The whole report as plain values that JSON can hold; what is not known yet is null."""
    best, knee, corner, standard = view.best, view.knee("final"), view.reference_point, view.standard
    return {
        "study": view.name,
        "storage": view.storage,
        "state": view.state,
        "ended": view.ended or None,
        "objective": view.objective,
        "missing": list(view.missing),
        "best_ratio": best.ratio if best else None,
        "best_ratio_lower": best.lower if best else None,
        "best": _advantage(best) if best else None,
        "advantages": [_advantage(entry) for entry in view.advantages],
        "best_ratio_definition": best_ratio(standard),
        "knee": knee.label if knee else None,
        "recommended": view.recommended.label if view.recommended else None,
        "has_gain": view.has_gain,
        "full_schedule": point_row(view, view.full) if view.full else None,
        "front": [point_row(view, point) for point in view.front("final")],
        "search_front": [point_row(view, point) for point in view.front("search")],
        "baselines": [point_row(view, point) for point in view.points if point.role == "baseline"],
        "num_points": len(view.points),
        "num_trials": sum(point.role == "trial" for point in view.points),
        "standard": {
            "kind": standard.kind,
            "noise": standard.noise and standard.noise.value,  # what another noise changes
            "noise_interval": standard.noise and list(standard.noise.ends),
            "higher_is_better": standard.higher_is_better,
            "limit": standard.limit,
            "scale": _scale(standard),
        },
        "text_seconds": view.text_seconds,
        "interval_level": view.level,
        "conditions": dict(view.conditions),
        "configuration": view.configuration,
        "reference_point": corner and {"distance": corner.quality, "images_per_second": corner.speed},
        "hypervolume": [{"images": entry.cost, "hypervolume": entry.hypervolume} for entry in view.progress],
        "agreements": [asdict(each) for each in view.agreements],
        "failures": list(view.failures),
    }


def _scale(standard: Standard) -> dict[str, Any] | None:
    """The two ends of loss."""
    if (scale := standard.scale) is None:
        return None
    return {
        "full_excess": scale.full,
        "nothing_excess": dict(scale.nothing),
        "nearest": scale.nearest,
        "width": scale.width,
        "standard_errors": scale.standard_errors,
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


def report_to_json(view: StudyView) -> str:
    """`report_to_dict` as strict JSON: an unbounded end of an interval is null."""
    finite = json.loads(json.dumps(report_to_dict(view)), parse_constant=lambda _: None)
    return json_text(finite) + "\n"
