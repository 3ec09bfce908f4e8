"""Whole studies with a user's own metric: the documentation's recipe for CLIP scores, and features."""

import json
import re
from pathlib import Path

import numpy as np
import prompted
import pytest
import torch
from click.testing import CliRunner, Result
from exeunt.backends.networks.registry import load_network
from exeunt.backends.sampling import conditions as prompts
from exeunt.backends.sampling.loop import sample
from exeunt.reports.view.loading import load_view
from exeunt.reports.view.view import StudyView
from exeunt.searcher.cli.main import cli
from exeunt.studies.store.store import open_store
from tiny_clip import save_tiny_clip
from transformers import CLIPModel, CLIPProcessor

PAGE = Path(__file__).parents[3] / "docs" / "measuring.md"
NETWORK = f"{prompted.__file__}:PromptedNetwork"
ARGUMENTS = {"components": 4, "dim": 256, "num_blocks": 6}
CHECKPOINT = [
    *("--checkpoint", "closed-form", "--network", NETWORK, "--device", "cpu", "--batch-size", "16"),
    *(word for name, value in ARGUMENTS.items() for word in ("--network-arg", f"{name}={value}")),
]
MEASURED = ["--num-steps", "6", "--num-images", "16", "--metric", "clip_score.py:clip_score"]
SEARCHED = ["--final-images", "24", "--budget", "4-trials", "--set", "throughput.repeats=2", "--quiet"]


def recipe(name: str) -> str:
    """The block of the page that is to be saved under a name."""
    found = re.search(rf"Save as `{name}`:\n\n```py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def run(*words: str) -> Result:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, beside a CLIP of random weights under the name that it has there."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "clip_score.py").write_text(recipe("clip_score.py"))
    save_tiny_clip(folder / "clip-vit-large-patch14")
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run("optimize", *CHECKPOINT, *MEASURED, *SEARCHED, "--study", "clip").stdout


@pytest.fixture(scope="module")
def view(told: str, folder: Path) -> StudyView:
    with open_store(f"sqlite:///{folder / 'exeunt.db'}", read_only=True) as store:
        return load_view(store, "clip")


def clip_scores(folder: Path, images: torch.Tensor, texts: list[str]) -> np.ndarray:
    """100 × the cosine between image and text, from CLIP's two halves one image at a time."""
    model = CLIPModel.from_pretrained(folder / "clip-vit-large-patch14").eval()
    processor = CLIPProcessor.from_pretrained(folder / "clip-vit-large-patch14")
    found: list[float] = []
    for image, text in zip(images, texts, strict=True):
        given = processor(text=[text], images=[image], return_tensors="pt", padding=True, truncation=True)
        with torch.inference_mode():
            logit = model(**given).logits_per_image.item() / model.logit_scale.exp().item()
        found.append(max(100 * logit, 0.0))
    return np.array(found)


def test_the_value_is_the_mean_clip_score_of_the_images_and_their_prompts(view: StudyView, folder: Path) -> None:
    network, given = load_network("closed-form", network=NETWORK, **ARGUMENTS), prompts.load_prompts("prompts")
    network.embed(given.prompts)
    assert view.full is not None
    assert view.full.final is not None
    batches = sample([network], view.full.schedule, seed=1, images=range(24), conditions=given, batch_size=8)
    wanted = clip_scores(folder, torch.cat([batch.images for batch in batches]), list(given.prompts[:24]))
    shown = view.standard.shown(view.full.final.distance)
    assert shown.value == pytest.approx(wanted.mean(), rel=1e-4)
    error = wanted.std(ddof=1) / np.sqrt(24)
    assert (shown.upper - shown.lower) / 2 == pytest.approx(1.714 * error, rel=0.1)  # Student's, 23 degrees of freedom


