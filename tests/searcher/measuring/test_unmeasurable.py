"""A study goes on without the schedules that can't be measured, now and when it is resumed."""

from pathlib import Path

import pytest
from exeunt.backends.sampling.conditions import noises
from exeunt.backends.sampling.loop import NonFiniteSamples
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.search import loop
from exeunt.searcher.search.budget import BudgetMeter
from exeunt.searcher.search.opening import open_session
from exeunt.searcher.spaces.candidates import list_baselines
from exeunt.studies.config.budget import parse_budget
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.interruption import Interruption
from exeunt.studies.workers.status import read_status

NETWORK = f"{Path(__file__).parents[1] / 'fragile.py'}:Fragile"


@pytest.fixture
def fragile(small: StudyConfig) -> StudyConfig:
    return override(small, {"checkpoint.network": NETWORK, "run.budget": "12-trials"})


class Noted(ProgressListener):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    @property
    def failed(self) -> list[str]:
        return [message.split(" failed: ")[0] for message in self.said if " failed: " in message]


def test_the_search_leaves_out_what_is_not_finite_and_so_does_the_front(fragile: StudyConfig, tmp_path: Path):
    assert noises(0, range(32), (1, 4, 4), 1)[0].abs().max() < 3.2 < noises(1, range(64), (1, 4, 4), 1)[0].abs().max()
    watch, url = Noted(), f"sqlite:///{tmp_path / 'study.db'}"
    view = runner.optimize(fragile, url, watch=watch)
    assert any(label.startswith("trial ") for label in watch.failed), "a proposal"
    started = watch.said.index(next(message for message in watch.said if message.startswith("comparing ")))
    late = Noted()
    late.said = watch.said[started:]
    assert late.failed, "a point of the front, on final noises"
    assert view.front("final")
    assert not {point.label for point in view.points if point.final} & set(watch.failed)
    assert read_status(url, "small").finished

    again = Noted()
    more = runner.optimize(override(fragile, {"run.budget": "2-trials"}), url, watch=again)
    assert read_status(url, "small").finished
    assert len(more.points) >= len(view.points)


def test_a_baseline_that_is_not_finite_is_left_out(fragile: StudyConfig, tmp_path: Path):
    watch, url = Noted(), f"sqlite:///{tmp_path / 'study.db'}"
    meter = BudgetMeter(parse_budget("1-trials"))
    with open_session(load_setup(fragile), url, meter, watch, Interruption()) as session:
        loop.measure_baselines(session)
        baselines = list_baselines(session.study_setup.frames, ["uniform-depth"])
        shallow = next(each for each in baselines if each.label == "exit 1")
        assert loop._measure_known(session, shallow)
        assert shallow.key in session.results.left_out
    assert watch.failed == ["exit 1"]


def test_without_its_full_schedule_a_study_ends(fragile: StudyConfig, tmp_path: Path):
    shallow = override(fragile, {"checkpoint.options": {"num_blocks": 1}})
    with pytest.raises(NonFiniteSamples, match="NaN"):
        runner.optimize(shallow, f"sqlite:///{tmp_path / 'study.db'}")
