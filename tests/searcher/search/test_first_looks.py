"""Proposals that fall short on few images, in a whole study of the closed-form network."""

import pytest
from exeunt.reports.files.tables import report_to_dict
from exeunt.reports.view.view import StudyView
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.search.budget import BudgetMeter
from exeunt.searcher.search.opening import WorkerRole, open_session
from exeunt.studies.config.budget import parse_budget
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.interruption import Interruption
from exeunt.studies.store.store import open_store
from optuna import load_study
from optuna.trial import TrialState

IMAGES, FEW = 128, 64


@pytest.fixture(scope="module")
def config(small: StudyConfig) -> StudyConfig:
    """A study whose proposals are random, so that most are bad."""
    changes = {"quality.num_images": IMAGES, "run.budget": "40-trials", "search.sampler": "random"}
    return override(small, changes)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}"


@pytest.fixture(scope="module")
def view(config: StudyConfig, url: str) -> StudyView:
    return runner.optimize(config, url)


def test_some_proposals_get_few_images_and_the_rest_all_of_them(view: StudyView):
    spent = sorted({each.images for each in view.spent})
    assert spent == [FEW, IMAGES]


def test_those_of_few_images_have_no_value_that_a_front_could_show(view: StudyView):
    short = [point for point in view.points if point.role == "trial" and point.search is None]
    assert len(short) == sum(each.images == FEW for each in view.spent) > 3
    assert not {point.label for point in short} & {point.label for point in view.front("search")}
    assert {point.search.num_images for point in view.points if point.search} == {IMAGES}


def test_the_sampler_is_told_what_few_images_say(view: StudyView, url: str):
    short = {point.stored.digest for point in view.points if point.role == "trial" and point.search is None}
    with open_store(url) as store:
        trials = load_study(study_name="small", storage=optuna_storage(store.engine)).trials
    told = [each for each in trials if each.user_attrs.get("schedule") in short]
    assert told
    assert all(each.state == TrialState.COMPLETE for each in told)
    worst = max(each.values[0] for each in trials if each.values and each not in told)
    assert min(each.values[0] for each in told) < worst  # stated as on all images


def test_reports_say_how_few_images_rank(view: StudyView):
    few = [each for each in report_to_dict(view)["agreements"] if each["few"] == f"{FEW} images of the search"]
    assert few
    assert few[0]["many"] == str(IMAGES)
    assert few[0]["rank_correlation"] > 0.8
    assert few[0]["num_schedules"] >= 10


@pytest.mark.usefixtures("view")
def test_a_resumed_search_learns_from_those_of_few_images(config: StudyConfig, url: str):
    meter = BudgetMeter(parse_budget("1-trials"))
    setup = load_setup(config)
    with open_session(setup, url, meter, ProgressListener(), Interruption(), WorkerRole()) as session:
        short = session.results.short
        assert short
        whole = next(iter(session.results.measured))
        vectors = [session.results.vector(key) for key in (*short, whole)]
        assert len({each.shape for each in vectors if each is not None}) == 1
        assert all(each is not None for each in vectors)
