"""What is left of a budget, and what is kept of it for the front and for the end of the command."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from exeunt.searcher.measuring.costs import Pace
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.search.budget import FRONT_SHARE, MARGIN, MOST_STRETCH, REPORT_SECONDS, BudgetMeter, process_age
from exeunt.searcher.search.loop import measure_baselines
from exeunt.searcher.search.opening import open_session
from exeunt.searcher.search.session import Session
from exeunt.studies.config.budget import Budget, parse_budget
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.interruption import Interruption
from exeunt.studies.workers.status import read_status


class Clock:
    """A clock that tests wind by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_counts_from_the_start_of_the_process():
    clock = Clock()
    meter = BudgetMeter(parse_budget("4m"), started=90.0, clock=clock)
    assert meter.seconds_left == 230.0
    clock.now = 340.0
    assert meter.seconds_left == -10.0
    assert meter.share_spent == 1.0


def test_what_a_budget_does_not_limit_is_without_end():
    meter = BudgetMeter(parse_budget("100-trials"), started=0.0, clock=Clock())
    assert meter.seconds_left == meter.images_left == math.inf
    meter.trials += 25
    assert meter.trials_left == 75
    assert meter.share_spent == 0.25


def test_the_nearest_limit_decides():
    meter = BudgetMeter(parse_budget("400s,20k-images"), started=0.0, clock=Clock())
    meter.images += 15_000
    assert meter.images_left == 5_000
    assert meter.share_spent == 0.75


def test_the_age_of_a_process_includes_its_imports():
    script = "import time; time.sleep(0.3); from exeunt.searcher.search.budget import process_age; print(process_age())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.29 < float(done.stdout) < 30
    assert process_age() == pytest.approx(process_age(), abs=1.0)


@pytest.fixture(scope="module")
def session(small: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A study of the closed-form network whose first baselines were measured."""
    url = f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}"
    study_setup = load_setup(override(small, {"run.report": "some-folder"}))
    with open_session(study_setup, url, BudgetMeter(parse_budget("1h")), ProgressListener(), Interruption()) as opened:
        measure_baselines(opened)
        yield opened


@pytest.fixture
def budget(session: Session) -> Iterator[Budget]:
    """Puts the session's own budget back, and its pace."""
    before, stretch = session.budget.meter.budget, session.objective.pace.stretch
    yield before
    session.budget.meter.budget, session.objective.pace.stretch = before, stretch


def test_scores_take_what_earlier_ones_took():
    pace = Pace()
    for _ in range(20):
        pace.learn_score(100, 0.2)
    assert pace.score_seconds(1000) == pytest.approx(2.0)
    pace.learn_score(100, 2.0)
    assert 2.0 < pace.score_seconds(1000) < 20.0


def test_the_end_is_kept_free_for_scores_report_and_a_margin(session: Session, budget: Budget):
    session.objective.pace.stretch = 1.0
    at_least = REPORT_SECONDS + MARGIN * 3600
    assert session.forecast.closing_seconds(0, 64) == pytest.approx(at_least)
    assert (
        at_least
        < session.forecast.closing_seconds(5, 64)
        < session.forecast.closing_seconds(10, 64)
        < session.forecast.closing_seconds(10, 640)
    )


def test_a_busy_machine_keeps_more_but_not_everything(session: Session, budget: Budget):
    kept = []
    for stretch in (0.5, 1.0, 1.5, 40.0):
        session.objective.pace.stretch = stretch
        kept.append(session.forecast.closing_seconds(5, 64) - MARGIN * 3600)
    assert kept[0] == kept[1]
    assert kept[1:] == [kept[1], pytest.approx(1.5 * kept[1]), pytest.approx(MOST_STRETCH * kept[1])]


def test_a_budget_without_time_keeps_images_alone(session: Session, budget: Budget):
    session.budget.meter.budget = parse_budget("1k-images")
    assert session.forecast.reserved(session.promoted())[1] <= FRONT_SHARE * 1000
    session.budget.meter.budget = parse_budget("30s")
    assert session.forecast.reserved(session.promoted())[0] <= FRONT_SHARE * 30


@pytest.mark.slow
def test_a_budget_of_time_is_kept_from_the_first_import_to_the_report(tmp_path: Path, closed_form: list[str]):
    words = ["optimize", *closed_form, "--network-arg", "seconds_per_block=0.00005", "--budget", "30s", "--quiet"]
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "exeunt", *words], cwd=tmp_path, capture_output=True, text=True)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exeunt-report" / "index.html").exists()
    assert read_status(f"sqlite:///{tmp_path / 'exeunt.db'}", "closed-form").finished
    assert 10 < seconds < 30
