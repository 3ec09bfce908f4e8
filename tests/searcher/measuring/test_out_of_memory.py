"""Batches shrink until they fit, and what does not fit at all is left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exeunt.backends.schedule import DROP, with_exits
from exeunt.backends.timing.device import is_broken_device, is_out_of_memory
from exeunt.searcher.measuring.chunks import OutOfMemory
from exeunt.searcher.measuring.metric_choice import settle_metric
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.searcher.search.budget import BudgetMeter
from exeunt.searcher.search.opening import open_session
from exeunt.searcher.spaces.candidates import Candidate
from exeunt.studies.config.budget import parse_budget
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.interruption import Interruption
from exeunt.studies.store.records import summarized

NETWORK = f"{Path(__file__).parents[1] / 'narrow.py'}:Narrow"


class Noted(ProgressListener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def features(config: StudyConfig, url: str, depth: int, watch: ProgressListener) -> np.ndarray:
    """The features of one depth's images, measured in a study of its own."""
    study_setup = load_setup(config)
    schedule = with_exits(study_setup.frame.full, [depth] * study_setup.frame.num_steps, DROP)
    candidate = Candidate(f"exit {depth}", "trial", "", study_setup.weights, summarized(schedule))
    with open_session(study_setup, url, BudgetMeter(parse_budget("1h")), watch, Interruption()) as session:
        session.results.measure(candidate)
        found = session.store.evaluations.features(session.objective.key(candidate, 0), range(32))
    assert found is not None
    return found


@pytest.fixture
def narrow(small: StudyConfig) -> StudyConfig:
    return override(small, {"checkpoint.network": NETWORK, "throughput.batch_size": 4})


def test_a_batch_that_does_not_fit_is_halved_and_moves_rounding_alone(
    small: StudyConfig, narrow: StudyConfig, tmp_path: Path
):
    watch = Noted()
    found = features(narrow, f"sqlite:///{tmp_path / 'narrow.db'}", 6, watch)
    assert [said.rpartition(" ")[2] for said in watch.said if "don't fit" in said] == ["16", "8", "4"]
    wide = override(small, {"throughput.batch_size": 4})
    np.testing.assert_allclose(
        found, features(wide, f"sqlite:///{tmp_path / 'wide.db'}", 6, ProgressListener()), atol=2e-3
    )


def test_the_look_at_a_metric_before_a_study_begins_halves_its_batches_too(narrow: StudyConfig):
    study_setup = load_setup(narrow)
    assert settle_metric(study_setup, narrow, lambda: None).metric is study_setup.metric
    study_setup.network.MOST_ROWS = 0  # what does not fit at all is left to the study, which keeps the reason
    assert settle_metric(study_setup, narrow, lambda: None) is study_setup


def test_what_does_not_fit_at_all_fails_with_its_reason_and_may_be_tried_elsewhere(narrow: StudyConfig, tmp_path: Path):
    study_setup, url = load_setup(narrow), f"sqlite:///{tmp_path / 'study.db'}"
    schedule = with_exits(study_setup.frame.full, [2] * study_setup.frame.num_steps, DROP)
    candidate = Candidate("exit 2", "trial", "", study_setup.weights, summarized(schedule))
    with open_session(study_setup, url, BudgetMeter(parse_budget("1h")), ProgressListener(), Interruption()) as session:
        study_setup.network.MOST_ROWS = 0
        with pytest.raises(OutOfMemory, match="one image of exit 2") as error:
            session.objective.collect(candidate, 0, range(32))
        (record,) = session.store.evaluations.evaluations()
        study_setup.network.MOST_ROWS = 1000
        assert session.objective.collect(candidate, 0, range(32)) == 32
    assert error.value.exit_code == 70
    assert not record.failed
    assert "2.00 GiB" in record.failures[0]


def test_errors_of_allocators_are_told_from_others():
    with pytest.raises(RuntimeError) as found:
        torch.empty(10**16)
    assert is_out_of_memory(found.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_broken_device(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_broken_device(found.value)
