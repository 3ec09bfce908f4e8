"""Hostile and broken checkpoints: safetensors, shards, what torch.save writes, pickles that would run code."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exeunt.backends.checkpoints.inspect import identify, inspect
from exeunt.backends.checkpoints.weights import read_checkpoint, weights_sha256
from exeunt.backends.networks.registry import load_network
from hostile import ODD, damaged, mutated, quick, refuses, survives, thorough
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

TENSORS = {"x_embedder.proj.weight": torch.randn(4, 3, 2, 2), "blocks.0.weight": torch.randn(4, 4)}
SAFETENSORS = save(TENSORS, metadata={"exeunt": json.dumps({"architecture": "DiT", "config": {"depth": 2}})})
HEADER = json.loads(SAFETENSORS[8 : 8 + int.from_bytes(SAFETENSORS[:8], "little")])
DATA = SAFETENSORS[8 + int.from_bytes(SAFETENSORS[:8], "little") :]


def saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


CHECKPOINT = {"model": TENSORS, "ema": TENSORS, "opt": {"param_groups": [{"lr": 0.1}], "state": {}}, "step": 3}
ZIP, LEGACY = saved(CHECKPOINT), saved(CHECKPOINT, legacy=True)


def read_all(path: Path) -> None:
    """Every way in which a file of weights is opened."""
    survives(lambda: inspect(path))
    survives(lambda: identify(path))
    survives(lambda: load_network(str(path)))
    survives(lambda: weights_sha256(read_checkpoint(path).tensors))
    survives(lambda: read_checkpoint(path, "ema"))


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def with_header(header: Any, data: bytes = DATA, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def repacked(data_pkl: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """What torch.save wrote, with another pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ZIP)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, data_pkl if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


with zipfile.ZipFile(io.BytesIO(ZIP)) as _archive:
    PICKLE = _archive.read(next(name for name in _archive.namelist() if name.endswith("data.pkl")))


@pytest.mark.parametrize(
    ("name", "valid"),
    [("a.safetensors", SAFETENSORS), ("a.pt", ZIP), ("old.pth", LEGACY)],
    ids=["safetensors", "zip", "legacy"],
)
@quick(30)
@given(data=st.data())
def test_a_damaged_checkpoint_is_read_or_refused(name: str, valid: bytes, data: st.DataObject, tmp_path: Path) -> None:
    read_all(put(tmp_path, name, data.draw(damaged(valid))))


@quick(80)
@given(header=mutated(HEADER))
def test_a_mutated_header_is_read_or_refused(header: Any, tmp_path: Path) -> None:
    read_all(put(tmp_path, "a.safetensors", with_header(header)))


@pytest.mark.parametrize("length", [0, 1, 2**31, 99_999_999, 2**63, 2**64 - 1])
def test_headers_of_absurd_size_are_refused(length: int, tmp_path: Path) -> None:
    refuses(lambda: read_checkpoint(put(tmp_path, "a.safetensors", with_header(HEADER, length=length))))


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        {"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}},
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}},
        {"__metadata__": {"exeunt": "[" * 100_000}},
        {"__metadata__": {"exeunt": "[1]"}},
        {"__metadata__": {"exeunt": 3}},
    ],
    ids=["brackets", "objects", "huge", "negative", "unknown-type", "text-offsets", "deep", "list", "number"],
)
def test_hostile_headers_are_refused(header: Any, tmp_path: Path) -> None:
    path = put(tmp_path, "a.safetensors", with_header(header))
    refuses(lambda: weights_sha256(read_checkpoint(path).tensors))
    read_all(path)


def test_shards_with_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    index = put(tmp_path, "model.safetensors.index.json", json.dumps({"weight_map": {"x": "a" * 5000}}).encode())
    assert "shards" in refuses(lambda: inspect(index))
    assert "does not exist" in refuses(lambda: inspect(tmp_path / ("a" * 5000)))
    assert "must be a file" in refuses(lambda: load_network("a" * 5000))


