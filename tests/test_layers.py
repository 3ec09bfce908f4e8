"""The import rules that keep the five folders in their order, and the package list that a wheel is built from."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from exeunt.studies.database.engine import bare_engine
from exeunt.studies.maintenance.upgrade import upgrade_database

ROOT = Path(__file__).parent.parent
LAYERS = ["backends", "studies", "reports", "searcher", "api"]  # each may import itself and what stands before it
# What stands in each folder, from the bottom up: an entry imports itself and what stands on lines before its own.
HOUSE = {
    "backends": [
        ["schedule"],
        ["errors", "plan"],
        ["network", "solvers", "checkpoints"],
        ["sampling", "user_code"],
        ["timing", "quality"],
        ["networks", "formats"],
    ],
    "studies": [["interruption"], ["database"], ["artifacts"], ["config"], ["store"], ["workers"], ["maintenance"]],
    "reports": [["view"], ["plots", "files"], ["page"], ["report"]],
    "searcher": [
        ["spaces", "monitoring"],
        ["measuring", "proposals"],
        ["sensitivity", "finetuning"],
        ["search"],
        ["runner"],
        ["workers", "baselines"],
        ["cli"],
    ],
}
MOST_ENTRIES = 12
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


def modules() -> dict[str, Path]:
    """The product's modules by their installed names."""
    return {".".join(["exeunt", *path.relative_to(ROOT).with_suffix("").parts]): path for path in SOURCES}


def arrows() -> dict[str, set[str]]:
    """For each module the modules that it imports, at its top or inside functions."""
    known = modules()
    found = {
        name: {each if each in known else each.rpartition(".")[0] for each in imports(known[name])} for name in known
    }
    return {name: {each for each in targets if each in known and each != name} for name, targets in found.items()}


@pytest.mark.parametrize("folder", HOUSE)
def test_a_folder_stands_as_the_picture_shows(folder: str) -> None:
    inside = [path.relative_to(ROOT).parts for path in SOURCES]
    entries = {parts[1].removesuffix(".py") for parts in inside if parts[0] == folder}
    assert entries - {"__init__"} == {entry for line in HOUSE[folder] for entry in line}
    height = {entry: line for line, entries in enumerate(HOUSE[folder]) for entry in entries}
    upward = [
        f"{name} imports {target}"
        for name, targets in arrows().items()
        for target in targets
        if [name.split(".")[1], target.split(".")[1]] == [folder, folder]
        for own, other in [(name.split(".")[2], target.split(".")[2])]
        if own != other and own != "__init__" and height[other] >= height[own]
    ]
    assert not upward


@pytest.mark.parametrize("folder", HOUSE)
def test_the_picture_in_the_documentation_is_this_one(folder: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(rf"subgraph {folder}\b.*?\n  end$", page, re.DOTALL | re.MULTILINE)
    assert drawn is not None
    lines = [box.split(", ") for box in re.findall(r'\w\d\["(.*?)"\]', drawn[0])]
    shown = [
        [f"{entry}/" if (ROOT / folder / entry).is_dir() else f"{entry}.py" for entry in line] for line in HOUSE[folder]
    ]
    assert lines[::-1] == shown


def test_no_two_neighbours_import_each_other() -> None:
    """Neighbours are the modules and packages of one folder, however deep in them an import stands."""
    pairs = set[tuple[str, str]]()
    for name, targets in arrows().items():
        for target in targets:
            own, other = name.split("."), target.split(".")
            same = next(i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b)
            pairs.add((".".join(own[: same + 1]), ".".join(other[: same + 1])))
    assert not {pair for pair in pairs if pair[::-1] in pairs}


def test_no_imports_go_in_a_circle() -> None:
    left = arrows()
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert not left, f"these modules import one another in a circle, or need such: {sorted(left)}"


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in SOURCES}
    crowded = {
        identity(folder): len(entries)
        for folder in folders
        if len(
            entries := [
                each
                for each in folder.iterdir()
                if (each.suffix == ".py" or each in folders) and each.name != "__init__.py"
            ]
        )
        > MOST_ENTRIES
    }
    assert not crowded


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in SOURCES if path.parent.parent != ROOT}), ids=identity
)
def test_a_package_says_what_is_in_it(folder: Path) -> None:
    """Its `__init__.py` is one docstring that lists its modules."""
    tree = ast.parse((folder / "__init__.py").read_text())
    assert len(tree.body) == 1
    listed = {line.split()[0] for line in (ast.get_docstring(tree) or "").splitlines()[2:] if not line.startswith(" ")}
    packages = {f"{each.name}/" for each in folder.iterdir() if (each / "__init__.py").is_file()}
    assert listed == {path.stem for path in folder.glob("*.py")} - {"__init__"} | packages


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


# One process asks for every help, then looks at a study, and says after each command which of these it brought in.
COMMANDS = """
import contextlib, io, itertools, sys
import click
from exeunt.searcher.cli.main import cli

WATCHED = ["torch", "optuna", "sqlalchemy", "matplotlib", "scipy"]

def helps(command, words):
    yield [*words, "--help"]
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from helps(command.get_command(click.Context(command), name), [*words, name])

known = set(sys.modules)
looks = [["status", "--json"], ["status"], ["report", "--study", "finished", "--json"]]
for words in itertools.chain(helps(cli, []), looks):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = cli.main(words, standalone_mode=False)
    found = set(sys.modules) - known
    known |= found
    print(*words, "->", code or 0, len(said.getvalue()) > 100, *[name for name in WATCHED if name in found])
"""


def test_no_command_costs_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch takes two seconds, and each of the others a quarter and more."""
    shutil.copy(ROOT / "tests" / "studies" / "data" / "version-1.db", tmp_path / "exeunt.db")
    monkeypatch.chdir(tmp_path)
    upgrade_database(bare_engine("sqlite:///exeunt.db"))
    run = subprocess.run([sys.executable, "-c", COMMANDS], capture_output=True, text=True, check=True)
    found = {words: rest.split() for words, _, rest in (line.partition(" -> ") for line in run.stdout.splitlines())}
    assert {"--help", "optimize --help", "study gc --help", "schedule full --help"} < found.keys()
    # Intervals of final images need a quantile of Student's t: a quarter of a second for scipy.special.
    allowed = {"status --json": ["sqlalchemy", "scipy"]}
    assert found == {words: ["0", "True", *allowed.get(words, [])] for words in found}


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
