"""Finding a stored study by its database and its name. Nothing is changed, and no network is looked at."""

from pathlib import Path

from ...backends.errors import InputError
from ..config.study import StudyConfig
from ..database.foreign import corrupt_rows
from ..database.urls import parse_url
from .store import open_store


def database_exists(url: str) -> bool:
    """Whether a database can be opened: an SQLite file that exists, or any server's.

    Raises:
        InputError: no URL of a database that studies can live in.
    """
    parsed = parse_url(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").expanduser().exists()


def stored_config(url: str, study: str) -> StudyConfig | None:
    """The configuration of a study that is there, read without changing anything; None if there is none.

    Raises:
        InputError: what the URL names is no study database.
    """
    from ..database.schema import NoStudyYet

    if not database_exists(url):
        return None
    try:
        with open_store(url, read_only=True) as store, corrupt_rows(store.url):
            return store.studies.config(study) if study in store.studies.names() else None
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
        names = store.studies.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"storage: {url} holds no study yet. Start one with `exeunt optimize --storage {url}`.")
    raise InputError(f"study: the database holds several. Add --study with one of: {', '.join(names)}.")
