"""Hostile and broken descriptions of networks: metadata of our own files, autoencoders, extractors' weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines
import torch
from exeunt.backends.networks.decoders import Autoencoder, KLDecoder
from exeunt.backends.networks.registry import load_network
from exeunt.backends.networks.transformer.module import DiT
from exeunt.backends.quality.extractors import load_extractor
from exeunt.searcher.measuring.defaults import make_frame, resolve_defaults
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from hostile import ODD, damaged, mutated, quick, refuses, survives
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors
from safetensors.torch import save, save_file
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

CONFIG = override(StudyConfig(), {"throughput.device": "cpu", "baseline.num_steps": 4})
DESCRIBED: dict[str, Any] = {
    "architecture": "DiT",
    "num_heads": 2,
    "num_classes": 3,
    "prediction": "v",
    "noise": {"kind": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000},
    "latent": {"autoencoder": "autoencoder.safetensors", "shift": [0.1] * 4, "scale": [0.7] * 4},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DiT with an autoencoder beside it, as the bundled ones are stored."""
    folder = tmp_path_factory.mktemp("dit")
    torch.manual_seed(0)
    sizes = {"input_size": 8, "patch_size": 2, "channels": 4, "width": 16, "depth": 2, "num_heads": 2}
    (folder / "tensors.safetensors").write_bytes(save(DiT(**sizes, num_classes=3).state_dict()))
    tensors = Autoencoder(width=16).state_dict()
    save_file(tensors, folder / "autoencoder.safetensors", metadata={"exeunt": '{"width": 16, "latent_channels": 4}'})
    return folder


def write(folder: Path, described: Any) -> Path:
    """The DiT with another description."""
    from safetensors.torch import load_file

    path = folder / "dit.safetensors"
    save_file(load_file(folder / "tensors.safetensors"), path, metadata={"exeunt": json.dumps(described)})
    return path


def read(path: Path) -> None:
    """Loads a network, and makes its full schedule."""
    network = load_network(str(path))
    make_frame([network], resolve_defaults(CONFIG, network).baseline)
    network.check_decodes()


def test_the_whole_one_is_read(folder: Path) -> None:
    read(write(folder, DESCRIBED))


@quick(60)
@given(described=mutated(DESCRIBED))
def test_mutated_metadata_is_read_or_refused(described: Any, folder: Path) -> None:
    path = write(folder, described)
    survives(lambda: read(path))


@pytest.mark.parametrize("name", ["../autoencoder.safetensors", "/etc/passwd", "", ".", 3, None, ["a"], "a\0"])
def test_an_autoencoder_lies_beside_its_network(name: Any, folder: Path) -> None:
    path = write(folder, DESCRIBED | {"latent": DESCRIBED["latent"] | {"autoencoder": name}})
    refuses(lambda: load_network(str(path)))


def test_more_train_indices_than_memory_are_refused(folder: Path) -> None:
    path = write(folder, DESCRIBED | {"noise": DESCRIBED["noise"] | {"num_train_timesteps": 10**12}})
    assert "num_train_timesteps" in refuses(lambda: read(path))


@quick(30)
@given(described=mutated({"width": 16, "latent_channels": 4}))
def test_a_mutated_autoencoder_is_read_or_refused(described: Any, folder: Path) -> None:
    path, other = write(folder, DESCRIBED), folder / "autoencoder.safetensors"
    kept = other.read_bytes()
    try:
        save_file(Autoencoder(width=16).state_dict(), other, metadata={"exeunt": json.dumps(described)})
        survives(lambda: read(path))
    finally:
        other.write_bytes(kept)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a diffusers autoencoder."""
    folder = tmp_path_factory.mktemp("vae")
    tiny_pipelines.tiny("dit").vae.save_pretrained(folder)
    return folder


def read_vae(folder: Path) -> None:
    """As `--vae FOLDER` does."""
    KLDecoder.from_folder(folder, (4, 8, 8), torch.device("cpu"), torch.float32).check()


def test_the_whole_autoencoder_is_read(vae: Path) -> None:
    read_vae(vae)


def with_file(path: Path, data: bytes, folder: Path) -> None:
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        survives(lambda: read_vae(folder))
    finally:
        path.write_bytes(kept)


@quick(25, long=1000)
@given(data=st.data())
def test_mutated_configurations_of_autoencoders_are_read_or_refused(data: st.DataObject, vae: Path) -> None:
    path = vae / "config.json"
    valid = path.read_bytes()
    changed = mutated(json.loads(valid)).map(lambda each: json.dumps(each).encode())
    with_file(path, data.draw(st.one_of(changed, damaged(valid))), vae)


@quick(15, long=1000)
@given(data=st.data())
def test_damaged_weights_of_autoencoders_are_read_or_refused(data: st.DataObject, vae: Path) -> None:
    path = next(vae.glob("*.safetensors"))
    with_file(path, data.draw(damaged(path.read_bytes())), vae)


@pytest.mark.parametrize("name", ["decoder.conv_in.bias", "post_quant_conv.weight"])
def test_a_decoder_without_all_weights_is_refused(name: str, vae: Path) -> None:
    path = next(vae.glob("*.safetensors"))
    kept = path.read_bytes()
    tensors = load_tensors(kept)
    del tensors[name]
    path.write_bytes(save(tensors, metadata={"format": "pt"}))
    try:
        assert name in refuses(lambda: read_vae(vae))
    finally:
        path.write_bytes(kept)


@quick(10, long=200)
@given(key=st.sampled_from(["block_out_channels", "latent_channels", "layers_per_block", "norm_num_groups"]), value=ODD)
def test_odd_sizes_of_autoencoders_are_read_or_refused(key: str, value: Any, vae: Path) -> None:
    path = vae / "config.json"
    with_file(path, json.dumps(json.loads(path.read_text()) | {key: value}).encode(), vae)


def test_weights_of_an_extractor_are_its_own(tmp_path: Path) -> None:
    valid = save({"conv.weight": torch.zeros(3, 3)})
    path = tmp_path / "inception.safetensors"

    @quick(5, long=100)
    @given(data=damaged(valid))
    def read_damaged(data: bytes) -> None:
        path.write_bytes(data)
        refuses(lambda: load_extractor(f"inception={path}"))

    read_damaged()


@pytest.mark.parametrize("data", [b"", b"<html>sign in</html>", b"PK\x03\x04", b"\x80\x02cos\nsystem\n."], ids=repr)
def test_a_damaged_cache_of_weights_is_refused(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert str(path) in refuses(lambda: load_extractor("inception"))
