"""Hostile and broken references, images, and folders of diffusers."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipelines
from exeunt.backends.checkpoints.inspect import identify, inspect
from exeunt.backends.networks.registry import load_network
from exeunt.backends.quality.extractors import load_extractor
from exeunt.backends.quality.reference_images import Preparation, read_image
from exeunt.backends.quality.references import load_reference, reference_of_images, save_reference
from hostile import damaged, mutated, quick, refuses, survives, thorough
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

PIXELS = load_extractor("pixels")
IMAGES = np.random.default_rng(0).integers(0, 255, (16, 4, 4, 3), np.uint8)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


REFERENCES = {"images": npz(images=IMAGES), "moments": npz(mu=np.zeros(48), sigma=np.eye(48))}


def read_reference(path: Path) -> None:
    for preparation in (None, Preparation((4, 4), "center")):
        survives(lambda preparation=preparation: load_reference(path, PIXELS, preparation).digest)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", REFERENCES)
@quick(60)
@given(data=st.data())
def test_a_damaged_reference_is_read_or_refused(name: str, data: st.DataObject, tmp_path: Path) -> None:
    read_reference(put(tmp_path, "a.npz", data.draw(damaged(REFERENCES[name]))))


def member(data: bytes, names: tuple[str, ...] = ("images.npy",), compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in names:
            archive.writestr(name, data)
    return buffer.getvalue()


def array(header: str, data: bytes = b"\0" * 64) -> bytes:
    """An .npy with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


KINDS = st.sampled_from(
    ["|u1", "<f8", ">f4", "<f2", "|O", "<c16", "<M8[ns]", "|V9", "<U3", "[('a', '<i4')]", "|u0", "<f16"]
)
SIZES = st.sampled_from([0, 1, 3, 4, 8, 48, -1, 2**20, 2**40, 2**63, 2**70])


@quick(120)
@given(
    kinds=st.lists(KINDS, min_size=2, max_size=2),
    shape=st.lists(SIZES, max_size=4),
    order=st.sampled_from(["True", "False", "3", "None", "__import__('os')"]),
)
def test_odd_arrays_are_read_or_refused(kinds: list[str], shape: list[int], order: str, tmp_path: Path) -> None:
    quoted = [kind if kind.startswith("[") else repr(kind) for kind in kinds]
    first, second = (
        array(f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {tuple(shape)}}}") for kind in quoted
    )
    read_reference(put(tmp_path, "a.npz", member(first)))
    read_reference(put(tmp_path, "b.npz", member(second, ("mu.npy", "sigma.npy"))))


@quick(60)
@given(header=st.text("(){}[]'\":,0123456789 abdeflnorstuTF_.\n-", max_size=60))
def test_odd_headers_of_arrays_are_read_or_refused(header: str, tmp_path: Path) -> None:
    read_reference(put(tmp_path, "a.npz", member(array(header))))


@quick(60)
@given(values=st.lists(st.floats(width=64), min_size=6, max_size=6))
def test_odd_moments_are_read_or_refused(values: list[float], tmp_path: Path) -> None:
    mean, covariance = np.array(values[:2]), np.array([[values[2], values[3]], [values[4], values[5]]])
    for sigma in (covariance, np.triu(covariance) + np.triu(covariance, 1).T):
        with np.errstate(all="ignore"):
            read_reference(put(tmp_path, "a.npz", npz(mu=mean, sigma=sigma)))


@pytest.mark.parametrize(
    "arrays",
    [
        {"mu": np.zeros(0), "sigma": np.zeros((0, 0))},
        {"images": np.zeros((9, 0, 0, 3), np.uint8)},
        {"images": np.zeros((2**40, 0, 4), np.uint8)},
    ],
    ids=["moments", "images", "a long list of images"],
)
def test_empty_arrays_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    refuses(lambda: load_reference(put(tmp_path, "a.npz", npz(**arrays)), PIXELS))


def test_a_bomb_among_references_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        file.write(array("{'descr': '|u1', 'fortran_order': False, 'shape': (200, 1000, 1000)}", b""))
        for _ in range(200):
            file.write(b"\0" * 1_000_000)
    assert "may unpack to" in refuses(lambda: load_reference(path, PIXELS))


def test_statistics_that_are_damaged_or_mutated_are_read_or_refused(tmp_path: Path) -> None:
    import torch

    batches = [torch.tensor(IMAGES).permute(0, 3, 1, 2)]
    path = tmp_path / "reference.safetensors"
    save_reference(reference_of_images("real", batches, PIXELS), path)
    valid = path.read_bytes()
    length = int.from_bytes(valid[:8], "little")
    header = json.loads(valid[8 : 8 + length])

    @quick(60)
    @given(data=damaged(valid))
    def flip(data: bytes) -> None:
        read_reference(put(tmp_path, "a.safetensors", data))

    @quick(80)
    @given(document=mutated(json.loads(header["__metadata__"]["exeunt.reference"])), outer=mutated(header))
    def change(document: Any, outer: Any) -> None:
        inner = {**header, "__metadata__": {"exeunt.reference": json.dumps(document)}}
        for each in (inner, outer):
            text = json.dumps(each).encode()
            read_reference(put(tmp_path, "a.safetensors", struct.pack("<Q", len(text)) + text + valid[8 + length :]))

    flip()
    change()


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(buffer, kind)
    return buffer.getvalue()


PICTURES = {name: encoded(kind) for name, kind in {
    "png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM"}.items()}  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("suffix", PICTURES)
