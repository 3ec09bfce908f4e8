"""A search that begins with the front of a quick calibration, in a whole study of the closed-form network."""

import pytest
from exeunt.reports.view.view import StudyView
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.search import loop
from exeunt.searcher.sensitivity.quick import quick_cost, quick_front
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig


class Heard(ProgressListener):
    """What a study said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @property
    def calibrations(self) -> int:
        return sum(line.startswith("calibrated:") for line in self.lines)


@pytest.fixture
def config(small: StudyConfig) -> StudyConfig:
    return override(small, {"quality.num_images": 64, "run.budget": "16-trials"})


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}"


def _searched(view: StudyView) -> set[str]:
    return {point.stored.digest for point in view.points if point.trial is not None}


def test_its_first_proposals_are_the_calibrations(
    config: StudyConfig, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CALIBRATED_SHARE", 10.0)
    heard = Heard()
    view = runner.optimize(config, url, watch=heard)
    found = {each.digest for each in quick_front(load_setup(config), Heard(), lambda: None)}
    assert heard.calibrations == 1
    assert len(found) > 3
    assert found <= _searched(view)
    again = Heard()
    runner.optimize(override(config, {"run.budget": "2-trials"}), url, watch=again)
    assert again.calibrations == 0


@pytest.mark.parametrize(
    "changes",
    [{"search.calibrate": False}, {"run.budget": "640-images"}, {"checkpoint.options": (("num_blocks", 1),)}],
)
def test_there_is_none_where_it_is_not_wanted_or_images_are_counted(
    config: StudyConfig, url: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    monkeypatch.setattr(loop, "CALIBRATED_SHARE", 10.0)
    heard = Heard()
    runner.optimize(override(config, changes), url, watch=heard)
    assert heard.calibrations == 0


def test_it_costs_no_more_than_a_share_of_the_budget(config: StudyConfig, url: str) -> None:
    cost = quick_cost(load_setup(config))
    assert cost > loop.CALIBRATED_SHARE * 16
    heard = Heard()
    runner.optimize(config, url, watch=heard)
    assert heard.calibrations == 0
