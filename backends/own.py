"""Classes of the user's own, by the path of their file or the name of their module."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InputError

SUFFIX = ".py"


def own_class(name: str, base: type) -> Any:
    """The class behind "FILE.py:Class" or "module:Class".

    A file is imported as it lies, with the files beside it in reach, as `python FILE.py` would have them.

    Raises:
        InputError: the file or module is not there or fails, has no such class, or the class is no whole `base`.
    """
    source, _, attribute = name.rpartition(":")
    module = _from_file(Path(source)) if source.endswith(SUFFIX) else _from_module(source, name)
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


def _from_module(source: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ImportError as error:
        raise InputError(
            f"network: `{name}` can't be imported ({error}). Check the module's name, or give FILE.py:Class."
        ) from error


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise InputError(f"network: `{file}` is not there. Give the path of a Python file, as FILE.py:Class.")
    file = file.resolve()
    title = f"exeunt_own_{file.stem}"
    spec = importlib.util.spec_from_file_location(title, file)
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[title] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[title]
        raise InputError(
            f"network: `{file}` fails at line {_line(error, file)}: {type(error).__name__}: {error}. Mend the file."
        ) from error
    return module


def _line(error: Exception, file: Path) -> int | str:
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
    near = get_close_matches(attribute, classes, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"It has: {', '.join(classes) or 'none'}."
    return f"network: `{source}` has no {base.__name__} called `{attribute}`. {hint} See docs/own-network.md."
