"""Everything that a study database holds beside Optuna's tables, behind one value."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command names this module, and SQLAlchemy is imported where a database is opened
    from sqlalchemy import Engine

    from ..artifacts.files import Files
    from .evaluations import EvaluationStore
    from .files import FileStore
    from .measurements import MeasurementStore
    from .studies import StudyStore


@dataclass(frozen=True)
class Store:
    """An open database: what it holds over one engine, and its files. Closes at the end of a `with` block."""

    engine: Engine
    evaluations: EvaluationStore
    measurements: MeasurementStore
    studies: StudyStore
    files: Files
    kept: FileStore

    @property
    def url(self) -> str:
        """What a user types to open it again, without a password."""
        from ..database.schema import engine_url

        return engine_url(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str, read_only: bool = False, artifacts: str | None = None) -> Store:
    """Opens a study database as `storage.open_engine` does, with its errors; `artifacts` is as for `Files`."""
    from ..database.engine import open_engine

    return store_on(open_engine(url, read_only), artifacts)


def store_on(engine: Engine, artifacts: str | None = None) -> Store:
    """The store over an engine that `storage.open_engine` opened."""
    from ..artifacts.files import Files
    from .evaluations import EvaluationStore
    from .files import FileStore
    from .measurements import MeasurementStore
    from .studies import StudyStore

    files = Files(engine, artifacts)
    return Store(
        engine=engine,
        evaluations=EvaluationStore(engine, files),
        measurements=MeasurementStore(engine),
        studies=StudyStore(engine),
        files=files,
        kept=FileStore(engine, files),
    )
