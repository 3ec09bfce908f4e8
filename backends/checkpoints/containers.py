"""Opening files of weights without running code: .safetensors, whole or in shards, and what `torch.save` writes.

A file is known by its first bytes, not by its suffix. Of classes in a pickle only `argparse.Namespace` is let in, as
data without behaviour, because public training code stores its arguments so; any other is refused by name.
"""

import json
import mmap
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError, first_line
from .files import is_file, is_folder, read_object

GIVE_WEIGHTS = "Give a .safetensors or .pt file of a diffusion network's weights."
ENTRY_METADATA = "exeunt"
OWN_WEIGHTS = "model.safetensors"  # in a folder that `exeunt finetune` wrote
INDEX_SUFFIX = ".index.json"
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
MAX_INDEX_BYTES = 64_000_000
# Tensors may share what lies in a file, as tied weights do, but hardly more often than this.
MOST_SHARING = 4

# First bytes of what people give by mistake, with what it is and what to do.
_FOREIGN = (
    (b"\x89PNG", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"GIF8", "a GIF image", ""),
    (b"BM", "a BMP image", ""),
    (b"GGUF", "a GGUF file of quantised weights", "Give the weights that it was made from."),
    (b"\x93NUMPY", "a NumPy array", ""),
    (b"\x89HDF", "an HDF5 file", ""),
    (b"\x1f\x8b", "a gzip archive", "Unpack it, and give the file of weights inside."),
    (b"BZh", "a bzip2 archive", "Unpack it, and give the file of weights inside."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it, and give the file of weights inside."),
    (b"%PDF", "a PDF", ""),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Get the file with `git lfs pull`."),
    (b"<", "a web page, not the file itself", "Download the file's raw content."),
)


@dataclass(frozen=True)
class Container:
    """An opened file.

    Attributes:
        path: the file, or the index of a sharded one.
        kind: such as "safetensors" or "torch.save".
        content: what is inside: tensors by name, or nested mappings of them with other plain values.
        metadata: what stands under `exeunt` in a safetensors header; else empty.
        num_bytes: of all its files.
        mapped: whether tensors still lie in the file, which must not change while they are used.
    """

    path: Path
    kind: str
    content: Any
    metadata: dict[str, Any]
    num_bytes: int
    mapped: bool = False


def open_container(path: Path, *, shapes_only: bool = False) -> Container:
    """Open a file of weights, an index of shards, or a folder that holds one of these.

    Args:
        path: what to open.
        shapes_only: whether tensors are made on the meta device, so that no data is read.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds code.
    """
    path = _in_folder(path) if is_folder(path) else path
    if not is_file(path):
        raise InputError(f"checkpoint: `{path}` does not exist. Check the path.")
    opened = _open(path, shapes_only)
    _refuse_inflated(opened)
    return opened


def _open(path: Path, shapes_only: bool) -> Container:
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path, shapes_only)
    with path.open("rb") as file:
        start = file.read(32)
    size = path.stat().st_size
    if start[8:9] == b"{" or (path.suffix == ".safetensors" and not _is_known(start)):
        tensors, metadata = _read_safetensors(path, shapes_only)
        return Container(path, "safetensors", tensors, metadata, size)
    if start[:4] == b"PK\x03\x04":
        return Container(path, "torch.save", read_zip(path, shapes_only), {}, size, not shapes_only)
    if start[:1] == b"\x80":
        return Container(path, "torch.save, old format", read_torch(path, shapes_only, mapped=False), {}, size)
    raise InputError(f"checkpoint: `{path}` is {_foreign(start, size)}")


def _in_folder(folder: Path) -> Path:
    """The one index or file of weights in a folder."""
    for pattern in (f"*{INDEX_SUFFIX}", "*.safetensors", "*.pt", "*.pth"):
        found = sorted(folder.glob(pattern))
        if (own := folder / OWN_WEIGHTS) in found:  # an autoencoder may stand beside it
            return own
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise InputError(f"checkpoint: `{folder}` holds several files of weights: {names}. Give one of them.")
        if found:
            return found[0]
    raise InputError(f"checkpoint: the folder `{folder}` holds no weights. {GIVE_WEIGHTS}")


def _is_known(start: bytes) -> bool:
    """Whether the first bytes are those of another kind of file."""
    return start[:4] == b"PK\x03\x04" or any(start.lstrip().startswith(magic) for magic, _, _ in _FOREIGN)


def _foreign(start: bytes, size: int) -> str:
    """What a file is that holds no weights, and what to give in its place."""
    if not size:
        return "empty. Download it again."
    for magic, what, fix in _FOREIGN:
        if start.lstrip().startswith(magic):
            return f"{what}. {fix or GIVE_WEIGHTS}"
    return f"neither a safetensors file nor one that torch.save wrote. {GIVE_WEIGHTS}"


