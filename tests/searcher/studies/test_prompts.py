"""A whole study without real images: prompts, distances to the baseline's images, losses in parts of other noise."""

import json
from pathlib import Path

import numpy as np
import prompted
import pytest
from click.testing import CliRunner, Result
from exeunt.backends.networks.registry import load_network
from exeunt.backends.quality.extractors import load_extractor
from exeunt.backends.sampling import conditions as prompts
from exeunt.backends.sampling.loop import sample
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.selection import within_loss
from exeunt.reports.view.standard import LOSS_LIMIT
from exeunt.reports.view.view import StudyView
from exeunt.searcher.cli.main import cli
from exeunt.studies.store.store import open_store

NETWORK = f"{prompted.__file__}:PromptedNetwork"
ARGUMENTS = {"components": 4, "dim": 48, "num_blocks": 6}
CHECKPOINT = [
    *("--checkpoint", "closed-form", "--network", NETWORK, "--device", "cpu", "--batch-size", "16"),
    *(word for name, value in ARGUMENTS.items() for word in ("--network-arg", f"{name}={value}")),
]
MEASURED = ["--num-steps", "6", "--num-images", "32", "--metric", "pixels-to-baseline"]
SEARCHED = ["--final-images", "48", "--budget", "6-trials", "--set", "throughput.repeats=2", "--quiet"]
STUDY = ["--study", "prompted", *CHECKPOINT, *MEASURED, *SEARCHED]


