"""Paths that come from files and people, of which a file system may take none; and reading up to a stated size, so that
no file can fill the memory, not even one without an end.

`is_file`, `is_folder` and `path_exists` are False for names that nothing can have, such as too long ones, where
`pathlib` raises.
"""

import json
import math
from os.path import exists as path_exists
from os.path import isdir as is_folder
from os.path import isfile as is_file
from pathlib import Path
from typing import Any

from ..errors import InputError

__all__ = ["ASSETS", "is_file", "is_folder", "path_exists", "read_bytes", "read_object", "read_text"]

ASSETS = Path(__file__).parents[1] / "assets"


def read_bytes(path: Path, most: int, what: str) -> bytes:
    """A file's content.

    Args:
        path: of the file; it may be a device or a pipe.
        most: bytes that it may have.
        what: begins the message, such as "conditions".

    Raises:
        InputError: it can't be read, or has more bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{what}: `{path}` can't be read ({reason}). Check the path.") from error
    if len(data) > most:
        raise InputError(f"{what}: `{path}` must have at most {most:,} bytes, but has more. Check the path.")
    return data


def read_text(path: Path, most: int, what: str) -> str:
    """A file's content as UTF-8, without a byte order mark, and with every end of line as a line feed.

    Raises InputError, as `read_bytes` does.
    """
    try:
        text = read_bytes(path, most, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what}: `{path}` can't be read as text: byte {error.start} is not UTF-8. Save it as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_object(path: Path, most: int, what: str) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError where there is none."""
    try:
        value: Any = json.loads(read_text(path, most, what))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: `{path}` must be JSON ({error}). Download it again.") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise InputError(f"{what}: `{path}` must be a JSON object, but it is a {kind}. Download it again.")
    return value


def readable_bytes(count: int) -> str:
    """Such as "675 MB": powers of 1,000, three digits."""
    power = min(int(math.log10(count) // 3), 4) if count else 0
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
