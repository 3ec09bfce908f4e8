"""The search's front, read in few columns: the same as the whole view's, whatever a study has."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.search_front import FrontReader, SearchFront
from exeunt.reports.view.view import Point
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.store.records import QualityRecord
from exeunt.studies.store.store import Store, open_store
from optuna._hypervolume import compute_hypervolume


@pytest.fixture
def copy(recorded: str, tmp_path: Path) -> str:
    """The database, to be changed."""
    shutil.copy(recorded.removeprefix("sqlite:///"), tmp_path / "exeunt.db")
    return f"sqlite:///{tmp_path / 'exeunt.db'}"


def check_as_the_view_has_it(store: Store, found: SearchFront) -> None:
    """Size and corner are the view's; the hypervolume is what Optuna makes of all that was measured."""
    view = load_view(store, "fashion")
    assert found.size == len(view.front("search"))
    assert found.reference == view.reference_point
    assert found.reference is not None
    assert found.hypervolume is not None
    scores = [view.score("search")(point) for point in view.measured("search")]
    losses = np.array([(each.quality, -each.speed) for each in scores])
    corner = np.array([found.reference.quality, -found.reference.speed])
    better = losses[(losses < corner).all(axis=1)]
    assert len(better)
    assert found.hypervolume == pytest.approx(compute_hypervolume(better, corner), rel=1e-9)


def test_it_is_the_views(recorded: str) -> None:
    with open_store(recorded, read_only=True) as store:
        check_as_the_view_has_it(store, FrontReader("fashion").read(store))


def record_of(store: Store, point: Point) -> QualityRecord:
    """A point's value on search seeds."""
    questions = {
        each.digest
        for each in store.evaluations.evaluations("fashion")
        if (each.key.schedule_digest, each.key.weights_sha256) == (point.key[0], f"sha-{point.weights}")
        if each.key.seed == StudyConfig().quality.search_seed
    }
    (found,) = (each for each in store.measurements.qualities("fashion") if each.evaluation in questions)
    return found


def test_what_comes_later_is_seen_by_the_same_reader(copy: str) -> None:
    reader = FrontReader("fashion")
    with open_store(copy) as store:
        before = reader.read(store)
        trial = next(point for point in load_view(store, "fashion").front("search") if point.role == "trial")
        old = record_of(store, trial)
        store.measurements.put_qualities(replace(old, value=old.value - 5, lower=old.lower - 5))
        after = reader.read(store)
        check_as_the_view_has_it(store, after)
    assert before.hypervolume is not None
    assert after.hypervolume is not None
    assert after.hypervolume > before.hypervolume


def test_values_at_another_count_than_the_searchs_are_left_out(copy: str) -> None:
    with open_store(copy) as store:
        view = load_view(store, "fashion")
        full, before = view.full, len(view.front("search"))
        assert full is not None
        old = record_of(store, full)
        store.measurements.put_qualities(replace(old, num_images=2 * old.num_images))
        found = FrontReader("fashion").read(store)
        assert found.size == len(load_view(store, "fashion").front("search")) == before


def test_other_questions_stay_out(copy: str) -> None:
    other = override(StudyConfig(), {"name": "other", "quality.search_seed": 5, "quality.final_seed": 6})
    with open_store(copy) as store:
        store.studies.put_config(other)
        for member in store.studies.members("fashion"):
            store.studies.add_member("other", member)
        assert FrontReader("other").read(store) == SearchFront(0, None, None)
