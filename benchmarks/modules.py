"""How much of the code one search uses, and how much the files of a folder import of each other.

    python benchmarks/modules.py                              # prints a table; minutes
    python benchmarks/modules.py --list                       # and each module that ran

It runs a search of four trials on the bundled checkpoint, in one process, in a temporary folder. A module counts if
one of its functions ran; that it was imported is not enough. Imports are counted file by file: modules of the product,
each once, wherever the import stands.

Targets: at most 125 modules; at most 5 imports a file in searcher/, as a mean.
"""

import argparse
import ast
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("backends", "studies", "reports", "searcher")
MOST_MODULES = 125
MOST_IMPORTS = 5.0  # of each other, by the files of searcher/
ARGUMENTS = ("optimize", "--budget", "4-trials")


def product_files(folder: str) -> list[Path]:
    """The modules of a folder; an `__init__.py` is a list of them, and none itself."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py")


def run_search(arguments: tuple[str, ...]) -> set[str]:
    """Runs the command in a temporary folder; the files of all functions that ran, on any thread."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            codes.add(frame.f_code)

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            from exeunt.searcher.cli.main import cli

            if code := cli.main(list(arguments), standalone_mode=False):
                raise SystemExit(code)  # cut off, it ran fewer
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            os.chdir(ROOT)
    # The bodies of modules and classes are no functions: their names are not optimized into slots.
    functions = {code for code in codes if code.co_flags & inspect.CO_OPTIMIZED}
    return {os.path.realpath(code.co_filename) for code in functions}


def internal_imports(path: Path) -> set[Path]:
    """The modules of the product that a file imports, wherever in it that stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {target for node in ast.walk(tree) for target in _targets(node, path) if target != path}


def _targets(node: ast.AST, path: Path) -> Iterator[Path]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _module(_absolute(alias.name))
    elif isinstance(node, ast.ImportFrom):
        start = path.parents[node.level - 1] if node.level else None
        name = node.module or ""
        base = _absolute(name) if start is None else start.joinpath(*name.split(".") if name else ())
        for alias in node.names:
            yield from _module(None if base is None else base / alias.name) or _module(base)


def _absolute(name: str) -> Path | None:
    """Where a module of the package `exeunt` lies; None: it is of another package."""
    first, *rest = name.split(".")
    if first != "exeunt":
        return None
    return ROOT.joinpath(*rest) if rest and rest[0] in FOLDERS else ROOT.joinpath("api", *rest)


def _module(base: Path | None) -> list[Path]:
    if base is None or ROOT not in base.parents:
        return []
    return [file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name each module that ran")
    options = parser.parse_args()
    ran = run_search(ARGUMENTS)
    total, there = 0, 0
    print(f"\nexeunt {' '.join(ARGUMENTS)}, one process\nfolder      ran    of   imports a file, mean")
    for folder in FOLDERS:
        files = product_files(folder)
        used = [path for path in files if str(path) in ran]
        imports = sum(len(internal_imports(path)) for path in files) / len(files)
        total, there = total + len(used), there + len(files)
        print(f"{folder:<10} {len(used):>4} {len(files):>5} {imports:>9.1f}")
        if options.list:
            print("".join(f"             {path.relative_to(ROOT)}\n" for path in used), end="")
    print(f"{'all':<10} {total:>4} {there:>5}   to reach: ≤ {MOST_MODULES}; searcher's imports ≤ {MOST_IMPORTS}")


if __name__ == "__main__":
    main()