# ---- safetensors -----------------------------------------------------------------------------------------------------


def _read_safetensors(path: Path, shapes_only: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the metadata under `exeunt`."""
    _refuse_truncated(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name: _meta(file, name) if shapes_only else file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, MemoryError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"checkpoint: `{path}` is not a readable safetensors file ({error}). Download it again."
        ) from error
    what = f"checkpoint: the `{ENTRY_METADATA}` metadata of `{path}` must be"
    try:
        described = json.loads(metadata.get(ENTRY_METADATA, "{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} JSON ({error}). Download the file again.") from error
    if not isinstance(described, dict):
        raise InputError(f"{what} a JSON object, but got {type(described).__name__}. Download the file again.")
    return tensors, described


def _refuse_truncated(path: Path) -> None:
    """Says how many bytes are missing, which safetensors' own message does not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            return  # no header to go by: safetensors says what is wrong
        try:
            header = json.loads(file.read(length))
            ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
            end = max((each for each in ends if isinstance(each, int)), default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return
    if size < 8 + length + end:
        raise InputError(
            f"checkpoint: `{path}` is cut off: it has {size:,} bytes of {8 + length + end:,}. Download it again."
        )


def _meta(file: Any, name: str) -> Tensor:
    part = file.get_slice(name)
    return torch.empty(part.get_shape(), dtype=_TYPES[part.get_dtype()], device="meta")


SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPES = {name: dtype for dtype, name in SAFETENSORS_DTYPES.items()}


# ---- shards ----------------------------------------------------------------------------------------------------------


def shards(index: Path) -> dict[Path, list[str]]:
    """The files that an index names, each with its tensors.

    Raises:
        InputError: the index is no index, or a file is missing.
    """
    mapping: Any = read_object(index, MAX_INDEX_BYTES, "checkpoint").get("weight_map")
    if not isinstance(mapping, dict):
        raise InputError(f"checkpoint: `{index}` must be an index of shards with a `weight_map`. Download it again.")
    files: dict[Path, list[str]] = {}
    for name, file in mapping.items():
        if not isinstance(file, str) or PurePath(file).name != file or file.endswith(INDEX_SUFFIX):
            raise InputError(
                f"checkpoint: shards must lie beside their index, but `{index}` names `{file}`. Correct the index."
            )
        files.setdefault(index.parent / file, []).append(name)
    missing = [file.name for file in files if not is_file(file)]
    if missing:
        raise InputError(
            f"checkpoint: {len(missing)} of the {len(files)} shards of `{index}` are missing: {', '.join(missing)}. "
            f"Download them into `{index.parent}`."
        )
    return files


def _open_shards(index: Path, shapes_only: bool) -> Container:
    files = shards(index)
    content: dict[str, Any] = {}
    mapped = False
    for file, names in files.items():
        opened = open_container(file, shapes_only=shapes_only)
        inside, mapped = opened.content, mapped or opened.mapped
        absent = [name for name in names if not isinstance(inside, Mapping) or name not in inside]
        if absent:
            raise InputError(
                f"checkpoint: `{file}` lacks {len(absent)} tensors that its index names, such as `{absent[0]}`. "
                "Download the shard and its index again, from one place."
            )
        content |= {name: inside[name] for name in names}
    size = index.stat().st_size + sum(file.stat().st_size for file in files)
    return Container(index, f"{len(files)} shards", content, {}, size, mapped)


# ---- all of them -----------------------------------------------------------------------------------------------------


def _refuse_inflated(opened: Container) -> None:
    """Refuses tensors that say to be far larger than the file that they lie in, before anything copies them."""
    tensors = list(_tensors(opened.content))
    strange = [each for each in tensors if each.layout != torch.strided or each.is_quantized or each.is_nested]
    if strange:
        raise InputError(
            f"checkpoint: `{opened.path}` holds a tensor that is sparse, quantised or nested. Save it as a plain one."
        )
    total = sum(each.numel() * each.element_size() for each in tensors)
    if total > MOST_SHARING * opened.num_bytes:
        raise InputError(
            f"checkpoint: the tensors of `{opened.path}` would take {total:,} bytes, but the file has "
            f"{opened.num_bytes:,}. Save them with `tensor.clone()`, or download the file again."
        )


def _tensors(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested mappings, however often they refer to each other, and each once."""
    seen, waiting = set[int](), [content]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, Mapping):
            waiting.extend(cast(Mapping[Any, Any], each).values())


# ---- torch.save ------------------------------------------------------------------------------------------------------


class InertNamespace:
    """Replaces `argparse.Namespace` in a pickle: attributes, and nothing that can be called."""


def read_zip(path: Path, shapes_only: bool) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"checkpoint: `{path}` is cut off or damaged: its {path.stat().st_size:,} bytes end without the list of "
            "its contents. Download it again."
        ) from error
    names = [PurePath(member.filename).name for member in members]
    if "constants.pkl" in names:
        raise InputError(
            f"checkpoint: `{path}` is a TorchScript program, which could run code, and is not loaded. If you trust "
            f"it, save only its weights: `torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pt')`."
        )
    if "data.pkl" not in names:
        what = "an .npz of NumPy arrays" if any(name.endswith(".npy") for name in names) else "a zip archive"
        raise InputError(f"checkpoint: `{path}` is {what}, and torch.save did not write it. {GIVE_WEIGHTS}")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise InputError(
            f"checkpoint: `{path}` must be uncompressed, as torch.save writes files, but unpacks to more than its "
            "size. If you trust it, load it and save it again with `torch.save`."
        )
    return read_torch(path, shapes_only, mapped=True)


def read_torch(path: Path, shapes_only: bool, mapped: bool) -> Any:
    """What `torch.save` wrote, with the tensors of a zip mapped, so that what is not chosen costs no memory."""
    where = "meta" if shapes_only else "cpu"
    _refuse_bytearrays(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(InertNamespace, "argparse.Namespace")]):
            # torch warns of pickle protocols other than its own; they load or fail below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location=where, weights_only=True, mmap=mapped and not shapes_only)
    except pickle.UnpicklingError as error:
        raise InputError(_refused(path, str(error))) from error
    except Exception as error:  # a stream of bytes that no program wrote makes torch's reader raise anything
        raise InputError(
            f"checkpoint: `{path}` is cut off or is not a file that torch.save wrote ({first_line(error)}). "
            "Download it again."
        ) from error


def _refuse_bytearrays(path: Path) -> None:
    """Of what torch lets in, this alone takes as much memory as a number in the file says."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(name) >= 0 for name in (b"builtins\nbytearray\n", b"__builtin__\nbytearray\n")):
            raise InputError(_refused(path, "GLOBAL builtins.bytearray"))


def _refused(path: Path, message: str) -> str:
    """The message for a pickle that torch does not open, with the class that stands in the way, and how to convert.

    torch's own words say to load it all the same, and name no class where the pickle's protocol is not torch's.
    """
    found = re.search(r"GLOBAL ([\w.]+)", message)
    name = found[1] if found else next((each for each in _names(path) if not _INERT.fullmatch(each)), None)
    other = ", or is pickled in a protocol that torch.save doesn't use"
    rule = f": `{name[:100]}`, which could run code" if name else other
    return (
        f"checkpoint: `{path}` holds more than tensors{rule}, so it is not loaded. If you trust it, save its weights "
        "alone, in the environment that wrote it: `torch.save(content['ema'], 'weights.pt')`, or "
        "`content.state_dict()` where the content is a whole module."
    )


# What tensors and their state dicts are pickled as, whose loading is torch's affair.
_INERT = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.(\w+\.)?\w*Storage|torch\.(Size|device|serialization\._get_layout)|_codecs\.encode"
    r"|torch\.b?(float|int|uint|bool|complex)\w*|torch\.nn\.parameter\.Parameter|collections\.(OrderedDict|Counter)"
    r"|(builtins|__builtin__)\.(set|dict|list|object)|copy_?reg\._reconstructor|argparse\.Namespace"
)
_MOST_PICKLES, _MOST_OPERATIONS = 8, 1_000_000


def _names(path: Path) -> Iterator[str]:
    """The classes and functions that the pickles of a file name, read without loading anything."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                member = next(each for each in archive.namelist() if PurePath(each).name == "data.pkl")
                yield from _named(BytesIO(archive.read(member)))
            return
        with path.open("rb") as file:
            for _ in range(_MOST_PICKLES):
                yield from _named(file)
    except Exception:  # damaged, or the bytes of tensors, behind the pickles: there is nothing more to name
        return


def _named(file: IO[bytes]) -> Iterator[str]:
    texts, memo, last = ["", ""], dict[int, str](), ""
    for operation, argument, _ in islice(pickletools.genops(file), _MOST_OPERATIONS):
        kind = operation.name
        if kind in ("GLOBAL", "INST"):
            yield ".".join(str(argument).split(" ", 1))
        elif kind == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif kind == "MEMOIZE" or "PUT" in kind:
            memo[len(memo) if argument is None else argument] = last
            continue
        last = memo.get(int(argument or 0), "") if "GET" in kind else argument if isinstance(argument, str) else ""
        texts = [*texts[-1:], last] if last else texts
