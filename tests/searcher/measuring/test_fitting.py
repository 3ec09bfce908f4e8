"""Fitting one schedule as `exeunt schedule fit` does, on the closed-form network and real images of its mixture."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from exact_outcome import exact_frechet
from exeunt.backends.errors import InputError
from exeunt.backends.networks.closed_form import ClosedFormNetwork
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.fitting.rows import fit
from exeunt.backends.sampling.fitting.teacher import full_schedule, teacher_states
from exeunt.backends.schedule import Schedule, validate, with_exits
from exeunt.backends.solvers.tables import make_schedule
from exeunt.searcher.measuring.fitting import fit_schedule, metric_loss
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.monitoring.progress import ProgressListener
from exeunt.studies.config.keywords import configured
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from mixture import real_images

SMALL = {"images": 24, "full_steps": 40, "tries": 12}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    reference = real_images(tmp_path_factory.mktemp("real"))
    return configured(None, {"checkpoint": "closed-form", "metric": "fd-pixels", "reference": str(reference)})


def network() -> ClosedFormNetwork:
    found = load_network("closed-form")
    assert isinstance(found, ClosedFormNetwork)
    return found


def exits() -> Schedule:
    made = network()
    full = make_schedule(made.signature, made.noise, made.prediction, num_steps=5)
    return with_exits(full, [4, 5, 6, 7, 8])


@pytest.mark.parametrize("objective", ["metric", "trajectory"])
@pytest.mark.parametrize("times", [False, True])
def test_what_is_written_is_better_and_says_how_it_was_fitted(config: StudyConfig, objective: str, times: bool) -> None:
    found = fit_schedule(exits(), config, objective=objective, times=times, **SMALL)
    validate(found.schedule)
    assert found.after < found.before
    assert exact_frechet(network(), found.schedule) < exact_frechet(network(), exits())
    assert ([s.time for s in found.schedule.steps] == [s.time for s in exits().steps]) != times
    assert found.loss == ("fd-pixels" if objective == "metric" else "distance from the full trajectories")
    assert found.schedule.provenance is not None
    said = json.loads(dict(found.schedule.provenance.extras)["x-fit"])
    assert said == {"objective": objective, "images": 24, "seed": 2, "full_steps": 40, "times": times}


def test_the_same_command_writes_the_same_schedule(config: StudyConfig) -> None:
    first, again = (fit_schedule(exits(), config, **SMALL).schedule for _ in range(2))
    assert first == again


def test_a_metric_that_compares_with_the_full_schedule_compares_with_the_full_trajectories() -> None:
    config = configured(None, {"checkpoint": "closed-form", "metric": "pixels-to-baseline", "reference": "none"})
    found = fit_schedule(exits(), config, **SMALL)
    assert found.after < 0.5 * found.before


def test_pixels_that_are_not_normal_are_no_gain() -> None:
    wide = override(StudyConfig(), {"checkpoint.options": [("dim", 64)]})
    settings = {"checkpoint": "closed-form", "metric": "pixels-to-baseline", "reference": "none"}
    setup = load_setup(configured(wide, settings))
    schedule = make_schedule(setup.network.signature, setup.network.noise, setup.network.prediction, num_steps=6)
    teacher = teacher_states(
        [setup.network], full_schedule(schedule, 40), seed=2, images=range(64), conditions=setup.conditions
    )
    own, fitted = (fit([setup.network], schedule, teacher, share=share) for share in (0.0, 1.0))
    loss = metric_loss(setup, teacher, own)
    assert loss(fitted) < loss(own) < math.inf
    faded, glaring = (replace(fitted, latents=factor * fitted.latents) for factor in (0.2, 3.0))
    assert loss(faded) == loss(glaring) == math.inf
    assert metric_loss(setup, teacher, glaring)(glaring) < math.inf


def test_it_is_told_how_far_it_is_and_stops_when_it_is_told_to(config: StudyConfig) -> None:
    told: list[str] = []

    class Ears(ProgressListener):
        def phase(self, name: str, total: float) -> None:
            told.append(f"{name} {total:g}")

        def advance(self, done: float, images: int = 0) -> None:
            told.append(f"{done:g}")

    fit_schedule(exits(), config, watch=Ears(), **{**SMALL, "tries": 2})
    assert told == ["full trajectories 40", *map(str, range(1, 41)), "fitting 2", "1", "2"]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_schedule(exits(), config, check_interruption=stop, **SMALL)


def test_a_schedule_of_another_network_is_refused_first(config: StudyConfig, tmp_path: Path) -> None:
    other = load_network("closed-form", num_blocks=5)
    schedule = make_schedule(other.signature, other.noise, other.prediction, num_steps=3)
    for objective in ("metric", "trajectory"):
        with pytest.raises(InputError, match="network 0: the schedule is for closed-form with 5 blocks"):
            fit_schedule(schedule, config, objective=objective)
