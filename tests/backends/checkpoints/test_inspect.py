"""What `inspect` says of checkpoints: entries, summaries, what is taken, and why something can't be loaded."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from exeunt.backends.checkpoints.files import readable_bytes
from exeunt.backends.checkpoints.folders import KNOWN_DENOISERS
from exeunt.backends.checkpoints.inspect import identify, inspect
from exeunt.backends.errors import InputError
from exeunt.backends.networks.hf.models.base import _ARCHITECTURES
from exeunt.backends.networks.transformer.module import DiT
from safetensors.torch import save_file

SMALL = {"input_size": 8, "patch_size": 2, "channels": 4, "width": 48, "depth": 3, "num_heads": 3, "num_classes": 7}


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """As facebookresearch/DiT's train.py writes it."""
    module = DiT(**SMALL)
    optimizer = torch.optim.AdamW(module.parameters())
    state = module.state_dict()
    content = {"model": state, "ema": state, "opt": optimizer.state_dict(), "args": argparse.Namespace(model="DiT-S/8")}
    torch.save(content, tmp_path / "0050000.pt")
    return tmp_path / "0050000.pt"


def test_a_training_checkpoint(training: Path) -> None:
    found = inspect(training)
    parameters = sum(value.numel() for value in DiT(**SMALL).state_dict().values())
    assert [(entry.key, entry.num_parameters, entry.num_bytes) for entry in found.entries] == [
        ("model", parameters, 4 * parameters),
        ("ema", parameters, 4 * parameters),
    ]
    assert found.others == (
        ("opt", "an optimizer's state with 2 entries"),
        ("args", "the training program's arguments, 1 of them"),
    )
    assert found.arguments == {"model": "'DiT-S/8'"}
    assert found.chosen == "ema"
    assert found.taken_for is not None
    assert found.taken_for.network == "DiT"
    assert found.refusal is None
    assert found.num_bytes == training.stat().st_size


def test_tensors_are_summarised_over_blocks(training: Path) -> None:
    groups = {group.name: group for group in inspect(training).entries[0].groups}
    assert groups["blocks.*.attn.qkv.weight"].count == 3
    assert groups["blocks.*.attn.qkv.weight"].shapes == ((144, 48),)
    assert groups["pos_embed"].dtypes == ("float32",)
    assert sum(group.count for group in groups.values()) == len(DiT(**SMALL).state_dict())


def test_no_data_is_read(tmp_path: Path) -> None:
    """Names and shapes come from the file's head and pickle: a file with a hole in place of its data will do."""
    save_file({"a.weight": torch.zeros(1000, 1000)}, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:200] + b"\xff" * (len(whole) - 200))
    assert inspect(tmp_path / "w.safetensors").entries[0].num_bytes == 4_000_000


def test_what_cannot_be_chosen_is_still_listed(tmp_path: Path) -> None:
    state = DiT(**SMALL).state_dict()
    torch.save({"a": state, "b": state}, tmp_path / "w.pt")
    found = inspect(tmp_path / "w.pt")
    assert [entry.key for entry in found.entries] == ["a", "b"]
    assert found.chosen is None
    assert found.refusal is not None
    assert "--weights-key a" in found.refusal
    assert inspect(tmp_path / "w.pt", "b").chosen == "b"


def test_a_pipeline_folder(tmp_path: Path) -> None:
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": "0.40.0",
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for name in ("transformer", "scheduler"):
        (tmp_path / name).mkdir()
    save_file({"x.weight": torch.zeros(3, 4)}, tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    found = inspect(tmp_path)
    assert [(entry.key, entry.num_parameters) for entry in found.entries] == [("transformer", 12)]
    assert found.others == (("transformer", "DiTTransformer2DModel"), ("scheduler", "DDIMScheduler"))
    assert found.taken_for is not None
    assert (found.taken_for.network, found.taken_for.what) == ("diffusers", "a DiTPipeline of diffusers")
    assert identify(tmp_path) == found.taken_for
    assert found.chosen == "transformer"
    (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "transformer` has no weights, neither .safetensors nor .bin" in (inspect(tmp_path).refusal or "")


def test_a_folder_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5", "architectures": ["T5EncoderModel"]}')
    assert "T5EncoderModel of transformers" in (inspect(tmp_path).refusal or "")
    with pytest.raises(InputError, match="T5EncoderModel"):
        identify(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    assert "is recognised as an AutoencoderKL of diffusers, which can't be searched" in (
        inspect(tmp_path).refusal or ""
    )
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    assert "has no weights" in (inspect(tmp_path).refusal or "")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (2_700_000_000, "2.7 GB"), (675_129_632, "675 MB")]
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert readable_bytes(count) == text


def test_denoisers_of_diffusers_that_are_not_known_are_refused_by_name_without_weights(tmp_path: Path) -> None:
    """Nobody downloads gigabytes to read it."""
    (tmp_path / "config.json").write_text('{"_class_name": "HunyuanDiT2DModel"}')
    with pytest.raises(
        InputError, match=r"HunyuanDiT2DModel of diffusers.*networks of diffusers are DiTTransformer2DModel, .*FILE.py"
    ):
        identify(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(InputError, match="Give the weights of the diffusion network itself"):
        identify(tmp_path)


def test_known_denoisers_are_those_that_load() -> None:
    assert {*KNOWN_DENOISERS} == {*_ARCHITECTURES, "Transformer2DModel"}
