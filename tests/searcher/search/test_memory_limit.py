"""A study with a limit on memory: what needs more is neither proposed nor sampled."""

from pathlib import Path

import pytest
from exeunt.backends.errors import InputError
from exeunt.reports.files.tables import report_to_dict
from exeunt.searcher import runner
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.studies.config.reading import override, refuse_difference
from exeunt.studies.config.rules import parse_memory
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.store.store import open_store
from optuna import load_study
from optuna.trial import TrialState


class Said(ProgressListener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_what_needs_more_memory_is_neither_proposed_nor_sampled(small: StudyConfig, tmp_path: Path):
    roomy = load_setup(override(small, {"search.max_memory": "1GB"}))
    known = roomy.footprints[roomy.weights]
    limit = (known.base + known.batch_size * max(known.stored[0]) / 2) / 1000  # no stored value fits
    config = override(small, {"search.max_memory": f"{limit:.3f}KB", "run.budget": "25-trials"})
    said, url = Said(), f"sqlite:///{tmp_path / 'study.db'}"
    view = runner.optimize(config, url, watch=said)
    assert {known.needed(point.schedule) <= 1000 * limit for point in view.points} == {True}
    assert [line for line in said.lines if "failed: " in line and "for stored values, and at most" in line]
    with open_store(url, read_only=True) as store:
        trials = load_study(study_name="small", storage=optuna_storage(store.engine)).trials
    refused = [each for each in trials if each.state == TrialState.FAIL]
    assert all(each.number < 5 for each in refused)  # the space's own first points
    assert len(trials) > 20
    rows = [row for row in report_to_dict(view)["front"] if row["role"] == "trial"]
    assert rows
    assert {(row["weight_bytes"], row["stored_bytes"]) for row in rows} == {(known.base, 0)}


def test_a_limit_below_the_full_schedule_is_refused_before_anything_is_sampled(small: StudyConfig):
    with pytest.raises(InputError, match=r"must hold the full schedule on closed-form, but it needs 0.00116 MB"):
        load_setup(override(small, {"search.max_memory": "1KB"}))


def test_another_limit_is_another_study(small: StudyConfig):
    stored = override(small, {"search.max_memory": "8GB"})
    with pytest.raises(InputError, match=r"search.max_memory: stored"):
        refuse_difference(stored, small)


def test_memory_is_read_with_its_unit():
    assert [parse_memory(each) for each in ("8GB", "1.5 GiB", "20kb")] == [8 * 10**9, 3 * 2**29, 20_000]
    for wrong in ("8", "0GB", "-1GB", "8 apples", 8):
        with pytest.raises(InputError, match=r"search.max_memory must be memory above 0 with its unit, .* 8GB"):
            override(StudyConfig(), {"search.max_memory": wrong})