@quick(30, long=1000)
@given(data=st.data())
def test_damaged_images_are_read_or_refused(suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir(exist_ok=True)
    for index in range(8):
        put(folder, f"{index}.{suffix}", PICTURES[suffix])
    put(folder, f"8.{suffix}", data.draw(damaged(PICTURES[suffix])))
    read_reference(folder)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [6_500, 30_000, 2**31 - 1])
def test_an_image_that_unpacks_to_hundreds_of_megabytes_is_refused(side: int, tmp_path: Path) -> None:
    lines = zlib.compress(b"\0" * 1_000_000)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    put(tmp_path, "bomb.png", bomb)
    refuses(lambda: load_reference(tmp_path, PIXELS, Preparation((4, 4))))


def test_the_largest_image_takes_the_memory_that_is_said(tmp_path: Path) -> None:
    """With transparency, which takes four copies of a whole image at once where nobody minds."""
    for kind in ("png", "gif"):
        path = tmp_path / f"large.{kind}"
        Image.new("P", (6_300, 6_300)).save(path, transparency=0, compress_level=1)
        assert survives(lambda path=path: read_image(path, Preparation((4, 4), "center"))) is None


def test_a_folder_that_contains_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path)
    put(tmp_path, "a.png", PICTURES["png"])
    refuses(lambda: load_reference(tmp_path, PIXELS))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a whole small pipeline."""
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipelines.tiny("dit").save_pretrained(folder)
    return folder


def read_folder(folder: Path) -> None:
    for read in (lambda: inspect(folder), lambda: identify(folder), lambda: load_network(str(folder))):
        survives(read)


def changed(folder: Path, name: str, data: bytes, then: Callable[[], None]) -> None:
    """Runs something while a file of a folder has other contents."""
    path = folder / name
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        then()
    finally:
        path.write_bytes(kept)


PARTS = ["model_index.json", "transformer/config.json", "scheduler/scheduler_config.json", "vae/config.json"]


def try_part(folder: Path, part: str, data: st.DataObject) -> None:
    valid = (folder / part).read_bytes()
    broken = data.draw(
        st.one_of(mutated(json.loads(valid)).map(lambda each: json.dumps(each).encode()), damaged(valid))
    )
    changed(folder, part, broken, lambda: read_folder(folder))


@pytest.mark.parametrize("part", PARTS)
@quick(12, long=250)
@given(data=st.data())
def test_mutated_folders_of_diffusers_are_read_or_refused(part: str, data: st.DataObject, pipeline: Path) -> None:
    try_part(pipeline, part, data)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("content", [b"[" * 200_000, b"[]", b"null", b"\xff", b" " * 9_000_000])
def test_json_of_no_sense_is_refused(part: str, content: bytes, pipeline: Path) -> None:
    changed(pipeline, part, content, lambda: read_folder(pipeline))


ENORMOUS = [
    {"num_layers": 10**9},
    {"sample_size": 10**6},
    {"attention_head_dim": 10**9},
    {"attention_head_dim": 6_226_450},  # found at length: its table of positions takes 1.6 GB
    {"attention_head_dim": 24, "num_attention_heads": 24},
    {"attention_head_dim": 10**400},
    {"num_embeds_ada_norm": 10**12},
]


@pytest.mark.parametrize("changes", ENORMOUS, ids=str)
def test_a_network_of_absurd_size_is_refused(changes: dict[str, int], pipeline: Path) -> None:
    config = json.loads((pipeline / "transformer/config.json").read_text())
    data = json.dumps(config | changes).encode()
    changed(pipeline, "transformer/config.json", data, lambda: refuses(lambda: load_network(str(pipeline))) and None)


def test_code_in_a_folder_is_not_run(pipeline: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    code = f"open({str(proof)!r}, 'w')\nclass Evil:\n    pass\n".encode()
    names = ["evil.py", "pipeline.py", "transformer/evil.py", "transformer/modeling_evil.py"]
    for name in names:
        put(pipeline, name, code)
    index = json.loads((pipeline / "model_index.json").read_text())
    config = json.loads((pipeline / "transformer/config.json").read_text())
    try:
        for change in (
            {"_class_name": ["evil", "Evil"]},
            {"transformer": ["evil", "Evil"]},
            {"scheduler": ["evil", "Evil"]},
        ):
            changed(pipeline, "model_index.json", json.dumps(index | change).encode(), lambda: read_folder(pipeline))
        own = config | {"auto_map": {"AutoModel": "evil.Evil"}, "_class_name": "evil.Evil"}
        changed(pipeline, "transformer/config.json", json.dumps(own).encode(), lambda: read_folder(pipeline))
    finally:
        for name in names:
            (pipeline / name).unlink()
    assert not proof.exists()


@pytest.mark.slow
@thorough(1000)
@given(data=st.data())
def test_references_and_images_at_length(data: st.DataObject, tmp_path: Path) -> None:
    read_reference(put(tmp_path, "a.npz", data.draw(damaged(data.draw(st.sampled_from(list(REFERENCES.values())))))))
    suffix = data.draw(st.sampled_from(sorted(PICTURES)))
    test_one = tmp_path / "one"
    test_one.mkdir(exist_ok=True)
    for old in test_one.iterdir():
        old.unlink()
    put(test_one, f"a.{suffix}", data.draw(damaged(PICTURES[suffix])))
    read_reference(test_one)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@thorough(300)
@given(data=st.data())
def test_folders_of_diffusers_at_length(part: str, data: st.DataObject, pipeline: Path) -> None:
    try_part(pipeline, part, data)
