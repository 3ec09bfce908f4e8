"""Optuna's own storage over our database: opened, its tables made, and brought to its version."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import Engine

from ....backends.errors import InputError
from .. import transactions
from ..errors import database_label


def make_backend(
    engine: Engine, *, make_tables: bool = False, may_write: Callable[[], bool] = lambda: True
) -> RDBStorage:
    """Optuna's storage in the same database, read-only where the engine is, whatever the version of its tables.

    Optuna makes its own engine from a URL, so ours gives it the URL, one connection, and the same transactions; on
    SQLite they are for writing where they `may_write`. The URL goes through `str.format` there, for which braces are
    doubled.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    url, read_only = engine.url, transactions.is_read_only(engine)
    arguments: dict[str, Any] = {
        **transactions.pool_arguments(url),
        "connect_args": transactions.sqlite_arguments(),
        "execution_options": {transactions.READ_ONLY: read_only},
        "max_overflow": 1 if make_tables else 0,  # making tables takes Optuna two connections at once
    }
    if url.get_backend_name() != "sqlite":
        arguments["connect_args"] = transactions.postgresql_arguments(url, read_only, "exeunt-optuna")
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    backend = RDBStorage(text, arguments, skip_compatibility_check=True, skip_table_creation=not make_tables)
    if url.get_backend_name() == "sqlite":
        transactions.open_transactions(backend.engine, may_write)
    return backend


class OptunaVersions(NamedTuple):
    """The version of Optuna's tables in a database, and the one that the installed Optuna wants."""

    found: str
    wanted: str


def versions_of(backend: RDBStorage) -> OptunaVersions:
    """The versions of Optuna's tables, which must be there.

    Raises:
        InputError: they are newer than the installed Optuna knows.
    """
    found, wanted = backend.get_current_version(), backend.get_head_version()
    if found != wanted and found not in backend.get_all_versions():
        raise InputError(
            f"storage: Optuna {optuna.__version__} needs tables of version {wanted}, but "
            f"{database_label(backend.engine)} has {found}. Install a newer Optuna: pip install --upgrade optuna."
        )
    return OptunaVersions(found, wanted)


def create_optuna_tables(engine: Engine) -> None:
    """Makes Optuna's tables in a database that has none of them, or completes a creation that was cut off."""
    make_backend(engine, make_tables=True).engine.dispose()


def upgradable_optuna(engine: Engine) -> OptunaVersions:
    """See `versions_of`."""
    backend = make_backend(engine)
    try:
        return versions_of(backend)
    finally:
        backend.engine.dispose()


def upgrade_optuna_tables(engine: Engine) -> None:
    """Brings Optuna's tables, which `upgradable_optuna` has seen, to the version that the installed Optuna wants."""
    backend = make_backend(engine)
    try:
        if backend.get_current_version() != backend.get_head_version():
            backend.upgrade()
    finally:
        backend.engine.dispose()
