"""`exeunt calibrate` as a user calls it."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exeunt.backends.errors import Interrupted
from exeunt.backends.schedule import block_evaluations, load
from exeunt.searcher.cli.main import cli
from exeunt.searcher.measuring.setup import load_setup
from exeunt.searcher.search.warm_start import warm_points
from exeunt.searcher.sensitivity.trajectories import FullTrajectories
from exeunt.studies.config.study import StudyConfig


def calibrate(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["calibrate", *arguments])


@pytest.fixture
def flags(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The closed-form network with pixels as features, in an empty folder; few images."""
    monkeypatch.chdir(tmp_path)
    network = ["--checkpoint", "closed-form", "--reference", str(reference), "--metric", "fd-pixels", "--device", "cpu"]
    return [*network, "--num-steps", "8", "--num-images", "16", "--depths", "2,5", "--pairs-up-to", "4"]


def test_a_front_is_made_and_searched_on(flags: list[str], small: StudyConfig) -> None:
    found = calibrate(*flags)
    assert found.exit_code == 0, found.output
    assert "changes of 16 trajectories" in found.stderr
    assert "Kendall's τ of predicted and measured: " in found.stdout
    result = json.loads(Path("exeunt-calibration/calibration.json").read_text())
    assert [level["num_steps"] for level in result["levels"]] == [8, 4]
    costs = [each["block_evaluations"] for each in result["front"]]
    assert costs == sorted(costs)
    assert costs[0] < 20 < 50 < costs[-1]
    for each in result["front"]:
        assert block_evaluations(load(Path("exeunt-calibration") / each["file"])) == each["block_evaluations"]
    assert result["rank_correlation"]["path"] > 0.8
    for name in ("steps-8", "steps-4", "front"):
        assert Path(f"exeunt-calibration/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert Path(f"exeunt-calibration/{name}.pdf").read_bytes().startswith(b"%PDF")
    command = shlex.split(found.stdout.splitlines()[-1].partition(": ")[2])
    assert command == ["exeunt", "optimize", *flags[:10], "--warm-start", "exeunt-calibration/front"]
    said: list[str] = []
    assert len(warm_points([command[-1]], load_setup(small), said.append)) == 12
    assert said[0].startswith("warm start: 12 of ")


def test_the_metric_itself_may_be_the_objective(flags: list[str]) -> None:
    found = calibrate(*flags, "--objective", "metric", "--members", "3", "--json", "-o", "own")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    result = json.loads(Path(said["result"]).read_text())
    assert len(result["front"]) == 3
    assert result["front"][0]["measured"] != pytest.approx(result["front"][0]["distance"])


def test_an_interrupted_one_goes_on(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibrate(*flags, "-o", "whole")
    leave, left = FullTrajectories.leave, list[int]()

    def counted(*given: object) -> object:
        left.append(1)
        if len(left) == 40:
            raise Interrupted("Stopped")
        return leave(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(FullTrajectories, "leave", counted)
    assert calibrate(*flags, "-o", "parts").exit_code == Interrupted.exit_code
    kept = len(list(Path("parts/parts").iterdir()))
    assert kept > 2
    again = calibrate(*flags, "-o", "parts")
    assert again.stdout.replace("parts/", "whole/") == whole.stdout.replace("parts/", "whole/")
    chains = int(whole.stderr.split(": ")[1].split()[0])
    assert len(left) - 40 < chains - 25


def test_a_folder_holds_one_calibration(flags: list[str]) -> None:
    assert calibrate(*flags, "--members", "2").exit_code == 0
    other = calibrate(*flags, "--seed", "9")
    assert other.exit_code == 2
    assert "exeunt-calibration holds a calibration with other settings, weights or images." in other.stderr
    part = next(Path("exeunt-calibration/parts").iterdir())
    part.write_bytes(b"nothing")
    broken = calibrate(*flags, "--members", "2")
    assert broken.exit_code == 2
    assert f"{part} must be a part of a calibration, but can't be read. Delete it" in broken.stderr


def test_dry_run_states_the_cost_and_measures_nothing(flags: list[str]) -> None:
    found = calibrate(*flags, "--dry-run")
    assert found.exit_code == 0
    assert "block evaluations, as much as" in found.stderr
    assert not Path("exeunt-calibration").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depths", "2,x"], "--depths: must be whole numbers with commas between, but got `2,x`"),
        (["--stand-ins", "drop,reus"], "stand-ins: `reus` is not known. Did you mean `reuse`"),
        (["--num-images", "4"], "num-images: must be at least 8 for --objective full, but got 4"),
        (["--step-counts", "30"], "step-counts: must be from 2 to the full schedule's 8, but got 30"),
        (
            ["--objective", "metric", "--metric", "kid-pixels"],
            "objective: `kid-pixels` is no squared length of a vector",
        ),
    ],
)
def test_wrong_values_are_refused(flags: list[str], arguments: list[str], message: str) -> None:
    found = calibrate(*flags, *arguments)
    assert found.exit_code == 2
    assert message in found.stderr
    said = ("Error: ", "Note: working out the features", "closed-form: ", "full", "chains")
    assert all(line.startswith(said) for line in found.stderr.splitlines())