@quick(60)
@given(index=mutated({"metadata": {"total_size": 9}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
def test_a_mutated_index_of_shards_is_read_or_refused(index: Any, tmp_path: Path) -> None:
    put(tmp_path, "a.safetensors", SAFETENSORS)
    read_all(put(tmp_path, "model.safetensors.index.json", json.dumps(index).encode()))


@quick(25)
@given(data=damaged(ZIP), name=st.sampled_from(["a.bin", "b.bin"]))
def test_shards_of_pickles_are_read_or_refused(data: bytes, name: str, tmp_path: Path) -> None:
    put(tmp_path, "a.bin", saved({"x": TENSORS["blocks.0.weight"]}))
    put(tmp_path, "b.bin", saved({"y": TENSORS["blocks.0.weight"]}))
    index = {"weight_map": {"x": "a.bin", "y": "b.bin"}}
    path = put(tmp_path, "pytorch_model.bin.index.json", json.dumps(index).encode())
    assert read_checkpoint(path).tensors.keys() == {"x", "y"}
    put(tmp_path, name, data)
    read_all(path)


@quick(60)
@given(key=st.one_of(st.text(max_size=12), st.sampled_from(["ema", "model", "opt", "ema.", ".", "model.blocks"])))
def test_any_key_of_weights_is_found_or_refused(key: str, tmp_path: Path) -> None:
    for path in (put(tmp_path, "a.pt", ZIP), put(tmp_path, "a.safetensors", SAFETENSORS)):
        survives(lambda path=path: read_checkpoint(path, key))
        survives(lambda path=path: inspect(path, key))


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "../a.safetensors", "/etc/passwd", "", "..", "a\0"])
def test_an_index_names_weights_beside_it_and_nothing_else(name: str, tmp_path: Path) -> None:
    """Itself among them, which would never end."""
    index = {"weight_map": {"x": name}}
    path = put(tmp_path, "model.safetensors.index.json", json.dumps(index).encode())
    refuses(lambda: read_checkpoint(path))


def touching(path: Path) -> list[bytes]:
    """Pickles that would make a file if they were run."""

    class Reduced:
        def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
            self._made = (call, arguments)

        def __reduce__(self) -> tuple[Any, ...]:
            return self._made

    name = str(path).encode()
    calls = [Reduced(open, str(path), "w"), Reduced(exec, f"open({str(path)!r}, 'w')"), Reduced(path.touch)]
    made = [pickle.dumps({"model": each}, protocol) for each in calls for protocol in (0, 2, 4)]
    by_hand = [
        b"cos\nsystem\n(S'touch " + name + b"'\ntR.",
        b"\x80\x02cposix\nsystem\nX" + struct.pack("<I", 6 + len(name)) + b"touch " + name + b"\x85R.",
        b"\x80\x02ctorch.serialization\nload\nX" + struct.pack("<I", len(name)) + name + b"\x85R.",
        b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\x00\x00\x00xcos\nsystem\nsb.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",
        b"(S'touch " + name + b"'\nios\nsystem\n.",
    ]
    return made + by_hand


def test_pickles_run_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    folder = tmp_path / "files"
    folder.mkdir()
    for program in touching(proof):
        for data in (program, b"\x80\x02" + program, repacked(program), LEGACY[:40] + program):
            read_all(put(folder, "a.pt", data))
            assert not proof.exists()
            assert [each.name for each in folder.iterdir()] == ["a.pt"]


OPCODES = [
    bytes([code])
    for code in b"(.0]})abdeghijlopqrstu\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x90\x93\x94\x95BCGIJKLMNQRSTUVX"
]
NAMES = [
    b"cargparse\nNamespace\n", b"ccollections\nOrderedDict\n", b"c_codecs\nencode\n", b"c__builtin__\nset\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n", b"cbuiltins\nbytearray\n",
    b"ccollections\nCounter\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\ndevice\n", b"ctorch\nfloat32\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch._utils\n_rebuild_qtensor\n",
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n", b"ctorch._tensor\n_rebuild_from_type_v2\n",
]  # fmt: skip
OPERANDS = st.one_of(st.binary(max_size=6), st.integers(0, 2**31).map(lambda n: b"J" + struct.pack("<I", n)))


@quick(80)
@given(parts=st.lists(st.one_of(st.sampled_from(OPCODES), st.sampled_from(NAMES), OPERANDS), max_size=20))
def test_random_programs_of_a_pickle_are_refused(parts: list[bytes], tmp_path: Path) -> None:
    program = b"\x80\x02" + b"".join(parts) + b"."
    read_all(put(tmp_path, "a.pt", repacked(program)))
    read_all(put(tmp_path, "b.pt", program))


@quick(60)
@given(program=damaged(PICKLE))
def test_a_damaged_pickle_in_a_whole_archive_is_read_or_refused(program: bytes, tmp_path: Path) -> None:
    read_all(put(tmp_path, "a.pt", repacked(program)))


def laughing(depth: int = 60) -> dict[str, Any]:
    """Tables of which each stands twice in the next: 2 to the 60th paths, in a few kilobytes."""
    content: dict[str, Any] = {"w": torch.zeros(2, 2)}
    for _ in range(depth):
        content = {"a": content, "b": content}
    return content


def looping() -> dict[str, Any]:
    content: dict[str, Any] = {"w": torch.zeros(2, 2), "list": []}
    content["self"], content["list"] = content, [content]
    return content


def laughing_list() -> dict[str, Any]:
    found: list[Any] = ["ha"]
    for _ in range(60):
        found = [found, found]
    return {"model": TENSORS, "note": found}


def deep() -> dict[str, Any]:
    content: dict[str, Any] = {"w": torch.zeros(2, 2)}
    for _ in range(150):
        content = {"a": content}
    return content


INFLATED = {"w": torch.zeros(1).expand(40_000, 1_000_000)}
STRANGE = {
    "laughing": laughing(),
    "looping": looping(),
    "laughing list": laughing_list(),
    "deep": deep(),
    "a tensor of 160 GB in 4 bytes": INFLATED,
    "a million times the same": {f"t{n}": torch.zeros(1).expand(1_000_000) for n in range(1000)},
    "sparse": {"w": torch.eye(3).to_sparse()},
    "meta": {"w": torch.empty(1000, 1000, 1000, device="meta")},
    "complex": {"w": torch.zeros(2, 2, dtype=torch.complex128)},
    "names": {f"{name}.weight": torch.zeros(2, 2) for name in ("\x1b[2J", "[/bold]", "\u202e", "a" * 10_000)},
    "numbers for names": {1: torch.zeros(2, 2), None: 3, (1, 2): {}},
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_strange_contents_are_read_or_refused(name: str, legacy: bool, tmp_path: Path) -> None:
    try:
        data = saved(STRANGE[name], legacy)
    except (RuntimeError, NotImplementedError, AttributeError):
        pytest.fail(f"torch does not save {name}")
    read_all(put(tmp_path, "a.pt", data))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_tensor_that_says_to_be_larger_than_its_file_is_refused(legacy: bool, tmp_path: Path) -> None:
    message = refuses(lambda: read_checkpoint(put(tmp_path, "a.pt", saved(INFLATED, legacy))))
    assert "would take 160,000,000,000 bytes" in message


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as file:
        for _ in range(50):
            file.write(b"\0" * 1_000_000)
    assert "unpacks to more" in refuses(lambda: read_checkpoint(put(tmp_path, "a.pt", buffer.getvalue())))


def test_a_pickle_that_asks_for_memory_is_refused(tmp_path: Path) -> None:
    ask = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x04\x85R."
    for data in (repacked(ask), ask):
        assert "bytearray" in refuses(lambda data=data: read_checkpoint(put(tmp_path, "a.pt", data)))
    length = b"\x80\x02X\xff\xff\xff\x7f" + b"a" * 10
    refuses(lambda: read_checkpoint(put(tmp_path, "a.pt", length)))


@quick(60)
@given(content=st.dictionaries(st.text(max_size=6), ODD, max_size=4))
def test_odd_values_beside_weights_are_read_or_refused(content: dict[str, Any], tmp_path: Path) -> None:
    read_all(put(tmp_path, "a.pt", saved({"model": TENSORS, **content})))


@pytest.mark.slow
@thorough(2000)
@given(data=st.data())
def test_checkpoints_at_length(data: st.DataObject, tmp_path: Path) -> None:
    valid, name = data.draw(st.sampled_from([(SAFETENSORS, "a.safetensors"), (ZIP, "b.pt"), (LEGACY, "c.pth")]))
    read_all(put(tmp_path, name, data.draw(damaged(valid))))
    read_all(put(tmp_path, "d.safetensors", with_header(data.draw(mutated(HEADER)))))
    read_all(put(tmp_path, "e.pt", repacked(data.draw(damaged(PICKLE)))))
