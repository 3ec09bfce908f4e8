"""The whole loop on the closed-form network: what is measured, told, promoted and kept."""

from pathlib import Path

import optuna
import pytest
from exeunt.backends.errors import Interrupted
from exeunt.reports.view.view import StudyView
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import StudySetup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.search.proposer import WORTHLESS
from exeunt.searcher.spaces.candidates import FIRST_STEPS
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.interruption import Interruption
from exeunt.studies.store.store import open_store
from exeunt.studies.workers.status import read_status

TRIALS = 12


@pytest.fixture(scope="module")
def config(small: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A study of the closed-form network that takes seconds."""
    return override(small, {"run.budget": f"{TRIALS}-trials", "run.report": str(tmp_path_factory.mktemp("report"))})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}"


@pytest.fixture(scope="module")
def view(config: StudyConfig, url: str) -> StudyView:
    """The study, run once."""
    return runner.optimize(config, url)


def test_the_study_finishes_with_its_trials_and_baselines(view: StudyView, url: str):
    standing = read_status(url, "small")
    assert standing.finished
    trials = [point for point in view.points if point.role == "trial"]
    assert 0 < len(trials) <= TRIALS
    assert sum(point.role == "baseline" for point in view.points) >= 1 + FIRST_STEPS
    assert standing.progress.schedules_measured == len(view.points)


def test_the_full_schedule_is_the_first_member(view: StudyView):
    assert view.points[0].family == "full"
    assert view.full is view.points[0]


def test_search_values_stand_at_one_count_and_final_ones_at_another(view: StudyView):
    assert {point.search.num_images for point in view.points if point.search} == {32}
    assert {point.final.num_images for point in view.points if point.final} == {64}


def test_what_is_compared_is_timed_and_measured_on_final_seeds(view: StudyView):
    compared = [point for point in view.points if point.final]
    assert len(compared) >= 2
    assert all(point.throughput for point in compared)
    assert view.front("final")


def test_optuna_was_told_each_trial_once_and_the_baselines_that_the_space_expresses(view: StudyView, url: str):
    with open_store(url, read_only=True) as store:
        study = optuna.load_study(study_name="small", storage=optuna_storage(store.engine))
        trials = study.get_trials()
    finished = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    labels = {trial.user_attrs["label"] for trial in finished if "label" in trial.user_attrs}
    assert "full" in labels
    assert len(finished) - len(labels) == TRIALS
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE]


def test_trials_are_told_how_far_they_are_in_the_worthless_end(view: StudyView, url: str):
    with open_store(url, read_only=True) as store:
        study = optuna.load_study(study_name="small", storage=optuna_storage(store.engine))
        told = {
            trial.user_attrs["schedule"]: trial.constraints[WORTHLESS] for trial in study.get_trials() if trial.values
        }
    assert view.full is not None
    assert view.full.search is not None
    worst = view.standard.worst_excess(view.full.search.excess.value, view.full.search.excess.upper)
    for point in view.points:
        if point.search and point.schedule.digest in told:
            beyond = point.search.excess.value / worst - 1
            if view.objections(point, "search"):
                assert told[point.schedule.digest] >= beyond - 1e-6
            else:
                assert told[point.schedule.digest] == pytest.approx(beyond)
    assert min(told.values()) < 0 < max(told.values())


def test_what_is_worthless_gets_no_final_images_but_stays_in_the_tables(view: StudyView):
    assert view.full is not None
    assert view.full.search is not None
    worst = view.standard.worst_excess(view.full.search.excess.value, view.full.search.excess.upper)
    excess = {point: point.search.excess.value for point in view.points if point.search}
    final = {point for point in view.points if point.final}
    assert {point for point in final if excess[point] > worst} == set()
    assert {point for point in view.points if excess.get(point, 0.0) > worst}


def test_values_told_are_those_of_the_points(view: StudyView, url: str):
    with open_store(url, read_only=True) as store:
        study = optuna.load_study(study_name="small", storage=optuna_storage(store.engine))
        told = {trial.user_attrs["schedule"]: trial.values for trial in study.get_trials() if trial.values}
    for point in view.points:
        if point.schedule.digest in told:
            assert point.search is not None
            assert told[point.schedule.digest][0] == point.search.distance.value


def test_the_report_is_written(view: StudyView, config: StudyConfig):
    assert (Path(config.run.report) / "index.html").stat().st_size > 10_000


def test_another_study_looks_up_what_this_one_measured(view: StudyView, config: StudyConfig, url: str):
    other = override(config, {"name": "again", "run.budget": "1-trials", "run.report": None})
    runner.optimize(other, url)
    with open_store(url, read_only=True) as store:
        baselines = {m.schedule_digest for m in store.studies.members("small") if m.role == "baseline"}
        paid = {chunk.evaluation for chunk in store.evaluations.chunks("again")}
        asked = {record.digest: record.key for record in store.evaluations.evaluations()}
    searched = {asked[digest].schedule_digest for digest in paid if asked[digest].seed == config.quality.search_seed}
    assert not searched & baselines


def test_more_budget_goes_on_where_the_study_was(view: StudyView, config: StudyConfig, url: str):
    with open_store(url, read_only=True) as store:
        before = store.evaluations.chunks()
    more = runner.optimize(override(config, {"run.budget": "2-trials", "run.report": None}), url)
    with open_store(url, read_only=True) as store:
        after = store.evaluations.chunks()
    assert after[: len(before)] == before
    assert len({(chunk.evaluation, chunk.first_image) for chunk in after}) == len(after)
    assert len(more.points) >= len(view.points)


def test_the_laboratory_is_announced_before_anything_is_spent(config: StudyConfig, tmp_path: Path):
    seen: list[StudySetup] = []
    database = tmp_path / "study.db"

    def announce(study_setup: StudySetup) -> None:
        seen.append(study_setup)
        assert not database.exists()
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        runner.optimize(config, str(database), announce=announce)
    assert seen[0].weights == "closed-form"


class StopsAfter(ProgressListener):
    """Sends the signal after some evaluations."""

    def __init__(self, interruption: Interruption, evaluations: int) -> None:
        self.interruption, self.left = interruption, evaluations

    def say(self, message: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.interruption.receive(15, None)


def test_an_interrupted_study_says_what_it_was_doing_and_what_is_left(config: StudyConfig, tmp_path: Path):
    interruption, url = Interruption(), f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(Interrupted, match="exeunt resume"):
        runner.optimize(config, url, watch=StopsAfter(interruption, 1 + FIRST_STEPS + 3), interruption=interruption)
    standing = read_status(url, "small")
    assert standing.state == "searching"
    assert not standing.finished
    assert standing.progress.schedules_measured >= 1 + FIRST_STEPS
