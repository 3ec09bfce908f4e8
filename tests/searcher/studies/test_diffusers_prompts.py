"""Whole studies of diffusers pipelines with prompts, from folders and as they are served, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf.load_pipeline import load_pipeline
from exeunt.searcher.cli.main import cli
from exeunt.searcher.measuring.defaults import executor
from exeunt.searcher.measuring.setup import load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import CheckpointConfig, QualityConfig, StudyConfig
from tiny_pipelines import tiny

FEW = ["--num-steps", "6", "--num-images", "16", "--final-images", "24", "--batch-size", "16", "--device", "cpu"]
SEARCHED = ["--budget", "6-trials", "--set", "throughput.repeats=2"]
SERVED = """
import torch
from tiny_pipelines import tiny

def make():
    return tiny("pixart-sigma").to(torch.float32)

def half():
    return tiny("sd3").to(torch.bfloat16)

def fails():
    raise RuntimeError("no such LoRA")

def model():
    return tiny("sd3").transformer
"""


def run(*words: str) -> Result:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served.py").write_text(SERVED)
    return tmp_path


def reseeded() -> str:
    """Another pipeline's code, of other weights."""
    return SERVED.replace('tiny("pixart-sigma")', 'tiny("pixart-sigma", seed=1)')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "solver", "guidance"),
    [
        ("sd3", "flow-euler (order 1, flow (shift 3) spacing)", "guidance 7"),
        ("pixart-sigma", "dpmsolver++ (order 2, log-snr spacing)", "guidance 4.5"),
        ("flux", "flow-euler (order 1, flow spacing)", "guidance 3.5 as an input"),
    ],
)
def test_a_folder_of_a_pipeline_is_searched_from_nothing(folder: Path, kind: str, solver: str, guidance: str) -> None:
    tiny(kind).save_pretrained(kind)
    sizes = ["--network-arg", "height=32", "--network-arg", "width=32"] if kind == "flux" else []
    told = run("optimize", "--checkpoint", kind, *sizes, *FEW, *SEARCHED, "--quiet").stdout
    assert f"{solver}, {guidance}, its pipeline's default" in told
    assert "Prompts:  64 (the bundled set), encoded once in" in told
    assert "efficientnet-lite0-to-baseline against the full schedule's images" in told
    status = json.loads(run("status", "--json").stdout)
    assert (status["state"], status["evaluations_failed"]) == ("finished", 0)
    report = json.loads(run("report", "--json").stdout)
    assert report["full_schedule"]["final_distance"] == 0
    assert report["standard"]["noise"] > 0
    assert report["text_seconds"] > 0
    run("export", "--knee", "-o", "fast.schedule.json")
    run("sample", "fast.schedule.json", "--checkpoint", kind, *sizes, *FEW[-2:], "--num-images", "3", "-o", "few.npz")
    assert np.load("few.npz")["images"].shape[0] == 3
    assert "is finished" in run("optimize", "--checkpoint", kind, *sizes, *FEW, *SEARCHED, "--quiet").stdout


@pytest.mark.slow
def test_a_pipeline_is_the_checkpoint_and_the_baseline_as_it_is_served(folder: Path) -> None:
    (folder / "prompts.txt").write_text('a red bicycle\n{"prompt": "two dogs"}\n')
    words = ["optimize", "--pipeline", "served.py:make", "--conditions", "prompts.txt", *FEW[:-2]]
    words += ["--metric", "pixels-to-baseline", "--budget", "2-trials", "--set", "throughput.repeats=2", "--quiet"]
    told = run(*words).stdout
    assert "Weights:  served.py:make (PixArtTransformer2DModel)" in told
    assert "Prompts:  2 (prompts.txt)" in told
    assert executor("served.py:make") in told
    run("report", "-o", "again")
    configuration = json.loads(run("report", "--json").stdout)["configuration"]
    assert configuration["name"] == "served"
    assert configuration["checkpoint"]["pipeline"] == "served.py:make"
    assert (configuration["checkpoint"]["dtype"], configuration["throughput"]["device"]) == ("float32", "cpu")
    assert "is finished" in run(*words).stdout
    for edit, said in ((SERVED + "# compiled\n", "throughput.executor"), (reseeded(), "contents of checkpoint.path")):
        (folder / "served.py").write_text(edit)
        edited = CliRunner().invoke(cli, [*words, "--budget", "9-trials"])
        assert edited.exit_code == 2
        assert said in edited.stderr


def test_type_and_device_are_the_pipelines_own(folder: Path) -> None:
    config = StudyConfig(
        checkpoint=CheckpointConfig(pipeline="served.py:half", baseline_weights=()),
        quality=QualityConfig(metric="pixels-to-baseline"),
    )
    study_setup = load_setup(config)
    assert study_setup.network.dtype == torch.bfloat16
    assert study_setup.config.checkpoint.dtype == "bfloat16"
    assert study_setup.config.throughput.device == "cpu"
    assert study_setup.config.throughput.executor == executor("served.py:half")
    assert study_setup.config.baseline.guidance == 7.0
    assert dict(study_setup.config.baseline.spacing_options) == {"shift": 3.0}
    assert study_setup.conditions.kind == "prompts"
    assert study_setup.pins["checkpoint.path"] == study_setup.network.signature.weights_sha256
    with pytest.raises(InputError, match=r"checkpoint\.dtype: the pipeline is measured as it is served, with bfloat16"):
        load_setup(override(config, {"checkpoint.dtype": "float32"}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("served.py:fails", "fails with RuntimeError: no such LoRA"),
        ("served.py:model", "must return a diffusers pipeline, but gave a SD3Transformer2DModel"),
        ("served.py:mak", "Did you mean `make`"),
        ("nowhere.py:make", "does not exist"),
    ],
)
def test_what_is_no_pipeline_is_told(folder: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_pipeline(name)
    with pytest.raises(InputError, match="takes no argument `heigth`"):
        load_pipeline("served.py:make", heigth=32)


def test_a_pipeline_and_a_checkpoint_are_not_both_taken(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["optimize", "--pipeline", "served.py:make", "--checkpoint", "closed-form"])
    assert result.exit_code == 2
    assert "--checkpoint or --pipeline" in result.stderr
