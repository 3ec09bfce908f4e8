"""The import rules that keep the five folders in their order, and the package list that a wheel is built from."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["backends", "studies", "reports", "searcher", "api"]  # each may import itself and what stands before it
HEAVY = ["torch", "numpy", "optuna", "matplotlib", "sqlalchemy", "diffusers"]
# Programs among the assets are handed to users as they are, and are no modules of ours.
SOURCES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py")) if "assets" not in path.parts]


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all that a source file imports, at its top or inside functions, relative ones resolved."""
    package = ["exeunt", *path.relative_to(ROOT).parent.parts]
    package = package if package[1] != "api" else ["exeunt", *package[2:]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from .. import backends` names a module by what it imports.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> str | None:
    """The folder that an imported name comes from; None for other projects' and for `exeunt` itself (its version)."""
    parts = name.split(".")
    if parts[0] != "exeunt":
        return None
    if len(parts) > 1 and parts[1] in LAYERS:
        return parts[1]
    return None if parts[-1] == "__version__" else "api"


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=identity)
def test_layers_point_down_only(path: Path) -> None:
    own = LAYERS.index(path.relative_to(ROOT).parts[0])
    upward = [name for name in imports(path) if (layer := layer_of(name)) and LAYERS.index(layer) > own]
    assert not upward, f"{identity(path)} imports from a layer above its own: {upward}"


# `api` is `exeunt` itself: a type checker finds the other folders from there under their installed names only.
@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name != "api"], ids=identity)
def test_folders_import_one_another_relatively(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    absolute = [module for module in modules if module.startswith("exeunt.")]
    assert not absolute, f"{identity(path)} imports {absolute} absolutely; write it relative"


@pytest.mark.parametrize("name", ["schedule", "plan"])
def test_what_other_runtimes_vendor_needs_the_standard_library_alone(name: str) -> None:
    outside = [
        module
        for module in imports(ROOT / "backends" / f"{name}.py")
        if module.split(".")[0] not in sys.stdlib_module_names
        and not (name == "plan" and module.startswith("exeunt.backends.schedule."))
    ]
    assert not outside


@pytest.mark.parametrize("module", ["exeunt", "exeunt.backends.schedule", "exeunt.backends.plan"])
def test_importing_costs_no_torch(module: str) -> None:
    program = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("module", ["cli_status", "cli_report"])
def test_looking_at_a_study_costs_no_torch(module: str) -> None:
    """A second and a half, and half a second for matplotlib, for what most of `status` and `report` never touches."""
    program = f"import sys, exeunt.searcher.{module}; print(*{{'torch', 'matplotlib', 'scipy'}} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_package_list_is_the_folders_on_disk() -> None:
    """A folder that is missing from the list works in an editable install and is absent from the wheel."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in SOURCES}
    names = {".".join(["exeunt", *(parts if parts[0] != "api" else parts[1:])]) for parts in (f.parts for f in folders)}
    assert set(setuptools["packages"]) == names
    assert all((folder / "__init__.py").is_file() for folder in (ROOT / f for f in folders))
    assert {
        layer: setuptools["package-dir"]["exeunt" if layer == "api" else f"exeunt.{layer}"] for layer in LAYERS
    } == {layer: layer for layer in LAYERS}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_folder_says_that_it_is_typed(layer: str) -> None:
    assert (ROOT / layer / "py.typed").is_file()
