"""Files that are written whole or not at all."""

import os
import secrets
from pathlib import Path

from ...backends.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Writes beside the place and renames, so that no reader and no crash ever sees half a file.

    Raises:
        InputError: the folder or the file can't be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"output: {path} must be writable, but got {error.strerror or error}. Give another path, or make room."
        ) from None
