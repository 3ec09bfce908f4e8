"""The two ends of loss and the figures of guards, on a study of the closed-form network with its real database."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.quality.names import GUARD_PAIRED, GUARD_REPEATS, NOTHING_PREFIX, nothing_metric
from exeunt.backends.sampling.loop import sample
from exeunt.reports.view.view import StudyView
from exeunt.searcher import runner
from exeunt.searcher.measuring.metric import ReferenceMetric
from exeunt.searcher.measuring.metric_choice import settle_metric, standard_errors
from exeunt.searcher.measuring.scale import features_of_nothing, wrong_order
from exeunt.searcher.measuring.setup import StudySetup, load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import AUTO, StudyConfig
from exeunt.studies.store.records import QualityRecord
from exeunt.studies.store.store import open_store


@pytest.fixture(scope="module")
def setup(small: StudyConfig) -> StudySetup:
    return load_setup(small)


@pytest.fixture(scope="module")
def url(small: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished study."""
    where = f"sqlite:///{tmp_path_factory.mktemp('scale') / 'study.db'}"
    runner.optimize(override(small, {"run.budget": "4-trials"}), where)
    return where


@pytest.fixture(scope="module")
def view(url: str) -> StudyView:
    return runner.study_view(url, "small")


@pytest.fixture(scope="module")
def records(url: str) -> list[QualityRecord]:
    with open_store(url, read_only=True) as store:
        return store.measurements.qualities("small")


def images_of(setup: StudySetup, count: int):
    """The full schedule's first images on search seeds."""
    batches = sample(
        [setup.network],
        setup.baseline.schedule,
        seed=setup.config.quality.search_seed,
        images=range(count),
        conditions=setup.conditions,
        batch_size=16,
    )
    return torch.cat([batch.images for batch in batches])


def test_what_shows_nothing_has_a_value_once_by_each_metric(records: list[QualityRecord], view: StudyView):
    nothing = [record for record in records if record.metric.startswith(NOTHING_PREFIX)]
    names = [record.metric for record in nothing]
    assert len(names) == len(set(names))
    for kind in ("noise", "constant"):
        for metric in ("fd-pixels", "kid-pixels", GUARD_PAIRED):
            assert nothing_metric(kind, metric) in names
    assert {record.num_images for record in nothing} == {32}
    assert view.standard.scale is not None
    assert view.standard.scale.width > 0


def test_its_value_is_that_of_such_images(setup: StudySetup, records: list[QualityRecord]):
    count, seed = setup.config.quality.num_images, setup.config.quality.search_seed
    assert isinstance(setup.metric, ReferenceMetric)
    found = features_of_nothing(setup, images_of(setup, count), seed)
    for kind, features in found.items():
        stored = next(each for each in records if each.metric == nothing_metric(kind, "fd-pixels"))
        assert stored.value == pytest.approx(setup.metric.distance(features).value, rel=2e-3)
    assert (found["constant"] == found["constant"][0]).all()
    assert found["noise"].std() > 3 * found["constant"].std()


def test_every_schedule_has_the_figures_of_its_guards_on_both_sets_of_noises(view: StudyView):
    assert view.full is not None
    judged = [(point, quality) for point in view.points for quality in (point.search, point.final) if quality]
    assert len(judged) > len(view.points)
    for point, quality in judged:
        assert quality.figures.paired is not None
        assert quality.figures.repeats is not None
        assert (quality.figures.paired.value == 0) == (point.stored.digest == view.full.stored.digest)


def test_guards_are_kept_before_the_value_that_they_judge(records: list[QualityRecord]):
    """A study that is cut off in between works both out again."""
    for record in records:
        if record.metric == "fd-pixels":
            own = [each.metric for each in records if each.evaluation == record.evaluation]
            assert own.index(GUARD_PAIRED) < own.index("fd-pixels")
            assert own.index(GUARD_REPEATS) < own.index("fd-pixels")


def test_a_study_from_before_gets_its_scale_when_it_is_resumed(small: StudyConfig, url: str, tmp_path: Path):
    copy = tmp_path / "study.db"
    copy.write_bytes(Path(url.removeprefix("sqlite:///")).read_bytes())
    shutil.copytree(f"{url.removeprefix('sqlite:///')}-files", f"{copy}-files")
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM exeunt_qualities WHERE metric LIKE 'nothing:%' OR metric LIKE 'guard:%'")
        connection.execute("UPDATE exeunt_chunks SET statistics = NULL")
    before = runner.study_view(f"sqlite:///{copy}", "small")
    assert before.standard.scale is None
    assert before.front("final")
    after = runner.optimize(override(small, {"run.budget": "2-trials"}), f"sqlite:///{copy}")
    assert after.standard.scale is not None
    assert all(point.final.figures.paired is not None for point in after.measured("final") if point.final)


def test_wrong_labels_stand_elsewhere(setup: StudySetup):
    assert wrong_order(setup, 32, 0) is None  # this network takes none
    labelled = load_setup(StudyConfig())
    order = wrong_order(labelled, 64, 0)
    assert order is not None
    assert sorted(order) == list(range(64))
    assert (np.arange(64) % 10 != order % 10).all()


def test_a_metric_that_tells_them_apart_stays(setup: StudySetup, small: StudyConfig):
    asked = override(small, {"quality.metric": AUTO})
    assert settle_metric(setup, asked, lambda: None) is setup


@pytest.fixture(scope="module")
def blunt(setup: StudySetup) -> StudySetup:
    """Eight images are all that a search is to look at here."""
    return replace(setup, config=override(setup.config, {"quality.num_images": 8}))


def test_few_images_hardly_tell_them_apart(setup: StudySetup, blunt: StudySetup):
    wide = standard_errors(setup, images_of(setup, 32))
    narrow = standard_errors(blunt, images_of(setup, 8))
    assert wide is not None
    assert narrow is not None
    assert narrow < wide
    assert narrow < 10


@pytest.mark.slow
def test_a_metric_that_hardly_does_is_told_where_it_was_named(
    blunt: StudySetup, small: StudyConfig, capsys: pytest.CaptureFixture[str]
):
    assert settle_metric(blunt, small, lambda: None) is blunt
    assert "standard errors of an evaluation of" in capsys.readouterr().err


def test_a_metric_that_hardly_does_is_replaced_where_it_was_left_open(
    blunt: StudySetup, small: StudyConfig, capsys: pytest.CaptureFixture[str]
):
    taken = settle_metric(blunt, override(small, {"quality.metric": AUTO}), lambda: None)
    assert f"{taken.config.quality.metric} is used instead" in capsys.readouterr().err
    assert taken.metric.name == taken.config.quality.metric != "fd-pixels"
