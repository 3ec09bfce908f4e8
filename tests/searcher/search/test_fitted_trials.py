"""Trials with fitted rows, in a whole study of the closed-form network."""

import pytest
from exeunt.reports.view.view import StudyView
from exeunt.searcher import runner
from exeunt.searcher.search.loop import FIT_EVERY
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig


@pytest.fixture(scope="module")
def config(small: StudyConfig) -> StudyConfig:
    return override(small, {"search.fit": True, "quality.num_images": 64, "run.budget": f"{5 * FIT_EVERY}-trials"})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}"


@pytest.fixture(scope="module")
def view(config: StudyConfig, url: str) -> StudyView:
    return runner.optimize(config, url)


def _fitted(view: StudyView) -> dict[str, str]:
    """The labels of trials with fitted rows, and of those that they come from."""
    return {each.label: each.label.removesuffix(", fitted") for each in view.points if each.label.endswith(", fitted")}


def test_promising_trials_are_measured_with_fitted_rows_too(view: StudyView) -> None:
    points = {each.label: each for each in view.points}
    assert _fitted(view)
    for label, parent in _fitted(view).items():
        found, own = points[label], points[parent]
        assert found.role == "trial"
        assert found.schedule.steps[0].coefficients is not None
        assert [step.blocks for step in found.schedule.steps] == [step.blocks for step in own.schedule.steps]
        assert found.predicted_seconds == own.predicted_seconds


def test_most_of_them_are_better_on_the_searchs_noises(view: StudyView) -> None:
    points = {each.label: each for each in view.points}
    pairs = [(points[label].search, points[parent].search) for label, parent in _fitted(view).items()]
    better = [own.excess.value > found.excess.value for found, own in pairs if found and own]
    assert len(better) == len(pairs)
    assert sum(better) > len(better) / 2


def test_a_resumed_study_searches_on_and_fits_others(config: StudyConfig, url: str, view: StudyView) -> None:
    again = runner.optimize(override(config, {"run.budget": f"{5 * FIT_EVERY}-trials"}), url)
    assert _fitted(again).keys() > _fitted(view).keys()
    assert sum(each.trial is not None for each in again.points) > sum(each.trial is not None for each in view.points)
