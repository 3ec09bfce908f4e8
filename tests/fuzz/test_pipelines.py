"""Hostile and broken folders of pipelines: every known denoiser's, with schedulers, autoencoders, text encoders."""

import json
from pathlib import Path
from typing import Any

import pytest
from exeunt.backends.checkpoints.inspect import identify, inspect
from exeunt.backends.network import Network
from exeunt.backends.networks.registry import load_network
from exeunt.searcher.measuring.defaults import make_frame, resolve_defaults
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig
from hostile import ODD, damaged, mutated, quick, refuses, survives
from hypothesis import given
from hypothesis import strategies as st
from tiny_pipelines import PIPELINES, tiny
from tiny_unets import PIPELINES as UNETS
from tiny_unets import tiny_unet

CONFIG = override(StudyConfig(), {"throughput.device": "cpu", "baseline.num_steps": 4})
KINDS = [*(kind for kind in PIPELINES if kind not in ("dit", "pixart-alpha")), *UNETS]
FEW = ("wan", "sd")  # in the selection of every day
SIZES = {"wan": {"height": 32, "width": 32, "num_frames": 5}}


class Folders:
    """A folder of each kind of pipeline, saved when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getitem__(self, kind: str) -> Path:
        path = self._root / kind
        if not path.exists():
            (tiny_unet if kind in UNETS else tiny)(kind).save_pretrained(path)
        return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("pipelines"))


def read(folder: Path) -> Network:
    """Loads a network, and makes its full schedule."""
    network = load_network(str(folder), **SIZES.get(folder.name, {}))
    make_frame([network], resolve_defaults(CONFIG, network).baseline)
    network.check_decodes()
    return network


def embed(folder: Path) -> None:
    network = load_network(str(folder), **SIZES.get(folder.name, {}))
    network.embed(["a red bicycle", "b"])


def try_files(folder: Path, path: Path, data: bytes, text: bool) -> None:
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        survives(lambda: embed(folder) if text else read(folder))
        if not text:
            survives(lambda: inspect(folder))
            survives(lambda: identify(folder))
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("kind", FEW)
def test_whole_folders_are_read(kind: str, folders: Folders) -> None:
    read(folders[kind])
    embed(folders[kind])


def test_a_tokenizer_with_more_words_than_its_encoder_is_refused(folders: Folders) -> None:
    path = folders["sd"] / "tokenizer" / "tokenizer.json"
    kept = path.read_text()
    assert '"a</w>": 26' in kept
    try:
        path.write_text(kept.replace('"a</w>": 26', '"a</w>": 5000'))
        assert "can't encode prompts" in refuses(lambda: embed(folders["sd"]))
    finally:
        path.write_text(kept)


def broken(data: st.DataObject, path: Path) -> bytes:
    """Another content of a file: if it is JSON, mostly JSON still."""
    valid = path.read_bytes()
    if path.suffix != ".json":
        return data.draw(damaged(valid))
    return data.draw(st.one_of(mutated(json.loads(valid)).map(lambda each: json.dumps(each).encode()), damaged(valid)))


DENOISED = ("model_index.json", "transformer/config.json", "unet/config.json", "scheduler/scheduler_config.json",
            "vae/config.json")  # fmt: skip


def kinds(all_kinds: list[str]) -> list[Any]:
    return [each if each in FEW else pytest.param(each, marks=pytest.mark.slow) for each in all_kinds]


@pytest.mark.parametrize("kind", kinds(KINDS))
@quick(10, long=150)
@given(data=st.data())
def test_mutated_pipelines_are_read_or_refused(kind: str, data: st.DataObject, folders: Folders) -> None:
    folder = folders[kind]
    path = folder / data.draw(st.sampled_from([name for name in DENOISED if (folder / name).is_file()]))
    try_files(folder, path, broken(data, path), text=False)


@pytest.mark.parametrize("kind", kinds(KINDS))
@quick(10, long=150)
@given(data=st.data())
def test_odd_values_of_pipelines_are_read_or_refused(kind: str, data: st.DataObject, folders: Folders) -> None:
    """One value of a configuration, or one that diffusers would look for."""
    folder = folders[kind]
    path = folder / data.draw(st.sampled_from([name for name in DENOISED[1:] if (folder / name).is_file()]))
    config = json.loads(path.read_text())
    key = data.draw(st.sampled_from(sorted(config)))
    value = config[key]
    near = st.sampled_from([0, 1, 2, 3, 8, 10**4, 10**7, 0.5, True, None, [1, 2], [value, value], "linear", str(value)])
    content = json.dumps(config | {key: data.draw(st.one_of(near, ODD))})
    try_files(folder, path, content.encode(), text=False)


PROMPTED = [kind for kind in KINDS if kind != "ddpm"]


def texts(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.parent.name.startswith(("text", "toke"))
    )


@pytest.mark.parametrize("kind", kinds(PROMPTED))
def test_encoders_that_say_nothing_of_their_sizes_are_refused(kind: str, folders: Folders) -> None:
    """transformers would make what the library's defaults are, up to gigabytes, at random."""
    for path in [each for each in texts(folders[kind]) if each.name == "config.json"]:
        kept = path.read_bytes()
        path.write_bytes(b"{}")
        try:
            assert "numbers, but the weights beside it hold" in refuses(lambda: embed(folders[kind]))
        finally:
            path.write_bytes(kept)


@pytest.mark.parametrize(("key", "rule"), [("num_labels", "at most 10,000"), ("num_hidden_layers", "at most")])
def test_encoders_of_a_million_parts_are_refused(key: str, rule: str, folders: Folders) -> None:
    path = folders["sd"] / "text_encoder" / "config.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {key: 10**6}))
    try:
        assert f"`{key}` of" in (said := refuses(lambda: embed(folders["sd"])))
        assert rule in said
    finally:
        path.write_text(kept)


@pytest.mark.parametrize("kind", kinds(PROMPTED))
@quick(6, long=150)
@given(data=st.data())
def test_odd_values_of_encoders_embed_or_are_refused(kind: str, data: st.DataObject, folders: Folders) -> None:
    path = data.draw(st.sampled_from([each for each in texts(folders[kind]) if each.name == "config.json"]))
    config = json.loads(path.read_text())
    key = data.draw(st.sampled_from(sorted(config)))
    near = st.sampled_from([0, 1, 2, 3, 10**4, 10**7, 10**9, 0.5, True, None, [1, 2], "gelu", str(config[key])])
    content = json.dumps(config | {key: data.draw(st.one_of(near, ODD))})
    try_files(folders[kind], path, content.encode(), text=True)


@pytest.mark.parametrize("kind", kinds(PROMPTED))
@quick(6, long=150)
@given(data=st.data())
def test_mutated_text_encoders_embed_or_are_refused(kind: str, data: st.DataObject, folders: Folders) -> None:
    folder = folders[kind]
    path = data.draw(st.sampled_from(texts(folder)))
    try_files(folder, path, broken(data, path), text=True)
