"""Joining a study that exists already, from any machine that reaches its database."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna

from ...studies.config.reading import override
from ...studies.database.foreign import corrupt_rows
from ...studies.database.optuna.storage import optuna_storage
from ...studies.interruption import Interruption
from ...studies.store.store import Store, open_store
from ...studies.workers import shared_state
from ...studies.workers.orders import order
from ..measuring.setup import StudySetup, resolve_device
from ..monitoring.progress import ProgressListener
from ..runner import StudyRequest, work
from ..search.opening import WorkerRole
from ..search.session import Stopped


def join(
    url: str,
    study: str,
    changes: Mapping[str, Any],
    *,
    takes_target: bool,
    watch: ProgressListener,
    interruption: Interruption,
    announce: Callable[[StudySetup], object],
) -> None:
    """Works on a study until its budget is spent and its front is measured, beside all its other workers.

    Args:
        url: its database.
        study: its name.
        changes: settings that differ here, by their dotted keys: where files are, the device, the report's folder.
        takes_target: whether this device becomes the study's target if no worker lives on the target.
        watch, interruption, announce: as for `runner.optimize`.

    Raises:
        InputError: the study does not exist, or what is here is not what it measures with.
        DeviceError: this device does not exist, fails, or makes other images than the study has.
        Interrupted: a signal came, or all workers of the study are to end; everything committed is kept.
        StorageError: the database is out of reach.
    """
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        stored, is_over = store.studies.config(study), _is_over(store, study)
    config = resolve_device(override(stored, {"run.report": None, "run.artifacts": None, **changes}))
    if is_over and config.run.report is None:
        watch.say(f"Study `{study}` is finished: its budget is spent. Give it another with `exeunt resume --budget`.")
        return
    role = WorkerRole(joins=True, takes_target=takes_target)
    work(StudyRequest(config, url, role=role, watch=watch, interruption=interruption, announce=announce))


def _is_over(store: Store, study: str) -> bool:
    """Whether there is nothing to do. Raises Stopped where all workers are to end."""
    wanted = order(store, study)
    if wanted is not None and wanted.wanted == "stop":
        raise Stopped(f"Study `{study}` was stopped; `exeunt study unpause {study}` lets workers work again.")
    try:
        return shared_state.is_spent(optuna.load_study(study_name=study, storage=optuna_storage(store.engine)))
    except KeyError:
        return False  # Its first worker has not begun yet.
