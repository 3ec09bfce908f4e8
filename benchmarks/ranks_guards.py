"""Which schedules a study's guards veto, as its report would say it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from exeunt.backends.quality.guards.pixels import image_statistics
from exeunt.backends.quality.intervals import Distance, estimate_distance, paired_difference
from exeunt.backends.quality.names import GUARD_PAIRED
from exeunt.reports.view.guards import GuardFigures, Guards, is_normal
from exeunt.reports.view.interval import Interval
from exeunt.reports.view.standard import scale_of, standard_of
from exeunt.reports.view.view import Key, Point, Quality, Seeds, StudyView, known
from exeunt.searcher.measuring.metric import Answer
from exeunt.searcher.measuring.scale import features_of_nothing, guard_figures, values_of_nothing
from exeunt.searcher.measuring.setup import StudySetup
from exeunt.studies.store.records import QualityRecord
from ranks_images import Images
from torch import Tensor


class Study:
    """What a study with its default metric finds out, without its database.

    Args:
        setup: its own.
        full: the images of its first full schedule, which everything is stated against.
    """

    def __init__(self, setup: StudySetup, full: Images) -> None:
        self.setup, self.points = setup, list[Point]()
        self._normal = image_statistics(self._part(full, "search"))
        self._full = {seeds: self._answer(full, seeds) for seeds in ("search", "final")}
        self._scores = {seeds: setup.metric.score(answer, answer, True) for seeds, answer in self._full.items()}
        shown = features_of_nothing(setup, self._part(full, "search"), setup.config.quality.search_seed)
        self._nothing = values_of_nothing(setup.metric, shown, self._full["search"])

    def _part(self, images: Images, seeds: Seeds) -> Tensor:
        """The images that a study samples on some noises."""
        quality = self.setup.config.quality
        return images.search[: quality.num_images] if seeds == "search" else images.final[: quality.final_images]

    def _answer(self, images: Images, seeds: Seeds) -> Answer:
        features = self.setup.metric.features([self._part(images, seeds)], [{}])
        return Answer(f"{images.candidate.label} {seeds}", features)

    def measure(self, images: Images, *, is_final: bool) -> None:
        """Adds a schedule, with its values on final seeds if they are wanted."""
        one, final = images.candidate, self._quality(images, "final") if is_final else None
        point = Point(
            one.label, "baseline" if one.role == "baseline" else "trial", one.family, one.weights, one.stored, None
        )
        self.points.append(replace(point, search=self._quality(images, "search"), final=final))

    def _quality(self, images: Images, seeds: Seeds) -> Quality:
        """As `reports/view/loading.py` has it from records; the kernel distance stands beside final values alone."""
        metric, full = self.setup.metric, self._full[seeds]
        answer, statistics = self._answer(images, seeds), image_statistics(self._part(images, seeds))
        record = metric.score(answer, full, keep_influence=True)
        kernel = metric.second(answer) if seeds == "final" else []
        difference = paired_difference(_distance(record), _distance(self._scores[seeds]))
        return Quality(
            seeds=seeds,
            metric=record.metric,
            num_images=record.num_images,
            distance=Interval.of(record),
            floor=record.floor,
            kernel=Interval.of(kernel[-1]) if kernel else None,
            lost=Interval.of(estimate_distance(difference, metric.level)) if seeds == "final" else None,
            figures=GuardFigures.of(guard_figures(metric, answer, statistics, full, self._normal)),
        )

    def view(self) -> StudyView:
        """The study's view, calibrated by the schedules that were measured."""
        quality, metric = self.setup.config.quality, self.setup.metric.name
        paired = [each.value for each in self._nothing if each.metric.endswith(f":{GUARD_PAIRED}")]
        kernel = [
            each.value for each in self._nothing if ":kid" in each.metric and not each.metric.endswith(f":{metric}")
        ]
        normal = (known(p.search, p).figures for p in self.points if is_normal(p.family, p.stored.num_steps))
        return StudyView(
            name="ranks",
            storage="",
            state="",
            normal_weights=self.setup.baseline.weights,
            batch_size=quality.batch_size,
            level=quality.level,
            configuration={},
            conditions={},
            points=tuple(self.points),
            differences={},
            standard=standard_of(quality, None, scale_of(quality, self._scores["search"], self._nothing)),
            guards=Guards.of(normal, min(paired, default=None)),
            kernel_of_nothing=min(kernel, default=None),
        )


def _distance(record: QualityRecord) -> Distance:
    return Distance.unpack(record.value, np.reshape(np.asarray(record.influence, np.float32), (-1, record.num_images)))


def print_vetoes(view: StudyView, sets: Mapping[str, Sequence[Key]]) -> dict[str, Any]:
    """How many of some sets of schedules are vetoed, on search seeds and on final ones, and why."""
    found, points = dict[str, Any](), {point.key: point for point in view.points}
    each: tuple[Seeds, ...] = ("search", "final")
    for name, keys in sets.items():
        for seeds in each:
            objections = {points[key].label: view.objections(points[key], seeds) for key in keys}
            vetoed = {label: why for label, why in objections.items() if why}
            print(f"{name}, {seeds} seeds: {len(vetoed)} of {len(keys)} vetoed", flush=True)
            for label, why in vetoed.items():
                print(f"    {label}: {'; '.join(why)}")
            found[f"{name}, {seeds}"] = {"vetoed": len(vetoed), "of": len(keys)}
    return found