def run(*words: str) -> Result:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def told(folder: Path) -> str:
    """What a study from an empty folder says on standard output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run("optimize", *STUDY).stdout


@pytest.fixture(scope="module")
def view(told: str, folder: Path) -> StudyView:
    with open_store(f"sqlite:///{folder / 'exeunt.db'}", read_only=True) as store:
        return load_view(store, "prompted")


def test_the_baseline_is_stated_with_its_guidance_its_prompts_and_what_it_is_compared_with(told: str) -> None:
    assert "guidance 1.5, its pipeline's default" in told
    assert "guidance 1.5, its pipeline's default" in told
    assert "Prompts:  64 (the bundled set), encoded once in" in told
    assert "pixels-to-baseline against the full schedule's images" in told
    assert "distance to full" in told


def test_the_full_schedule_loses_nothing_and_others_do(view: StudyView) -> None:
    assert view.standard.kind == "baseline"
    assert view.full is not None
    for seeds in ("search", "final"):
        quality = view.full.quality(seeds)
        assert quality is not None
        assert (quality.distance.value, quality.distance.lower, quality.distance.upper) == (0.0, 0.0, 0.0)
        loss = view.loss(view.full, seeds)
        assert loss is not None
        assert loss.value == 0.0
    others = [point for point in view.measured("final") if point is not view.full]
    assert others
    assert all(point.final is not None and point.final.distance.value > 0 for point in others)


def test_values_are_the_mean_squares_of_pixels_between_images_of_one_noise(view: StudyView) -> None:
    network, given = load_network("closed-form", network=NETWORK, **ARGUMENTS), prompts.load_prompts("prompts")
    network.embed(given.prompts)
    point = next(point for point in view.measured("final") if point is not view.full)
    assert view.full is not None
    assert point.final is not None
    extract = load_extractor("pixels")

    def pixels(schedule, seed: int, count: int) -> np.ndarray:
        batches = sample([network], schedule, seed=seed, images=range(count), conditions=given, batch_size=16)
        return np.concatenate([extract(batch.images) for batch in batches])

    baseline = pixels(view.full.schedule, 1, 48)
    wanted = ((pixels(point.schedule, 1, 48) - baseline) ** 2).sum(axis=1).mean()
    assert point.final.distance.value == pytest.approx(wanted, rel=2e-3)  # features are stored in half precision
    noise = ((pixels(view.full.schedule, 0, 32) - baseline[:32]) ** 2).sum(axis=1).mean()
    assert view.standard.noise is not None
    assert view.standard.noise.value == pytest.approx(noise, rel=2e-3)


def test_losses_are_parts_of_the_way_to_images_that_show_nothing(view: StudyView) -> None:
    scale = view.standard.scale
    assert scale is not None
    assert scale.full == 0.0
    assert set(scale.nothing) == {"noise", "constant", "shuffled"}  # 4 × 4 pixels are not blurred
    assert scale.width == min(scale.nothing.values()) > 0
    for point in view.measured("final"):
        loss = view.loss(point, "final")
        assert point.final is not None
        assert loss is not None
        assert loss.value == pytest.approx(point.final.distance.value / scale.width)
    for entry in view.advantages:
        loss = view.loss(entry.point, "final")
        assert loss is not None
        assert loss.value <= LOSS_LIMIT
    full = within_loss(view, 0.0)
    assert full is view.full
    fastest = within_loss(view, 1.0)
    assert (view.speed(fastest, "final") or 0) >= (view.speed(full, "final") or 0)


def test_text_encoding_stands_beside_the_speed(view: StudyView, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert view.text_seconds is not None
    assert view.text_seconds > 0
    assert "ms a prompt" in view.conditions["text_encoding"]
    monkeypatch.chdir(folder)
    report = json.loads(run("report", "--json").stdout)
    assert report["text_seconds"] == view.text_seconds
    for row in report["front"]:
        whole = 1 / row["images_per_second"] + view.text_seconds
        assert 1 / row["images_per_second_with_text"] == pytest.approx(whole)
    assert report["standard"]["kind"] == "baseline"
    assert "a loss of 5%" in report["best_ratio_definition"]


def test_the_report_and_the_exports_speak_of_distances_to_the_full_schedule(
    told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    page = (folder / "exeunt-report" / "index.html").read_text()
    assert "distance to the full schedule" in page
    assert "excess over the floor" not in page
    assert all(row["flops"] > 0 for row in json.loads((folder / "exeunt-report" / "report.json").read_text())["front"])
    run("report", "-o", "again")
    run("export", "--max-loss", "100%", "-o", "fast.schedule.json")
    measured = json.loads((folder / "fast.schedule.json").read_text())["measured"][0]
    assert measured["metric"] == "pixels-to-baseline"
    assert "floor" not in measured or measured["floor"] is None
    sampled = run("sample", "fast.schedule.json", *CHECKPOINT, "--num-images", "4", "-o", "grid.png")
    assert "4 images" in sampled.output


def test_the_same_command_again_shows_the_front_and_other_prompts_are_refused(
    told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert "is finished" in run("optimize", *STUDY).stdout
    (folder / "mine.txt").write_text("a red bicycle\n")
    other = CliRunner().invoke(cli, ["optimize", *STUDY, "--conditions", "mine.txt"])
    assert other.exit_code == 2
    assert "quality.conditions" in other.stderr


def test_one_schedule_is_evaluated_beside_the_full_one(
    view: StudyView, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run("export", "--max-loss", "100%", "-o", "one.schedule.json")
    words = ["--seed", "0", "--repeats", "2", "--json"]
    found = json.loads(run("evaluate", "one.schedule.json", *CHECKPOINT, *MEASURED, *words).stdout)
    point = within_loss(view, 1.0)
    assert point.search is not None
    assert view.standard.noise is not None
    assert found["value"] == pytest.approx(point.search.distance.value, rel=2e-3)
    assert found["noise"] == pytest.approx(view.standard.noise.value, rel=2e-3)
    assert found["of_noise"] == pytest.approx(found["value"] / found["noise"])
    assert found["text_seconds"] > 0


def test_a_network_of_labels_takes_the_metric_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("optimize", "--checkpoint", "closed-form", *MEASURED, *SEARCHED, "--report", "none").stdout
    assert "no guidance" in told
    assert "held-out noises" in told


def test_defaults_are_those_of_the_network(view: StudyView) -> None:
    config = view.configuration
    assert config["quality"]["conditions"] == "prompts"  # type: ignore[index]
    assert config["quality"]["reference"] is None  # type: ignore[index]
    assert config["baseline"]["solver"] == "dpmsolver++"  # type: ignore[index]
    assert config["baseline"]["guidance"] == 1.5  # type: ignore[index]


@pytest.mark.slow
def test_the_bundled_checkpoint_takes_the_metric_beside_its_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "--metric",
        "efficientnet-lite0-to-baseline",
        "--num-images",
        "32",
        "--final-images",
        "48",
        "--num-steps",
        "8",
    ]
    told = run("optimize", *words, "--batch-size", "16", "--budget", "6-trials", "--device", "cpu", "--quiet").stdout
    assert "beside fashion-dit" in told
    report = json.loads(run("report", "--json").stdout)
    assert report["full_schedule"]["weights"] == "fashion-dit"
    assert report["full_schedule"]["final_distance"] == 0
    compared = {row["label"]: row["final_distance"] for row in report["baselines"] if row["final_distance"] is not None}
    assert all(value > 0 for label, value in compared.items() if label != report["full_schedule"]["label"])
    assert report["num_trials"] > 0
    assert "0 points" not in told
