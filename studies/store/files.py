"""Files of a study beside features: sample images and schedules of the points that matter, each with its row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from sqlalchemy import Engine, select

from ..artifacts.contents import CONTENT_KINDS, contents
from ..artifacts.files import Files
from ..database.errors import Unreachable
from ..database.retries import retrying
from ..database.tables import FILES
from ..database.transactions import clock, reading, writing

FileKind = Literal["samples", "schedule"]


@dataclass(frozen=True)
class StudyFile:
    """One file of a study.

    Attributes:
        schedule_digest, weights_sha256: of the member that it is about.
        about: what is known of it besides, such as the seed of samples.
        num_bytes, sha256: of its contents.
    """

    study: str
    kind: str
    schedule_digest: str
    weights_sha256: str
    about: Mapping[str, Any]
    num_bytes: int
    sha256: str

    @property
    def key(self) -> tuple[str, str]:
        """The member that it is about."""
        return self.schedule_digest, self.weights_sha256

    @property
    def suffix(self) -> str:
        """What ends its name."""
        return CONTENT_KINDS.get(self.kind, "unknown")


@final
class FileStore:
    """Files of studies in the database of an engine, with their contents in its store of files."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self.engine = engine
        self.files = files

    @retrying
    def keep(self, study: str, kind: FileKind, member: tuple[str, str], about: Mapping[str, Any], data: bytes) -> None:
        """Keeps a file about a member of a study, in place of the one of its kind that may be there."""
        suffix = CONTENT_KINDS[kind]
        digest = self.files.put(data, suffix)
        key = {"study": study, "kind": kind, "schedule_digest": member[0], "weights_sha256": member[1]}
        values = {"about": dict(about), "num_bytes": len(data), "sha256": digest, "content": ""}
        with writing(self.engine) as connection:
            connection.execute(FILES.delete().filter_by(**key))
            connection.execute(FILES.insert().values(created=clock(), **key, **values))
            if not self.files.holds(digest, suffix):
                raise Unreachable(f"artifacts: {digest}.{suffix} was removed while it was committed. Trying again.")

    @retrying
    def kept(self, study: str, kind: FileKind | None = None) -> list[StudyFile]:
        """The files of a study, or those of a kind, oldest first."""
        columns = [FILES.c[name] for name in StudyFile.__dataclass_fields__]
        query = select(*columns).where(FILES.c.study == study).order_by(FILES.c.created, FILES.c.schedule_digest)
        with reading(self.engine) as connection:
            rows = connection.execute(query if kind is None else query.where(FILES.c.kind == kind)).all()
        return [StudyFile(*row) for row in rows]

    @retrying
    def contents(self, file: StudyFile) -> bytes:
        """A file's contents. Raises `MissingArtifact` or `DamagedArtifact`."""
        key = {"study": file.study, "kind": file.kind}
        key |= {"schedule_digest": file.schedule_digest, "weights_sha256": file.weights_sha256}
        with reading(self.engine) as connection:
            row = dict(connection.execute(select(FILES).filter_by(**key)).mappings().one())
        return contents(FILES, row, self.files)

    @retrying
    def drop(self, study: str, kind: FileKind, but: Collection[tuple[str, str]]) -> int:
        """Forgets the files of a kind about all other members, and returns how many; they are collected as garbage."""
        with writing(self.engine) as connection:
            dropped = 0
            for file in connection.execute(select(FILES).where(FILES.c.study == study, FILES.c.kind == kind)).all():
                if (file.schedule_digest, file.weights_sha256) not in but:
                    same = {"schedule_digest": file.schedule_digest, "weights_sha256": file.weights_sha256}
                    connection.execute(FILES.delete().filter_by(study=study, kind=kind, **same))
                    dropped += 1
            return dropped
