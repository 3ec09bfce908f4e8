"""Paths that come from files and people, of which a file system may take none."""

from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is a file, as `Path.is_file`; False for names that no file can have, such as too long ones."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder, as `Path.is_dir`; False for names that none can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether there is something, as `Path.exists`; False for names that nothing can have."""
    try:
        return path.exists()
    except OSError:
        return False