def test_losses_are_against_the_full_schedule_and_paired(view: StudyView) -> None:
    assert (view.standard.kind, view.standard.higher_is_better) == ("score", True)
    assert view.standard.noise is not None
    assert view.full is not None
    assert view.full.final is not None
    assert (view.full.final.excess.value, view.full.final.excess.lower, view.full.final.excess.upper) == (0, 0, 0)
    for point in view.measured("final"):
        assert point.final is not None
        lost = point.final.distance.value - view.full.final.distance.value
        assert point.final.excess.value == pytest.approx(lost, abs=1e-9)
        assert view.relative_excess(point, "final") == pytest.approx(lost / view.standard.noise.value)
        width, alone = (each.upper - each.lower for each in (point.final.excess, point.final.distance))
        assert point is view.full or 0 < width < 2 * alone


def test_tables_and_files_have_the_users_sign(told: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert "score" in told
    assert "clip_score.py:clip_score against the full schedule's images" in told
    report = json.loads(run("report", "--json").stdout)
    assert report["standard"]["higher_is_better"] is True
    for row in report["front"]:
        assert row["final_score"] == -row["final_distance"] > 0
        assert row["final_score_lower"] <= row["final_score"] <= row["final_score_upper"]
    run("export", "--min-speedup", "1", "-o", "fast.schedule.json")
    measured = json.loads((folder / "fast.schedule.json").read_text())["measured"][0]
    assert measured["value"] > 0
    page = (folder / "exeunt-report" / "index.html").read_text()
    assert "score lost against the full schedule" in page


def test_a_mended_file_is_another_metric(told: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    file = folder / "clip_score.py"
    before = file.read_text()
    file.write_text(before + "# mended\n")
    again = CliRunner().invoke(
        cli, ["optimize", *CHECKPOINT, *MEASURED, *SEARCHED, "--study", "clip", "--budget", "9-trials"]
    )
    file.write_text(before)
    assert again.exit_code == 2
    assert "quality.metric" in again.stderr


SHARPNESS = """
import torch

def sharpness(images):
    grey = images.float().mean(dim=1)
    return (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean(dim=(1, 2))

def edges(images):
    grey = images.float().mean(dim=1)
    return (grey[:, 1:, 1:] - grey[:, :-1, :-1]).flatten(1)
"""


@pytest.fixture
def sharp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sharp.py").write_text(SHARPNESS)
    return tmp_path


def test_a_schedule_is_evaluated_by_a_score_and_by_features(sharp: Path, reference: Path) -> None:
    run("schedule", "full", *CHECKPOINT[:2], "--num-steps", "4", "-o", "whole.schedule.json")
    words = ["whole.schedule.json", "--checkpoint", "closed-form", "--num-steps", "6", "--num-images", "32"]
    words += ["--device", "cpu", "--repeats", "2", "--json"]
    lower = ("--set", "quality.higher_is_better=false")
    score = json.loads(run("evaluate", *words, "--metric", "sharp.py:sharpness", *lower).stdout)
    assert score["value"] > 0
    assert score["noise"] > 0
    assert score["excess"] == pytest.approx(score["of_noise"] * score["noise"])
    frechet = json.loads(run("evaluate", *words, "--metric", "sharp.py:edges", "--reference", str(reference)).stdout)
    assert frechet["floor"] is not None
    paired = json.loads(run("evaluate", *words, "--metric", "sharp.py:edges-to-baseline").stdout)
    assert 0 < paired["of_noise"] < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--metric", "sharp.py:sharpness"],
            "the direction of scores must be known, but `sharp.py:sharpness` does not state it",
        ),
        (["--metric", "sharp.py:edges"], "needs real images to compare with"),
        (["--metric", "sharp.py:edges", "--reference", "nowhere"], "Check the path"),
        (["--metric", "sharp.py:sharpness-to-baseline"], "returns scores, not features"),
        (["--metric", "pixels-to-baseline", "--reference", "photos"], "takes no real images"),
        (["--metric", "fd-pixels-to-baseline"], "Did you mean `pixels-to-baseline`"),
        (["--metric", "fd-pixels", "--set", "quality.higher_is_better=true", "--reference", "x"], "is for a function"),
        ([], "compare with the full schedule's images: --metric efficientnet-lite0-to-baseline"),
    ],
)
def test_what_contradicts_itself_is_told_with_the_way_out(sharp: Path, words: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["optimize", "--checkpoint", "closed-form", "--device", "cpu", *words])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (sharp / "exeunt.db").exists()
