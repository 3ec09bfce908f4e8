"""Optuna's tables in the study database, and its storage over them."""

from __future__ import annotations

import logging
from typing import Any

import optuna
from sqlalchemy import Engine

from ..backends.errors import InputError
from .transactions import is_read_only, open_transactions, place, pool_arguments, sqlite_arguments, storage_errors


def optuna_storage(engine: Engine) -> optuna.storages.RDBStorage:
    """Optuna's storage in the same database, read-only where the engine is.

    It has no heartbeat of its own: Optuna's works under `study.optimize` only, and our leases also cover ask and tell.

    Raises:
        InputError: its tables are those of another version of Optuna.
        StorageError: the database is out of reach.
    """
    with storage_errors(engine):
        storage = _storage(engine, skip_table_creation=True)
        found, wanted = storage.get_current_version(), storage.get_head_version()
        known = storage.get_all_versions()
    if found == wanted:
        return storage
    fix = "Upgrade its tables with `optuna storage upgrade`." if found in known else "Install a newer Optuna."
    raise InputError(
        f"storage: Optuna {optuna.__version__} needs tables of version {wanted}, but {place(engine)} has {found}. {fix}"
    )


def create_optuna_tables(engine: Engine) -> None:
    """Makes Optuna's tables in a database that has none of them, or completes a creation that was cut off."""
    _storage(engine, skip_table_creation=False).engine.dispose()


def _storage(engine: Engine, skip_table_creation: bool) -> optuna.storages.RDBStorage:
    """Optuna makes its own engine from a URL, so ours gives it the URL, one connection, and the same transactions.

    The URL goes through `str.format` there, for which braces are doubled.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    url = engine.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    storage = optuna.storages.RDBStorage(
        url,
        # Making tables takes Optuna two connections at once.
        engine_kwargs={**_engine_arguments(engine), "max_overflow": 0 if skip_table_creation else 1},
        skip_compatibility_check=True,
        skip_table_creation=skip_table_creation,
    )
    if engine.url.get_backend_name() == "sqlite":
        open_transactions(storage.engine, always_write=not is_read_only(engine))
    return storage


def _engine_arguments(engine: Engine) -> dict[str, Any]:
    if engine.url.get_backend_name() == "sqlite":
        return {"connect_args": sqlite_arguments(), **pool_arguments(engine.url)}
    options = {"options": "-c default_transaction_read_only=on"} if is_read_only(engine) else {}
    return {"connect_args": {"application_name": "exeunt-optuna", **options}, **pool_arguments(engine.url)}
