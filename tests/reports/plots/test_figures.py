"""What the plots show, as values, and that the drawings hold it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from statistics import median

import pytest
from exeunt.reports.plots.figures import Drawn, figures, prediction_info, progress_info, report_figures
from exeunt.reports.plots.front import draw_front, front_info
from exeunt.reports.plots.maps import MOST_MAPS, depth_info, maps_info
from exeunt.reports.plots.style import PALETTE, THEME, family_look, inline_svg, pdf, png, round_ticks
from exeunt.reports.view.interval import Interval, spelled_number
from exeunt.reports.view.view import StudyView
from exeunt.studies.config.families import FAMILIES

pytestmark = pytest.mark.cpu


@pytest.fixture(scope="module")
def drawn(view: StudyView) -> Mapping[str, Drawn]:
    return figures(view, "There are no samples.")


def test_a_finished_study_has_every_figure_but_samples(drawn: Mapping[str, Drawn]) -> None:
    assert set(drawn) == report_figures().keys() - {"samples"}


def test_an_unfinished_study_has_what_is_there(build_view: Callable[[int], StudyView]) -> None:
    assert set(figures(build_view(0), "")) == {"search", "schedules", "hypervolume"}


def test_the_front_plot_shows_every_measured_point_once(view: StudyView) -> None:
    info = front_info(view, "final")
    assert info is not None
    assert len(info.marks) == len(view.measured("final"))
    assert sum(mark.on_front for mark in info.marks) == len(view.front("final"))
    assert sum(mark.is_knee for mark in info.marks) == 1
    assert sorted(index for group in info.groups for index in group) == list(range(len(info.marks)))
    assert (info.seeds, info.num_images) == ("final", 1024)


def test_the_line_stands_at_the_limit_of_the_full_schedules_excess(view: StudyView) -> None:
    info = front_info(view, "final")
    assert info is not None
    assert view.full is not None
    assert view.full.final is not None
    assert info.limit == (1 + view.standard.limit) * view.full.final.excess.value


def test_the_arrow_is_the_best_ratio(view: StudyView) -> None:
    info = front_info(view, "final")
    assert info is not None
    assert info.gap is not None
    assert view.best is not None
    assert info.gap.point_speed / info.gap.baseline_speed == pytest.approx(view.best.ratio, rel=0.02)
    assert info.gap.text == f"{view.best.ratio:.2f} ×"


def test_search_and_final_values_stand_in_plots_of_their_own(view: StudyView) -> None:
    final, search = front_info(view, "final"), front_info(view, "search")
    assert final is not None
    assert search is not None
    assert not {mark.excess.value for mark in final.marks} & {mark.excess.value for mark in search.marks}
    assert search.gap is None


@pytest.mark.parametrize(("width", "height"), [(8.0, 5.0), (3.8, 4.8)])
def test_names_in_the_front_plot_do_not_overlap(view: StudyView, width: float, height: float) -> None:
    info = front_info(view, "final")
    assert info is not None
    axes = draw_front(info, width, height).axes[0]
    names = [text for text in axes.texts if text.get_text().startswith(("#", "knee", "reuse", "exit", "full"))]
    assert len(names) > 8
    assert not any(a.get_window_extent().overlaps(b.get_window_extent()) for a, b in combinations(names, 2))


def test_an_excess_below_zero_makes_the_axis_linear_around_it(view: StudyView) -> None:
    info = front_info(view, "final")
    assert info is not None
    below = replace(info.marks[0], excess=Interval(-3.0, -5.0, 1.0))
    changed = replace(info, marks=(below, *info.marks[1:]), limit=None)
    assert draw_front(info).axes[0].get_yscale() == "log"
    assert draw_front(changed).axes[0].get_yscale() == "symlog"


def test_a_long_name_of_a_metric_finds_room_beside_the_front(view: StudyView) -> None:
    info = front_info(view, "final")
    assert info is not None
    named = replace(info, metric="distances in the features of a network with a long name")
    figure = draw_front(named, 3.8, 4.8)
    extent = figure.axes[0].yaxis.label.get_window_extent()
    assert extent.y0 >= 0
    assert extent.y1 <= figure.bbox.height


def test_a_single_point_can_be_drawn(view: StudyView) -> None:
    alone = replace(view, points=tuple(point for point in view.points if point is view.full))
    assert set(figures(alone, "")) >= {"front", "search"}


def test_progress_ends_at_the_views_hypervolume(view: StudyView) -> None:
    info = progress_info(view)
    assert info is not None
    assert info.entries[-1] == view.progress[-1]
    assert 0 < info.baselines < info.entries[-1].hypervolume


def test_the_prediction_error_is_a_median_of_ratios(view: StudyView) -> None:
    info = prediction_info(view)
    assert info is not None
    pairs = [(p.predicted_seconds, p.throughput.median) for p in view.points if p.throughput]
    assert info.median_error == pytest.approx(
        median(abs((predicted or 0) / measured - 1) for predicted, measured in pairs)
    )


def test_depths_are_the_schedules(view: StudyView) -> None:
    info = depth_info(view)
    assert info is not None
    assert info.profiles[0].depths == (12,) * 20
    assert (info.num_blocks, info.num_steps) == (12, 20)


def test_maps_keep_the_ends_and_the_knee(view: StudyView, build_view: Callable[[int], StudyView]) -> None:
    for each, seeds in ((view, "final"), (build_view(0), "search")):
        info = maps_info(each)
        trials = [point for point in each.front(seeds) if point.role == "trial"]  # type: ignore[arg-type]
        assert info is not None
        names = [found.name for found in info.maps]
        assert len(names) <= MOST_MAPS
        assert (names[0], names[-1]) == (trials[0].label, trials[-1].label)
        assert info.left_out == len(trials) - len(names)
        if (knee := each.knee(seeds)) in trials:  # type: ignore[arg-type]
            assert knee.label in names


def test_files_are_what_they_say_and_equal_figures_are_equal_files(drawn: Mapping[str, Drawn]) -> None:
    figure = drawn["hypervolume"].drawing
    assert png(figure).startswith(b"\x89PNG")
    assert pdf(figure).startswith(b"%PDF")
    assert pdf(figure) == pdf(figure)
    assert inline_svg(figure, "a", "b") == inline_svg(figure, "a", "b")


def test_every_family_has_a_colour_of_the_palette_and_a_look_of_its_own() -> None:
    looks = [family_look(name) for name in ("", "another", *FAMILIES)]
    assert {each.color for each in looks} <= PALETTE.keys()
    for told_apart in ("label", "color", "marker"):
        assert len({getattr(each, told_apart) for each in looks}) == len(looks)


def test_points_of_every_family_can_be_drawn(view: StudyView) -> None:
    first = next(point for point in view.points if point.role == "baseline" and point.family != "full" and point.final)
    more = [replace(first, label=family, family=family) for family in FAMILIES if family != "full"]
    found = figures(replace(view, points=(*view.points, *more)), "")
    for name in ("front", "search", "timing"):
        assert png(found[name].drawing).startswith(b"\x89PNG")


def test_a_plot_on_a_page_has_the_themes_colours_and_ids_of_its_own(drawn: Mapping[str, Drawn]) -> None:
    text = inline_svg(drawn["front"].drawing, "here", "A <title>")
    assert not [color for color in THEME if color in text]
    assert all(name.startswith("here-") for name in re.findall(r'id="([^"]*)"', text))
    assert 'aria-label="A &lt;title&gt;"' in text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1024, "1 024"), (0.0123, "0.0123"), (-2.5, "−2.5"), (1e9, "1e+09"), (99.96, "100")]
)
def test_numbers_are_plain(value: float, text: str) -> None:
    assert spelled_number(value) == text


@pytest.mark.parametrize(("low", "high"), [(1, 1000), (48, 260), (0.9, 1.2), (97, 103), (2, 3)])
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
