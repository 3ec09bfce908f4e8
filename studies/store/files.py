"""Files of a study beside features: sample images and schedules of the points that matter, each with its row."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from sqlalchemy import Engine, select

from ..artifacts.files import CONTENT_KINDS, Files, contents
from ..database.tables import FILES
from ..database.transactions import clock, read, retrying, writing
from .evaluation_queries import columns_of

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
        key = _key(study, kind, member)
        values = {"about": dict(about), "num_bytes": len(data), "sha256": digest, "content": ""}
        with writing(self.engine) as connection:
            connection.execute(FILES.delete().filter_by(**key))
            connection.execute(FILES.insert().values(created=clock(), **key, **values))
            self.files.require(digest, suffix)

    def kept(self, study: str, kind: FileKind | None = None) -> list[StudyFile]:
        """The files of a study, or those of a kind, oldest first."""
        query = select(*columns_of(FILES, StudyFile)).where(FILES.c.study == study)
        query = query if kind is None else query.where(FILES.c.kind == kind)
        query = query.order_by(FILES.c.created, FILES.c.schedule_digest)
        return [StudyFile(*row) for row in read(self.engine, lambda connection: connection.execute(query).all())]

    def contents(self, file: StudyFile) -> bytes:
        """A file's contents. Raises `MissingArtifact` or `DamagedArtifact`."""
        query = select(FILES).filter_by(**_key(file.study, file.kind, file.key))
        row = read(self.engine, lambda connection: connection.execute(query).mappings().one())
        return contents(FILES, dict(row), self.files)

    @retrying
    def drop(self, study: str, kind: FileKind, but: Collection[tuple[str, str]]) -> int:
        """Forgets the files of a kind about all other members, and returns how many; they are collected as garbage."""
        members = select(FILES.c.schedule_digest, FILES.c.weights_sha256).filter_by(study=study, kind=kind)
        with writing(self.engine) as connection:
            dropped = [
                (digest, weights) for digest, weights in connection.execute(members) if (digest, weights) not in but
            ]
            for member in dropped:
                connection.execute(FILES.delete().filter_by(**_key(study, kind, member)))
            return len(dropped)


def _key(study: str, kind: str, member: tuple[str, str]) -> dict[str, str]:
    return {"study": study, "kind": kind, "schedule_digest": member[0], "weights_sha256": member[1]}
