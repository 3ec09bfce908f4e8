"""The wheel, built from a copy of the sources and run away from them: what an editable install would hide."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"api": "exeunt", **{name: f"exeunt/{name}" for name in ("backends", "studies", "reports", "searcher")}}
REFUSED = ("__pycache__", ".pyc")


def shipped(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and not any(part in str(p) for part in REFUSED)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built offline from a copy, since setuptools would reuse stale files of an earlier `build/`."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*(f"*{part}" for part in REFUSED)))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed alone into an empty folder; its dependencies are those of this interpreter."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True, text=True)
    return target


def run(site: Path, *command: str) -> str:
    """What a command prints when it runs in an empty folder and finds `exeunt` in the installed wheel first."""
    elsewhere = site.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    ran = subprocess.run(
        command, cwd=elsewhere, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_file_of_the_folders_is_in_the_wheel(wheel: Path) -> None:
    expected = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in shipped(ROOT / folder)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


def test_modules_come_from_the_wheel(site: Path) -> None:
    program = (
        "import exeunt, exeunt.backends.schedule as schedule; print(exeunt.__file__, schedule.__file__, sep='\\n')"
    )
    files = run(site, sys.executable, "-c", program).split()
    assert all(Path(file).is_relative_to(site) for file in files), files


def test_the_command_runs_from_elsewhere(site: Path) -> None:
    assert "optimize" in run(site, str(site / "bin" / "exeunt"), "--help")


def test_the_bundled_checkpoints_load_from_the_wheel(site: Path) -> None:
    program = (
        "from exeunt.backends.networks import registry;"
        "depths = [registry.load_network(name).num_blocks for name in ('fashion-dit', 'fashion-dit-exits')];"
        "print(*depths, registry.__file__)"
    )
    *depths, file = run(site, sys.executable, "-c", program).split()
    assert depths == ["12", "12"]
    assert Path(file).is_relative_to(site)
