"""Classes and functions of the user's own, by the path of their file or the name of their module."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from .checkpoints.files import is_file
from .errors import InputError, nearest

_SUFFIX = ".py"


def own_class(name: str, base: type) -> Any:
    """The class behind "FILE.py:Class" or "module:Class".

    A file is imported as it lies, with the files beside it in reach, as `python FILE.py` would have them.

    Raises:
        InputError: the file or module is not there or fails, has no such class, or the class is no whole `base`.
    """
    source, _, attribute = name.rpartition(":")
    module = _module(source, name, "network", "Class")
    found = getattr(module, attribute, None)
    if not isinstance(found, type) or not issubclass(found, base):
        raise InputError(_no_class(module, source, attribute, base))
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise InputError(
            f"network: `{name}` must have all of a {base.__name__}'s methods, but lacks {', '.join(missing)}. "
            "See docs/own-network.md."
        )
    return found


def code_sha256(kind: type) -> str | None:
    """The SHA-256 of the file that a class stands in; None for this package's own, whose version stands for them."""
    if kind.__module__.startswith(f"{__package__}."):
        return None
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None


def own_function(name: str, what: str) -> Callable[..., Any]:
    """The function behind "FILE.py:function" or "module:function".

    Args:
        name: the file or module, and the function in it.
        what: what it is for, "metric" or "pipeline": errors start with it.

    Raises:
        InputError: the file or module is not there or fails, or has no such function.
    """
    source, _, attribute = name.rpartition(":")
    module = _module(source, name, what, "function")
    found = getattr(module, attribute, None)
    if not callable(found):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = nearest(attribute, functions, f"It has: {', '.join(functions[:8]) or 'none'}.")
        raise InputError(f"{what}: `{source}` has no function called `{attribute}`. {hint}")
    return found


def own_source(name: str) -> bytes | None:
    """What the file behind "FILE.py:name" or an imported "module:name" holds; None where it has none."""
    source = name.rpartition(":")[0]
    path = source if source.endswith(_SUFFIX) else getattr(sys.modules.get(source), "__file__", None)
    return Path(path).read_bytes() if path and Path(path).suffix == _SUFFIX and is_file(Path(path)) else None


def source_sha256(name: str) -> str | None:
    """The SHA-256 of the file that "FILE.py:name" or "module:name" would import, which is not run; None without one."""
    source = name.rpartition(":")[0]
    origin = source if source.endswith(_SUFFIX) else getattr(_found(source), "origin", None)
    path = Path(origin) if origin else None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and is_file(path) else None


def _found(module: str) -> ModuleSpec | None:
    """Where a module would come from. `importlib.util.find_spec` would run the packages that it stands in."""
    spec, path, parts = None, None, module.split(".")
    for count in range(1, len(parts) + 1):
        each = ".".join(parts[:count])
        spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(each, path))), None)
        path = spec and spec.submodule_search_locations
        if spec is None:
            return None
    return spec


class _AsItLies(SourceFileLoader):
    """Compiles what the file holds, and neither reads nor writes what was compiled of it before."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _module(source: str, name: str, what: str, kind: str) -> ModuleType:
    if source.endswith(_SUFFIX):
        return _from_file(Path(source), what, kind)
    try:
        return importlib.import_module(source)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{what}: `{name}` can't be imported ({error}). Check the module's name, or give FILE.py:{kind}."
        ) from error


def _from_file(file: Path, what: str, kind: str) -> ModuleType:
    if not is_file(file):
        raise InputError(f"{what}: `{file}` does not exist. Give the path of a Python file, as FILE.py:{kind}.")
    file = file.resolve()
    title = f"exeunt_own_{file.stem}"
    spec = importlib.util.spec_from_file_location(title, file, loader=_AsItLies(title, str(file)))
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[title] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[title]
        raise InputError(
            f"{what}: `{file}` fails at line {_line(error, file)}: {type(error).__name__}: {error}. Fix the file."
        ) from error
    return module


def _line(error: BaseException, file: Path) -> int | str:
    """The line of the file at which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno or "?"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return lines[-1] if lines and lines[-1] else "?"


def _no_class(module: ModuleType, source: str, attribute: str, base: type) -> str:
    classes = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    hint = nearest(attribute, classes, f"It has: {', '.join(classes) or 'none'}.")
    return f"network: `{source}` has no {base.__name__} called `{attribute}`. {hint} See docs/own-network.md."
