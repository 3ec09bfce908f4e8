"""Whole studies on other noises than train indices, and with solvers that make more steps than they have times."""

from pathlib import Path

import pytest
from exeunt.backends.schedule import parse
from exeunt.reports.files.export import export_text
from exeunt.searcher import runner
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig

STUDIES = {
    "flow": {"checkpoint.options": {"noise": "flow"}, "baseline.spacing_options": {"shift": 3.0}},
    "edm": {"checkpoint.options": {"noise": "edm"}, "search.space": "snr-curve"},
    "vp": {"checkpoint.options": {"noise": "vp"}, "search.space": "cache"},
    "pndm": {"baseline.solver": "pndm", "baseline.variant": "prk", "search.space": "segments"},
}
CUSTOMS = {
    "flow": ("flow-euler", "flow", "flow"),
    "edm": ("edm", "karras", "sigma"),
    "vp": ("dpmsolver++", "log-snr", "sigma"),
    "pndm": ("pndm", "log-snr", "train-index"),
}


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("edm", "vp", "pndm")]


@pytest.mark.parametrize("name", ["flow", *LONG])
def test_a_study_goes_from_search_to_export(name: str, small: StudyConfig, tmp_path: Path) -> None:
    config = override(small, {**STUDIES[name], "run.budget": "4-trials", "run.report": str(tmp_path / "report")})
    view = runner.optimize(config, f"sqlite:///{tmp_path / 'study.db'}")
    assert (tmp_path / "report" / "index.html").exists()
    assert any(point.role == "trial" for point in view.points)
    solver, spacing, time = CUSTOMS[name]
    assert f"{solver}, 8 steps, {spacing}" in view.conditions["full_schedule"]
    for point in view.points:
        sampler = parse(export_text(view, point)).sampler
        assert (sampler.name, sampler.time) == (solver, time)
