"""What is left of a budget."""

import math
import subprocess
import sys

import pytest
from exeunt.searcher.search.budget import BudgetMeter, process_age
from exeunt.studies.config.budget import parse_budget


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
