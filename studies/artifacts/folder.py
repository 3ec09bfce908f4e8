"""Files in a folder, on this machine or on a file system that several machines mount."""

import os
import secrets
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EEXIST, EFBIG, EISDIR, ELOOP, ENAMETOOLONG, ENOTDIR, EPERM, EROFS
from pathlib import Path
from typing import final

from ...backends.errors import InputError
from ..database.errors import NO_ROOM, NoRoom, Unreachable
from .base import MARKER, NAME, ArtifactStore, ListedFile, MissingArtifact

_FULL = (*NO_ROOM, EFBIG)
_REFUSED = (EACCES, EPERM, EROFS, EEXIST, ENOTDIR, EISDIR, ENAMETOOLONG, ELOOP)
DRAFT = ".part"


@final
class FolderStore(ArtifactStore):
    """Files are written beside their names and renamed; then the disk is waited for, for the file and for the folder.

    Optuna's own store of this kind writes in place, where a killed writer leaves half a file. To rename before waiting
    costs a journalling file system one commit instead of two. A machine that dies meanwhile may leave a name without
    all of its contents: no row names it yet, its digest tells, and the next writer replaces it. What is there already
    with the same contents is not replaced, since rows may name it.

    Args:
        folder: where they are.
        makes: whether the folder is made with its first file. One that was named is not: where a shared file system
            is not mounted, files would go to the disk below it.
    """

    def __init__(self, folder: Path, makes: bool = False) -> None:
        self._folder = folder
        self._makes = makes
        self.url = folder.as_uri()

    def write(self, name: str, data: bytes) -> None:
        draft = self._folder / f".{name}.{secrets.token_hex(4)}{DRAFT}"
        with self._explained():
            self._require(name)
            path = self._folder / name
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                os.utime(path)
                _sync(path)
            else:
                self._replace(draft, name, data)
            _sync(self._folder)

    def _replace(self, draft: Path, name: str, data: bytes) -> None:
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                draft.replace(self._folder / name)
                os.fsync(file.fileno())
        except BaseException:
            # Once waiting for the disk has failed, waiting again may succeed without the contents being there.
            for path in (draft, self._folder / name):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise

    def read(self, name: str, max_bytes: int) -> bytes:
        with self._explained(), (self._folder / name).open("rb") as file:
            # No more room is asked for than the file needs, whatever it should have.
            return file.read(min(max_bytes, os.fstat(file.fileno()).st_size) + 1)

    def holds(self, name: str) -> bool:
        with self._explained():
            return (self._folder / name).is_file()

    def remove(self, name: str) -> None:
        with self._explained():
            (self._folder / name).unlink(missing_ok=True)

    def files(self) -> Iterator[ListedFile]:
        now = time.time()
        with self._explained():
            entries = list(os.scandir(self._folder)) if self._folder.is_dir() else []
        for entry in entries:
            if NAME.fullmatch(entry.name) or (entry.name.startswith(".") and entry.name.endswith(DRAFT)):
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield ListedFile(entry.name, found.st_size, now - found.st_mtime)

    def make(self) -> None:
        """Makes the folder, for a database that is about to keep its files there."""
        with self._explained():
            self._folder.mkdir(parents=True, exist_ok=True)

    def _require(self, name: str) -> None:
        if self._makes and not self._folder.is_dir():
            self._folder.mkdir(exist_ok=True)
            _sync(self._folder.parent)
        elif not self._makes and name != MARKER and not (self._folder / MARKER).exists():
            raise Unreachable(f"artifacts: {self._folder} has no marker any more. Mount its file system again.")

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingArtifact(
                f"artifacts: {error.filename} does not exist. Put the folder {self._folder} back, or restore the file "
                "from a copy."
            ) from None
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom(
                    f"artifacts: {self._folder} has no room left on its disk. Make room and run `exeunt resume`; "
                    "nothing committed is lost."
                ) from error
            if error.errno in _REFUSED:
                raise InputError(
                    f"artifacts: {self._folder} can't be used ({error.strerror}). Check its permissions and those of "
                    "the files in it."
                ) from error
            raise Unreachable(
                f"artifacts: {self._folder} is out of reach ({error.strerror}). Check its disk."
            ) from error


def _sync(path: Path) -> None:
    """Waits until the disk has a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
