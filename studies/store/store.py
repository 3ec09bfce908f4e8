"""Everything that a study database holds beside Optuna's tables, behind one value; and a study in it, by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ...backends.errors import InputError
from ..database.errors import corrupt_rows
from ..database.urls import file_path, parse_url

if TYPE_CHECKING:  # every command names this module, and SQLAlchemy is imported where a database is opened
    from sqlalchemy import Engine

    from ..artifacts.files import Files
    from ..config.study import StudyConfig
    from .evaluations import EvaluationStore
    from .files import FileStore
    from .measurements import MeasurementStore
    from .studies import StudyStore


T = TypeVar("T")


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

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(url: str, read_only: bool = False, artifacts: str | None = None) -> Store:
    """Opens a study database as `open_engine` does, with its errors; `artifacts` is as for `Files`."""
    from ..artifacts.files import Files
    from ..database.engine import open_engine
    from .evaluations import EvaluationStore
    from .files import FileStore
    from .measurements import MeasurementStore
    from .studies import StudyStore

    engine = open_engine(url, read_only)
    files = Files(engine, artifacts)
    return Store(
        engine=engine,
        evaluations=EvaluationStore(engine, files),
        measurements=MeasurementStore(engine),
        studies=StudyStore(engine),
        files=files,
        kept=FileStore(engine, files),
    )


def database_exists(url: str) -> bool:
    """Whether a database can be opened: an SQLite file that exists, or any server's.

    Raises:
        InputError: no URL of a database that studies can live in.
    """
    parsed = parse_url(url)
    return parsed.get_backend_name() != "sqlite" or file_path(parsed.database or "").exists()


def stored_config(url: str, study: str) -> StudyConfig | None:
    """The configuration of a study that is there, read without changing anything; None if there is none.

    Raises:
        InputError: what the URL names is no study database.
    """
    return _of_stored(url, study, lambda store: store.studies.config(study))


def stored_pins(url: str, study: str) -> dict[str, str]:
    """The digests of what the settings of a study name; none where it isn't there. Raises what `stored_config` does."""
    return _of_stored(url, study, lambda store: store.studies.pins(study)) or {}


def _of_stored(url: str, study: str, ask: Callable[[Store], T]) -> T | None:
    from ..database.schema import NoStudyYet

    if not database_exists(url):
        return None
    try:
        with open_store(url, read_only=True) as store, corrupt_rows(store.url):
            return ask(store) if study in store.studies.names() else None
    except NoStudyYet:
        return None


def only_study(url: str, study: str | None) -> str:
    """The study's name, or that of the only one in the database.

    Raises:
        InputError: there is none of that name, or there are several and none was named.
    """
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        if study is not None:
            return store.studies.config(study).name
        names, where = store.studies.names(), store.url
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"storage: {where} holds no study yet. Start one with `exeunt optimize --storage {where}`.")
    raise InputError(f"study: the database holds several. Add --study with one of: {', '.join(names)}.")
