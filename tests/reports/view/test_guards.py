"""What is normal in a study, what guards object to, and what a view makes of it."""

from dataclasses import replace

import pytest
from exeunt.backends.errors import InputError
from exeunt.reports.files.tables import point_row, report_to_dict
from exeunt.reports.page.headline import details, headline
from exeunt.reports.view import selection
from exeunt.reports.view.guards import MOST_OF_NOTHING, NO_GUARDS, GuardFigures, Guards, is_normal
from exeunt.reports.view.interval import Interval
from exeunt.reports.view.standard import Scale, Standard
from exeunt.reports.view.view import Point, StudyView


def around(value: float, half: float = 0.1) -> Interval:
    return Interval(value, value - half, value + half)


NORMAL = [
    GuardFigures(around(0.0), around(2.7), strays=around(0.01), repeats=around(0.0)),
    GuardFigures(around(900.0), around(2.9), strays=around(0.04), repeats=around(0.001)),
]


def test_what_is_normal_is_what_fewer_steps_reach_and_a_little_more():
    found = Guards.of(NORMAL, nothing=3400.0)
    assert found == Guards(paired=1700.0, pixels=1.25 * 2.9, strays=0.05, repeats=0.03)
    assert Guards.of(NORMAL, nothing=2000.0).paired == 1.25 * 900.0


def test_a_paired_distance_says_nothing_where_fewer_steps_make_other_images():
    other = [replace(each, paired=around(3000.0)) for each in NORMAL]
    assert Guards.of(other, nothing=3000.0 / MOST_OF_NOTHING).paired is None
    assert Guards.of(NORMAL, nothing=None).paired is None


def test_a_figure_must_be_surely_beyond_what_is_normal():
    guards = Guards(paired=100.0, pixels=3.0)
    doubtful = GuardFigures(around(104.0, 5.0), around(2.0))
    broken = GuardFigures(around(106.0, 5.0), around(9.0), deviating="fine detail")
    assert (guards.objections(doubtful), guards.excess(doubtful)) == ([], pytest.approx(99 / 100 - 1))
    found = guards.objections(broken)
    assert len(found) == 2
    assert "fine detail" in found[1]
    assert guards.excess(broken) == pytest.approx(8.9 / 3.0 - 1)
    assert NO_GUARDS.objections(GuardFigures()) == []


def test_only_baselines_of_4_steps_and_more_say_what_is_normal():
    assert [is_normal("fewer-steps", steps) for steps in (3, 4)] == [False, True]
    assert [is_normal(family, 8) for family in ("full", "uniform-depth", "")] == [True, False, False]


def scaled(view: StudyView, nothing: float) -> StudyView:
    """The view with a scale whose far end has so many times the full schedule's excess."""
    assert view.full is not None
    assert view.full.search is not None
    full = view.full.search.excess.value
    return replace(
        view, standard=Standard(scale=Scale(full, {"noise": 9 * nothing * full, "blurred": nothing * full}, 4.0))
    )


def fooled(view: StudyView) -> tuple[StudyView, Point]:
    """The view in which the fastest point of the front is static; and that point."""
    last = view.front("final")[-1]
    assert last.final is not None
    figures = GuardFigures(around(3000.0), around(25.0), deviating="neighbour correlation")
    static = replace(last, final=replace(last.final, figures=figures))
    points = tuple(static if each is last else each for each in view.points)
    return replace(view, points=points, guards=Guards(paired=1500.0, pixels=3.5)), static


def test_loss_is_0_at_the_full_schedule_and_1_at_the_nearest_of_nothing(view: StudyView):
    found = scaled(view, nothing=8.0)
    assert found.full is not None
    assert found.full.final is not None
    assert found.standard.scale is not None
    assert found.standard.scale.nearest == "blurred"
    own = found.loss(found.full, "final")
    assert own is not None
    assert own.value == 0
    for point in found.measured("final"):
        assert point.final is not None
        loss = found.loss(point, "final")
        assert loss is not None
        beyond = point.final.excess.value - found.full.final.excess.value
        assert loss.value == pytest.approx(beyond / found.standard.scale.width)
        assert loss.lower <= loss.value <= loss.upper


def test_a_vetoed_point_is_in_the_tables_and_nowhere_else(view: StudyView):
    found, static = fooled(view)
    assert len(found.objections(static, "final")) == 2
    assert static in found.measured("final")
    assert static not in found.front("final")
    assert found.vetoed == [static]
    assert found.recommended is not static
    assert "neighbour correlation" in str(point_row(found, static)["final_vetoes"])
    assert any(static.label in sentence and "vetoed" in sentence for sentence in details(found))


def test_what_is_nearer_to_nothing_than_to_the_full_schedule_is_vetoed(view: StudyView):
    found = scaled(view, nothing=1.2)
    assert found.standard.scale is not None
    for point in found.measured("final"):
        loss = found.loss(point, "final")
        assert loss is not None
        assert bool(found.objections(point, "final")) == (loss.lower > 0.5 and point is not found.full)
    assert found.vetoed


def test_where_the_metric_cannot_tell_nothing_from_the_full_schedule_no_point_is_recommended(view: StudyView):
    found = scaled(view, nothing=0.9)
    assert found.recommended is found.full
    assert "No gain found" in headline(found)
    assert any("no schedule is recommended" in sentence for sentence in details(found))
    with pytest.raises(InputError, match="no gain was found"):
        selection.the_recommended(found)


def test_a_narrow_scale_is_told(view: StudyView):
    found = scaled(view, nothing=1.1)
    assert found.standard.scale is not None
    assert found.standard.scale.is_narrow == (found.standard.scale.standard_errors < 10)
    wide = scaled(view, nothing=20.0)
    assert any("standard errors apart" in sentence for sentence in details(wide))


def test_the_recommended_point_is_one_and_the_same_everywhere(view: StudyView):
    assert view.recommended is not None
    assert view.has_gain
    assert view.best is not None
    assert view.recommended is view.best.point
    report = report_to_dict(view)
    assert report["recommended"] == view.recommended.label
    assert headline(view).lower().startswith(view.recommended.label)
    assert selection.the_recommended(view) is view.recommended


def test_without_a_gain_the_fastest_baseline_is_named_and_what_to_do(view: StudyView):
    kept = tuple(point for point in view.points if point.role == "baseline")
    found = replace(view, points=kept)
    assert found.recommended is not None
    assert not found.has_gain
    assert found.recommended.role == "baseline"
    assert "No gain found" in headline(found)
    assert "--space cache" in headline(found)


def test_a_full_schedule_whose_own_images_repeat_is_told_and_nothing_is_recommended(view: StudyView):
    """A decoder that ignores its latents: everything is at one distance, but for rounding."""
    assert view.full is not None
    assert view.full.search is not None
    search = replace(view.full.search, figures=GuardFigures(around(0.0, 0.0), repeats=around(1.0, 0.0)))
    full = replace(view.full, search=search)
    points = tuple(full if point is view.full else point for point in view.points)
    excess = full.search.excess.value if full.search else 0.0
    same = Scale(excess, {"noise": excess * (1 + 1e-6)}, 1e-9)
    found = replace(view, points=points, standard=Standard(scale=same))
    assert same.width <= 0
    assert found.recommended is found.full
    assert any("100% of the full schedule's own images nearly repeat" in sentence for sentence in details(found))
