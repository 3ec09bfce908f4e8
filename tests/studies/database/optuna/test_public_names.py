"""Of Optuna the product uses public names alone: others change between two releases, without a word."""

import ast
import builtins
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import optuna
import pytest

ROOT = Path(__file__).parents[4]
FOLDERS = ("studies", "searcher", "reports", "backends", "api")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if "assets" not in path.parts]


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


@cache
def optunas_names() -> frozenset[str]:
    """The private names of functions, classes, attributes and modules in Optuna's own sources, its tests aside."""
    found = set[str]()
    for path in Path(optuna.__file__).parent.rglob("*.py"):
        found.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return frozenset(filter(is_private, found))


def uses(source: str) -> Iterator[str]:
    """Private names that a module imports from Optuna, and those of Optuna's that it reads, sets or names as text.

    What a class of ours calls `self._name` is its own; `overrides` looks for those of a class above it.
    """
    tree = ast.parse(source)
    pieces = [piece for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("optuna") and is_private(each.name))
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("optuna"):
            yield from (name for each in node.names if is_private(name := f"{node.module}.{each.name}"))
        elif isinstance(node, ast.Attribute) and node.attr in optunas_names():
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and node not in pieces and node.value in optunas_names():
            yield repr(node.value)


def overrides(path: Path) -> Iterator[str]:
    """Private names of Optuna's classes that classes of ours, which stand on them, have again or use."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("optuna")
        for alias in node.names
    }
    for node in ast.walk(tree):
        above = [imported[base.id] for base in getattr(node, "bases", ()) if getattr(base, "id", "") in imported]
        for module, _, name in (each.rpartition(".") for each in above if isinstance(node, ast.ClassDef)):
            taken = set(filter(is_private, dir(getattr(import_module(module), name)))) - set(dir(builtins.object))
            own = {each.name for each in ast.walk(node) if isinstance(each, ast.FunctionDef)}
            own |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            own |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            yield from (f"{node.name}.{each}" for each in own & taken - {"_abc_impl"})


def test_no_private_name_of_optuna_is_used() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): [*uses(path.read_text(encoding="utf-8")), *overrides(path)] for path in FILES
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import optuna.storages._rdb.models",
        "from optuna.storages._cached_storage import Something",
        "from optuna.storages import _CachedStorage",
        "def own(trial): return trial._trial_id",
        "study._storage.get_all_trials(0)",
        'getattr(study, "_study_id")',
    ],
)
def test_such_uses_would_be_found(source: str) -> None:
    assert list(uses(source))


def test_a_class_that_overrides_one_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from optuna.storages import RDBStorage\nclass Ours(RDBStorage):\n    def _get_trials(self): ...\n")
    assert list(overrides(path)) == ["Ours._get_trials"]
