"""The names of `exeunt` without diffusers, and the arguments that people pass: keywords, paths, a budget as text."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import exeunt
import pytest
from exeunt.backends.errors import InputError
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling.conditions import uniform
from exeunt.searcher.spaces.base import SPACES
from exeunt.studies.config.study import SPACE_NAMES
from mixture import real_images
from pipeline_runs import Bench, each, with_actions

PROGRAM = """
import sys
sys.modules["diffusers"] = None  # as where it is not installed
import pydoc, exeunt
from exeunt import *
assert hasattr(exeunt, "apply") and not hasattr(exeunt, "aply")
assert "apply" in pydoc.render_doc(exeunt, renderer=pydoc.plaintext)
assert all(getattr(exeunt, name) is not None for name in exeunt.__all__)
for function in (apply, remove, call_arguments):
    try:
        function(None, None)
    except ExeuntError as error:
        assert "pip install 'exeunt[diffusers]'" in str(error), error
    else:
        raise AssertionError(function)
"""


def test_without_diffusers_every_name_is_there_and_says_what_to_install() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)


@each("dit")
def test_a_schedule_on_a_pipeline_may_be_a_path(bench: Bench, tmp_path: Path) -> None:
    schedule, path = with_actions(bench.schedule()), tmp_path / "a.schedule.json"
    exeunt.save_schedule(schedule, path)
    exeunt.apply(bench.pipe, str(path))
    assert exeunt.call_arguments(path) == exeunt.call_arguments(schedule)
    with pytest.raises(exeunt.ScheduleError, match="must be readable"):
        exeunt.apply(bench.pipe, tmp_path / "absent.schedule.json")
    with pytest.raises(exeunt.ScheduleError, match="path of a file, but got int"):
        exeunt.apply(bench.pipe, 3)  # type: ignore[arg-type]


def test_what_is_evaluated_may_be_a_path() -> None:
    with pytest.raises(exeunt.ScheduleError, match="must be readable"):
        exeunt.evaluate("absent.schedule.json")


def test_sampling_takes_a_path(tmp_path: Path) -> None:
    from exeunt.backends.solvers.tables import make_schedule

    network = load_network("closed-form")
    exeunt.save_schedule(
        make_schedule(network.signature, network.noise, network.prediction, num_steps=2), tmp_path / "a"
    )
    given: dict[str, Any] = {"seed": 0, "images": range(2), "conditions": uniform(network.num_classes), "batch_size": 2}
    (batch,) = exeunt.sample([network], tmp_path / "a", **given)
    assert len(batch.images) == 2


def test_a_study_is_described_by_keywords(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    view = exeunt.optimize(
        checkpoint="closed-form", reference=reference, metric="fd-pixels", device="cpu", num_steps=4, num_images=32,
        final_images=64, batch_size=32, report="none", study="keywords", budget="8-trials", storage=tmp_path / "a.db",
    )  # fmt: skip
    assert view.name == "keywords"
    assert view.measured("final")
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["a.db"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"chekpoint": "x"}, "`chekpoint` is not a setting. Did you mean `checkpoint`?"),
        ({"budget": "2x"}, "is not a time"),
        ({"config": "absent.toml"}, "absent.toml: the study file cannot be read"),
        ({"space": "cahce"}, "`cahce` is not known. Did you mean `cache`?"),
        ({"proposals": "absent"}, "absent"),
    ],
)
def test_what_can_not_be_is_refused_with_the_nearest(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(exeunt.ExeuntError) as caught:
        exeunt.optimize(storage=tmp_path / "a.db", **{"checkpoint": "closed-form", "reference": "none", **given})
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        ("search.space", "cahce", "cache"),
        ("search.baselines", ["full", "fewer-stps"], None),
        ("baseline.solver", "unipcc", "unipc"),
        ("baseline.spacing", "log-snrs", "log-snr"),
    ],
)
def test_override_refuses_names_of_what_is_not_there(key: str, value: object, near: str | None) -> None:
    with pytest.raises(InputError, match=f"Did you mean `{near}`" if near else "is not a family"):
        exeunt.override(exeunt.StudyConfig(), {key: value})


def test_the_names_of_spaces_are_those_of_their_classes() -> None:
    assert tuple(SPACES) == SPACE_NAMES
    assert all(exeunt.override(exeunt.StudyConfig(), {"search.space": name}) for name in SPACES)


def test_settings_take_paths(tmp_path: Path) -> None:
    found = exeunt.override(exeunt.StudyConfig(), {"quality.reference": tmp_path})
    assert found.quality.reference == os.fspath(tmp_path)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 real images of the closed-form network's mixture."""
    return real_images(tmp_path_factory.mktemp("reference"))
