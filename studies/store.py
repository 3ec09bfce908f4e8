"""Everything that a study database holds beside Optuna's tables, behind one value."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from sqlalchemy import Engine

from .catalogue import StudyStore
from .evaluations import EvaluationStore
from .measurements import MeasurementStore
from .schema import engine_url
from .storage import open_engine


@dataclass(frozen=True)
class Store:
    """An open database: evaluations, measurements and studies over one engine. Closes at the end of a `with` block."""

    engine: Engine
    evaluations: EvaluationStore
    measurements: MeasurementStore
    studies: StudyStore

    @property
    def url(self) -> str:
        """What a user types to open it again, without a password."""
        return engine_url(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str, read_only: bool = False) -> Store:
    """Opens a study database as `storage.open_engine` does, with its errors."""
    return store_on(open_engine(url, read_only))


def store_on(engine: Engine) -> Store:
    """The store over an engine that `storage.open_engine` opened."""
    return Store(engine, EvaluationStore(engine), MeasurementStore(engine), StudyStore(engine))
