"""A whole study of a diffusers DiT pipeline from an empty folder, and its result on the pipeline that is served."""

import json
from pathlib import Path

import exeunt
import pytest
import torch
from click.testing import CliRunner
from diffusers import DiTPipeline
from exeunt.searcher.cli.main import cli
from tiny_pipelines import tiny

# diffusers 0.42 hands torch tensors to NumPy 2 functions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_schedule_that_a_study_finds_goes_on_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny("dit").save_pretrained("dit")
    told = run(
        *("optimize", "--checkpoint", "dit", "--num-steps", "6", "--quiet", "--device", "cpu", "--batch-size", "16"),
        *("--metric", "pixels-to-baseline", "--budget", "4-trials", "--num-images", "16", "--final-images", "24"),
        *("--set", "throughput.repeats=2", "--report", "none"),
    )
    assert "6 steps of ddim (order 1, leading spacing), guidance 4, its pipeline's default" in told
    status = json.loads(run("status", "--json"))
    assert (status["state"], status["evaluations_failed"]) == ("finished", 0)
    pipe = DiTPipeline.from_pretrained("dit")
    pipe.set_progress_bar_config(disable=True)
    for each in json.loads(run("report", "--json"))["search_front"]:
        run("export", "--label", each["label"], "-o", "each.schedule.json")
        exeunt.apply(pipe, exeunt.load_schedule("each.schedule.json"))
    run("export", "--knee", "-o", "fast.schedule.json")
    schedule = exeunt.load_schedule("fast.schedule.json")
    exeunt.apply(pipe, schedule)
    arguments = {**exeunt.call_arguments(schedule), "output_type": "pt"}
    images = pipe([1, 2], generator=torch.Generator().manual_seed(0), **arguments).images
    assert images.shape == (2, 3, 16, 16)
    assert torch.isfinite(images).all()
