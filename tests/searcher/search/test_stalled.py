"""A search that ends by itself: once what it expects to gain is below the noise of its front."""

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exeunt.backends.errors import InputError
from exeunt.reports.files.tables import report_to_dict
from exeunt.reports.page.headline import details
from exeunt.searcher import runner
from exeunt.searcher.cli.main import cli
from exeunt.searcher.proposals.improvement import hypervolume_error
from exeunt.searcher.search import loop
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.workers.status import read_status

TRIALS = 200


def test_a_stalled_search_ends_says_so_and_goes_on_when_asked(
    small: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "STALLED", 2)  # sooner, so that the test takes seconds
    url = f"sqlite:///{tmp_path / 'study.db'}"
    config = override(small, {"run.until_stalled": True, "run.budget": f"{TRIALS}-trials"})
    view = runner.optimize(config, url)
    assert 8 <= sum(point.role == "trial" for point in view.points) < TRIALS
    assert view.ended.startswith("it has stalled, since 2 proposals in a row")
    assert f"The search ended before its budget: {view.ended}." in details(view)
    assert report_to_dict(view)["ended"] == view.ended
    assert view.front("final")
    status = read_status(url, "small")
    assert (status.finished, status.ended) == (True, view.ended)
    finished = CliRunner().invoke(cli, ["resume", "--storage", url])
    assert "is finished: it has stalled" in finished.output
    assert "ended" in CliRunner().invoke(cli, ["status", "--storage", url]).output
    more = runner.optimize(override(config, {"run.budget": "1-trials"}), url)
    assert len(more.points) > len(view.points)
    assert more.ended == ""


def test_the_noise_of_a_front_is_that_of_its_hypervolume():
    front, reference, errors = (
        [(-3.0, 0.5), (-2.0, 0.1), (-1.0, -0.3), (-0.5, 2.0)],
        (0.0, 1.0),
        [0.02, 0.01, 0.03, 9.0],
    )
    random = np.random.default_rng(0)
    values = np.array([value for _, value in front[:3]]) + random.standard_normal((20_000, 3)) * errors[:3]
    areas = ((1.0 - values) * [1.0, 1.0, 0.5]).sum(axis=1)
    assert hypervolume_error(front, reference, errors) == pytest.approx(areas.std(), rel=0.03)
    assert hypervolume_error([], reference, []) == 0.0
    assert math.isclose(hypervolume_error([(-1.0, 0.0)], (0.0, 1.0), [0.1]), 0.1)


@pytest.mark.parametrize("settings", [{"search.sampler": "tpe"}, {"search.space": "mixed"}])
def test_samplers_that_expect_nothing_are_refused(settings: dict[str, str]):
    with pytest.raises(InputError, match=r"needs the sampler front on the space free, .* Omit it"):
        override(StudyConfig(), {"run.until_stalled": True, **settings})
