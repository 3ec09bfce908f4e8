"""Choosing points, and what is said when nothing fits."""

from collections.abc import Callable

import pytest
from exeunt.backends.errors import InputError
from exeunt.reports.view import selection
from exeunt.reports.view.view import StudyView


def test_by_trial_and_by_label(view: StudyView) -> None:
    assert selection.by_trial(view, 17).label == "trial 17"
    assert selection.by_label(view, "exit 6").family == "uniform-depth"


def test_the_knee_is_on_the_front(view: StudyView) -> None:
    assert selection.the_knee(view) in view.front("final")


@pytest.mark.parametrize("max_loss", [0.2, 0.5, 1.0, 4.0])
def test_within_a_loss_the_fastest_is_chosen(view: StudyView, max_loss: float) -> None:
    chosen = selection.within_loss(view, max_loss)
    allowed = [p for p in view.measured("final") if (loss := view.loss(p, "final")) and loss.value <= max_loss]
    assert chosen in allowed
    assert view.speed(chosen, "final") == max(view.speed(point, "final") or 0 for point in allowed)


@pytest.mark.parametrize("min_speedup", [1.0, 1.5, 2.5, 4.0])
def test_at_a_speed_up_the_best_quality_is_chosen(view: StudyView, min_speedup: float) -> None:
    chosen = selection.at_least(view, min_speedup)
    allowed = [p for p in view.measured("final") if (s := view.speedup(p)) and s.value >= min_speedup]
    assert chosen in allowed
    assert view.score("final")(chosen).quality == min(view.score("final")(point).quality for point in allowed)


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--trial", 999, "no trial 999. Try --trial 53"),
        ("--label", "exit 7", 'Try --label "exit 9"'),
        ("--min-speedup", 50.0, r"the nearest is trial \d+ at 4\.\d\d ×. Use --min-speedup 4\."),
    ],
)
def test_what_is_not_there_names_the_nearest(view: StudyView, flag: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        selection.CHOICES[flag](view, value)


def test_a_loss_that_nothing_keeps_names_the_nearest(view: StudyView) -> None:
    with pytest.raises(InputError, match=r"the nearest is full .*, which loses 0\.0%. Use --max-loss"):
        selection.within_loss(view, -0.5)


@pytest.mark.parametrize(("flag", "value"), [("--knee", True), ("--max-loss", 0.5), ("--min-speedup", 1.5)])
def test_without_final_values_nothing_is_chosen(
    build_view: Callable[[int], StudyView], flag: str, value: object
) -> None:
    with pytest.raises(InputError, match="exeunt resume --study fashion"):
        selection.CHOICES[flag](build_view(0), value)


def test_highlights_name_each_point_once_with_all_its_reasons(view: StudyView) -> None:
    found = selection.highlights(view)
    keys = [highlight.point.key for highlight in found]
    assert found[0].point is view.full
    assert len(keys) == len(set(keys))
    reasons = ", ".join(highlight.reason for highlight in found)
    for reason in (
        "knee",
        "largest gain over a baseline",
        f"fastest within {view.standard.limit_brief}",
        "fastest of the front",
    ):
        assert reason in reasons
