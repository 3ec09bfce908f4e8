"""A study read back from its database: what was measured, on which seeds, beside what, and what is missing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from exeunt.backends.errors import InputError
from exeunt.reports.files.tables import report_to_dict
from exeunt.reports.page.headline import details
from exeunt.reports.view.interval import Interval
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.pareto import Score, hypervolume
from exeunt.reports.view.view import Point, StudyView, Throughput
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.store import Store, open_store


@pytest.fixture
def store(recorded: str) -> Iterator[Store]:
    with open_store(recorded, read_only=True) as opened:
        yield opened


@pytest.fixture
def loaded(store: Store) -> StudyView:
    return load_view(store, "fashion")


def by_key(view: StudyView) -> dict[tuple[str, str], Point]:
    return {point.key: point for point in view.points}


def test_every_point_comes_back_with_its_search_and_final_values(view: StudyView, loaded: StudyView) -> None:
    written = by_key(view)
    assert len(loaded.points) > 10
    for point in loaded.points:
        source = written[point.key]
        assert (point.label, point.role, point.family) == (source.label, source.role, source.family)
        assert (point.trial, point.weights, point.schedule) == (source.trial, source.weights, source.schedule)
        assert point.search == replace(source.search, to_baseline=None)  # type: ignore[type-var]
        lost = point.final.lost if point.final else None  # from influences, of which the source has none
        assert point.final == (replace(source.final, to_baseline=None, lost=lost) if source.final else None)


def test_timings_come_back_raw_with_latency_and_memory(view: StudyView, loaded: StudyView) -> None:
    written = by_key(view)
    timed = [point for point in loaded.points if point.throughput]
    assert timed
    for point in timed:
        source = written[point.key].throughput
        assert point.throughput is not None
        assert source is not None
        assert point.throughput.timed == source.timed
        assert (point.throughput.latency_seconds, point.throughput.peak_memory_bytes) == (0.02, 2**20)


def test_predicted_time_is_the_sum_over_the_plan(loaded: StudyView) -> None:
    full = loaded.full
    assert full is not None
    assert full.predicted_seconds == pytest.approx(20 * 0.02 + 20 * 0.004 + 0.05)
    assert loaded.speed(full, "search") == pytest.approx(64 / (20 * 0.024 + 0.05))


def test_the_full_schedule_on_the_normal_weights_is_what_all_is_stated_against(loaded: StudyView) -> None:
    assert loaded.full is not None
    assert (loaded.full.weights, loaded.normal_weights) == ("fashion-dit", "fashion-dit")
    assert loaded.relative_excess(loaded.full, "final") == 1.0


def test_differences_are_paired(loaded: StudyView) -> None:
    """All points were given the same influences, so that a difference is certain."""
    assert loaded.differences
    for (a, b), interval in loaded.differences.items():
        first, second = (by_key(loaded)[key].final for key in (a, b))
        assert first is not None
        assert second is not None
        expected = first.distance.value - second.distance.value
        assert (interval.lower, interval.value, interval.upper) == pytest.approx((expected,) * 3, abs=1e-3)


def test_the_cost_of_the_search_is_what_was_committed_for_it(loaded: StudyView) -> None:
    assert len(loaded.spent) == len(loaded.points)
    assert all((spent.images, spent.seconds) == (4, 0.5) for spent in loaded.spent)
    assert loaded.reference_point is not None
    scores = [spent.score for spent in loaded.spent if spent.score]
    assert loaded.progress[-1].hypervolume == pytest.approx(hypervolume(scores, loaded.reference_point))


def test_conditions_name_what_figures_depend_on(loaded: StudyView) -> None:
    wanted = {"device", "dtype", "batch_size", "executor", "torch", "reference", "metric", "search_seed", "final_seed"}
    assert wanted <= loaded.conditions.keys()
    assert loaded.configuration["name"] == "fashion"


def test_a_study_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(InputError, match="fashion"):
        load_view(store, "fashon")


def test_an_empty_study_says_what_is_missing(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'exeunt.db'}") as store:
        store.studies.put_config(StudyConfig())
        found = load_view(store, StudyConfig().name)
    assert (found.points, found.front("final"), found.front("search"), found.best) == ((), [], [], None)
    assert len(found.missing) == 3
    assert report_to_dict(found)["best_ratio"] is None


def test_another_studys_values_on_the_same_schedules_stay_out(recorded: str, tmp_path: Path) -> None:
    """Other seeds, on the same schedules and weights, are other questions."""
    copy = tmp_path / "exeunt.db"
    copy.write_bytes(Path(recorded.removeprefix("sqlite:///")).read_bytes())
    other = override(StudyConfig(), {"name": "other", "quality.search_seed": 5, "quality.final_seed": 6})
    with open_store(f"sqlite:///{copy}") as store:
        store.studies.put_config(other)
        for member in store.studies.members("fashion"):
            store.studies.add_member("other", member)
        found = load_view(store, "other")
    assert len(found.points) > 10
    assert all(point.search is None and point.final is None and point.throughput is None for point in found.points)


# ---- the view itself -------------------------------------------------------------------------------------------------


def dominates(a: Score, b: Score) -> bool:
    return a.quality <= b.quality and a.speed >= b.speed and a != b


def test_fronts_of_search_and_final_values_are_apart(view: StudyView) -> None:
    for seeds in ("search", "final"):
        score, front = view.score(seeds), view.front(seeds)  # type: ignore[arg-type]
        others = view.measured(seeds)  # type: ignore[arg-type]
        assert not any(dominates(score(a), score(b)) for a in others for b in front)
    assert len(view.measured("final")) < len(view.measured("search"))


def test_values_at_other_counts_are_not_compared(view: StudyView) -> None:
    odd = view.front("final")[2]
    assert odd.final is not None
    fewer = replace(odd, final=replace(odd.final, num_images=64))
    changed = replace(view, points=tuple(fewer if point is odd else point for point in view.points))
    assert fewer not in changed.measured("final")
    assert changed.relative_excess(fewer, "final") is None
    assert changed.loss(fewer, "final") is None


def test_best_ratio_follows_its_definition(view: StudyView) -> None:
    baselines = [point for point in view.measured("final") if point.role == "baseline"]
    score = view.score("final")
    assert view.advantages
    for entry in view.advantages:
        assert entry.point in view.front("final")
        assert entry.point.role == "trial"
        loss = view.loss(entry.point, "final")
        assert loss is not None
        assert loss.value <= view.standard.limit
        rivals = [p for p in baselines if score(p).quality <= score(entry.point).quality]
        speeds = [view.speed(rival, "final") or 0.0 for rival in rivals]
        assert entry.ratio == pytest.approx((view.speed(entry.point, "final") or 0.0) / max(speeds), rel=0.02)
        assert entry.lower <= entry.ratio
    assert view.best is not None
    assert view.best.lower == max(entry.lower for entry in view.advantages)


def test_a_baseline_that_might_be_as_good_lowers_the_bound(view: StudyView) -> None:
    certain = replace(view, differences={pair: Interval(1.0, 0.5, 1.5) for pair in view.differences})
    doubtful = replace(view, differences={pair: Interval(0.0, -0.5, 0.5) for pair in view.differences})
    assert certain.best is not None
    assert doubtful.best is not None
    assert certain.best.ratio == doubtful.best.ratio
    assert doubtful.best.lower < certain.best.lower


def test_to_be_better_than_the_full_schedule_is_no_gain_over_a_baseline_that_loses_nothing(view: StudyView) -> None:
    """A schedule of fewer steps whose distance is surely larger than a trial's, and not the full schedule's."""
    worse = replace(view, differences={pair: Interval(20.0, 15.0, 25.0) for pair in view.differences})
    assert worse.full is not None
    assert worse.full.final is not None
    own = worse.full.final
    even = tuple(
        replace(point, final=replace(point.final, distance=own.distance, floor=own.floor))
        if point.family == "fewer-steps" and point.final
        else point
        for point in worse.points
    )
    same = replace(worse, points=even)
    fastest = max(
        (p for p in same.measured("final") if p.family == "fewer-steps"), key=lambda p: same.speed(p, "final")
    )
    for entry in same.advantages:
        assert entry.lower <= (same.speed(entry.point, "final") or 0.0) / (same.speed(fastest, "final") or 1.0)


def test_ties_and_probabilities_stand_in_every_table(view: StudyView) -> None:
    """A copy of a front point that is a hair worse is dominated, but not surely: they share the front."""
    point = view.front("final")[3]
    assert point.final is not None
    twin = replace(
        point,
        label="twin",
        trial=999,
        weights="twin",
        final=replace(point.final, distance=point.final.distance.minus(-0.1)),
    )
    near = {(twin.key, point.key): Interval(0.1, -0.5, 0.7), (point.key, twin.key): Interval(-0.1, -0.7, 0.5)}
    both = replace(view, points=(*view.points, twin), differences={**view.differences, **near})
    assert twin not in both.front("final")
    assert both.ties(twin, "final") == [point]
    assert twin in both.ties(point, "final")
    chance, before = both.probability(point, "final"), view.probability(point, "final")
    assert chance is not None
    assert before is not None
    assert 0.4 * before < chance < 0.95 * before
    rows = {row["label"]: row for row in report_to_dict(both)["front"]}
    assert rows[point.label]["final_front_probability"] == chance
    assert "twin" in rows[point.label]["final_ties"]
    assert "twin" in " ".join(details(both))


def test_a_slow_spell_of_the_machine_moves_no_point(view: StudyView) -> None:
    point = view.front("final")[4]
    assert point.throughput is not None
    seconds, neighbours = (tuple(3 * s for s in each) for each in point.throughput.timed)
    slow = Throughput(seconds, 64, neighbours)
    changed = replace(view, points=tuple(replace(p, throughput=slow) if p is point else p for p in view.points))
    moved = next(p for p in changed.points if p.key == point.key)
    assert changed.speed(moved, "final") == pytest.approx(view.speed(point, "final"))
    assert moved.throughput is not None
    assert moved.throughput.images_per_second == pytest.approx(point.throughput.images_per_second / 3)


def test_depth_and_evaluations_are_the_schedules(view: StudyView) -> None:
    assert view.full is not None
    assert (view.full.stored.mean_depth, view.full.stored.block_evaluations) == (12.0, 240)


def test_an_unfinished_study_says_so(build_view: Callable[[int], StudyView]) -> None:
    unfinished = build_view(0)
    assert unfinished.knee("final") is None
    assert unfinished.knee("search") is not None
    assert [sentence for sentence in unfinished.missing if "final seeds" in sentence]
