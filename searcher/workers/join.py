"""Joining a study that is there, from wherever its database can be reached."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna

from ...studies.config.budget import parse_budget
from ...studies.config.reading import override
from ...studies.config.study import StudyConfig
from ...studies.database.foreign import corrupt_rows
from ...studies.database.optuna.storage import optuna_storage
from ...studies.interruption import Interruption
from ...studies.store.store import Store, open_store
from ...studies.workers import shared_state
from ...studies.workers.orders import order
from ..measuring.setup import StudySetup, load_setup, resolve_device
from ..monitoring.progress import ProgressListener
from ..runner import report_study, spend_budget
from ..search.budget import BudgetMeter
from ..search.opening import WorkerRole, open_session
from ..search.session import Stopped


def join(
    url: str,
    study: str,
    changes: Mapping[str, Any],
    *,
    takes_target: bool,
    watch: ProgressListener,
    interruption: Interruption,
    announce: Callable[[StudySetup], object] | None = None,
) -> None:
    """Works on a study until its budget is spent and its front is measured, beside whoever else is at it.

    Args:
        url: its database.
        study: its name.
        changes: settings that differ here, by their dotted keys: where files are, the device, the report's folder.
        takes_target: whether this device becomes the study's target if no worker lives on the target.
        watch: who is told what goes on.
        interruption: stops the work at the next step once a signal came.
        announce: called with what will be measured with, before anything is spent.

    Raises:
        InputError: the study is not there, or what is here is not what it measures with.
        DeviceError: this device is not there, fails, or makes other images than the study has.
        Interrupted: a signal came, or all workers of the study are to end; everything committed is kept.
        StorageError: the database is out of reach.
    """
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        config, is_over = _config(store, study, changes), _is_over(store, study)
    if is_over and config.run.report is None:
        watch.say(
            f"study `{study}` is finished: its budget is spent. Give it another one with `exeunt resume --budget`."
        )
        return
    study_setup = load_setup(config)
    if announce is not None:
        announce(study_setup)
    meter = BudgetMeter(parse_budget(config.run.budget))
    arrival = WorkerRole(joins=True, takes_target=takes_target)
    with open_session(study_setup, url, meter, watch, interruption, arrival) as session:
        spend_budget(session)
        report_study(session)


def _config(store: Store, study: str, changes: Mapping[str, Any]) -> StudyConfig:
    return resolve_device(override(store.studies.config(study), {"run.report": None, "run.artifacts": None, **changes}))


def _is_over(store: Store, study: str) -> bool:
    """Whether there is nothing to do. Raises Stopped where all workers are to end."""
    wanted = order(store, study)
    if wanted is not None and wanted.wanted == "stop":
        raise Stopped(f"study `{study}` was stopped; `exeunt study unpause {study}` lets workers work again.")
    try:
        return shared_state.is_spent(optuna.load_study(study_name=study, storage=optuna_storage(store.engine)))
    except KeyError:
        return False  # Its first worker has not begun yet.
