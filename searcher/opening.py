"""Opening a study for work: whatever could refuse it does so before a database is touched."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..backends.errors import InputError
from ..studies.config import StudyConfig
from ..studies.interruption import Interruption
from ..studies.storage import optuna_storage, parse_url
from ..studies.store import open_store
from ..studies.transactions import storage_errors
from ..studies.trials import TrialKeeper
from ..studies.workers import Worker
from .allowance import Allowance
from .laboratory import Laboratory
from .objective import Objective
from .progress import Watch
from .proposing import Proposer, open_study
from .session import Session
from .spaces import make_space


def is_there(url: str) -> bool:
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
    if not is_there(url):
        return None
    with open_store(url, read_only=True) as store:
        return store.studies.config(study) if study in store.studies.names() else None


def only_study(url: str, study: str | None) -> str:
    """The study's name, or that of the only one in the database.

    Raises:
        InputError: there is none of that name, or there are several and none was named.
    """
    with open_store(url, read_only=True) as store:
        if study is not None:
            return store.studies.config(study).name
        names = store.studies.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"storage: {url} holds no study yet. Start one with `exeunt optimize --storage {url}`.")
    raise InputError(f"study: the database holds several. Add --study with one of: {', '.join(names)}.")


@contextmanager
def open_session(
    laboratory: Laboratory, url: str, allowance: Allowance, watch: Watch, interruption: Interruption
) -> Generator[Session]:
    """A session on the laboratory's study, which is made in the database if it is not there.

    Raises:
        InputError: the study is there and has other settings, or the database can't be used.
        StorageError: the database is out of reach.
    """
    config = laboratory.config
    space = make_space(config.search.space, laboratory.frame)
    with open_store(url) as store, storage_errors(store.engine):
        store.studies.put_config(config, laboratory.pins)
        with Worker(store, config.name, config.run.lease_seconds, laboratory.environment) as worker:
            study = open_study(optuna_storage(store.engine), config.name)
            keeper = TrialKeeper(store, study, worker)
            keeper.fail_dead()
            proposer = Proposer(study, space, config.search.sampler, config.search.seed, keeper.own)
            proposer.warm_start()

            def spent(images: int) -> None:
                allowance.images += images
                watch.advance(allowance.share_spent, images)

            objective = Objective(laboratory, store, worker, check=interruption.check, spent=spent)
            session = Session(laboratory, store, objective, proposer, allowance, watch, interruption.check)
            session.restore()
            yield session
