"""Optuna's storage in the study database: its own, with retries, and with trials read and stored in less time.

Its tables are made here, and brought to the version that the installed Optuna wants.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy as copied
from datetime import datetime
from functools import wraps
from math import inf
from threading import RLock
from typing import Any, final

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from ....backends.errors import InputError
from .. import transactions
from ..errors import Unreachable, corrupt_values, database_label, explained, storage_errors
from ..transactions import read, retry, write
from .tables import TRIALS
from .trials import add_once, read_trials, start_trial, store_changes


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


def versions_of(backend: RDBStorage) -> tuple[str, str]:
    """The version of Optuna's tables, which must be there, and the one that the installed Optuna wants.

    Raises:
        InputError: they are newer than the installed Optuna knows.
    """
    found, wanted = backend.get_current_version(), backend.get_head_version()
    if found != wanted and found not in backend.get_all_versions():
        raise InputError(
            f"storage: Optuna {optuna.__version__} needs tables of version {wanted}, but "
            f"{database_label(backend.engine)} has {found}. Install a newer Optuna: pip install --upgrade optuna."
        )
    return found, wanted


def create_optuna_tables(engine: Engine) -> None:
    """Makes Optuna's tables in a database that has none of them, or completes a creation that was cut off."""
    make_backend(engine, make_tables=True).engine.dispose()


def upgradable_optuna(engine: Engine) -> tuple[str, str]:
    """The versions of Optuna's tables in a database, and their errors, as for `versions_of`."""
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


# Trials that were looked at so lately are not read again for a proposal.
FRESH_SECONDS = 1.0

_only_reads: ContextVar[bool] = ContextVar("_only_reads", default=False)
_storages: dict[Engine, StudyStorage] = {}


def optuna_storage(engine: Engine) -> StudyStorage:
    """Optuna's storage in the same database, read-only where the engine is: one for each engine, closed with it.

    It has no heartbeat of its own: Optuna's works under `study.optimize` only, and our leases also cover ask and tell.

    Raises:
        InputError: its tables are those of another version of Optuna.
        StorageError: the database is out of reach.
    """
    if engine not in _storages:
        with storage_errors(engine):
            backend = make_backend(engine, may_write=lambda: not _only_reads.get())
            found, wanted = versions_of(backend)
        if found != wanted:
            raise InputError(
                f"storage: Optuna {optuna.__version__} needs tables of version {wanted}, but "
                f"{database_label(engine)} has {found}. Type `exeunt db upgrade`."
            )
        _storages[engine] = StudyStorage(engine, backend)
        event.listen(engine, "engine_disposed", _close, once=True)
    return _storages[engine]


def _close(engine: Engine) -> None:
    _storages.pop(engine).backend.engine.dispose()


def _delegated(method: Callable[..., Any], *, reads: bool = False) -> Any:
    """A method of Optuna's storage that makes one transaction, repeated when that was cut off."""

    @wraps(method)
    def repeat(self: StudyStorage, *arguments: Any, **options: Any) -> Any:
        def attempt() -> Any:
            token = _only_reads.set(reads)
            try:
                return method(self.backend, *arguments, **options)
            except (SQLAlchemyError, StorageInternalError) as error:
                if not isinstance(found := explained(error, database_label(self.engine)), Unreachable):
                    raise
                self.backend.remove_session()
                raise found from error
            finally:
                _only_reads.reset(token)

        return retry(self.engine, attempt)

    return repeat


@final
class StudyStorage(BaseStorage):
    """Optuna's storage, each of whose transactions is repeated when it was cut off.

    Every one may be: attributes and parameters are set once or to the same, a trial that was made twice has no owner
    and is ended by `TrialKeeper`, and one that was told already is seen to be. Methods without a docstring do what
    Optuna's do.

    Attributes:
        engine: of the study database, which trials are read and changed through.
        backend: Optuna's storage over the same database, for all else.
    """

    def __init__(self, engine: Engine, backend: RDBStorage) -> None:
        self.engine, self.backend = engine, backend
        self._lock = RLock()
        # What was read: trials and their studies by identifier; and of each study the identifiers of all in the order
        # of numbers, those that were not finished, and when that was.
        self._trials: dict[int, FrozenTrial] = {}
        self._study: dict[int, int] = {}
        self._numbered = defaultdict[int, list[int]](list)
        self._open = defaultdict[int, list[int]](list)
        self._looked: dict[int, float] = {}
        # Within `together`: when it began, and trials as they were found and as they will be.
        self._began: float | None = None
        self._changed: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}

    create_new_study = _delegated(RDBStorage.create_new_study)
    set_study_user_attr = _delegated(RDBStorage.set_study_user_attr)
    set_study_system_attr = _delegated(RDBStorage.set_study_system_attr)
    get_study_id_from_name = _delegated(RDBStorage.get_study_id_from_name, reads=True)
    get_study_name_from_id = _delegated(RDBStorage.get_study_name_from_id, reads=True)
    get_study_directions = _delegated(RDBStorage.get_study_directions, reads=True)
    get_study_user_attrs = _delegated(RDBStorage.get_study_user_attrs, reads=True)
    get_study_system_attrs = _delegated(RDBStorage.get_study_system_attrs, reads=True)
    get_all_studies = _delegated(RDBStorage.get_all_studies, reads=True)
    _delete_study = _delegated(RDBStorage.delete_study)
    _add_trial = _delegated(RDBStorage.create_new_trial)
    _set_state = _delegated(RDBStorage.set_trial_state_values)

    def delete_study(self, study_id: int) -> None:
        """As Optuna's, which may give its identifiers to another one."""
        with self._lock:
            self._delete_study(study_id)
            for known in (self._trials, self._study, self._numbered, self._open, self._looked):
                known.clear()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        with self._lock:
            if template_trial is not None:
                self._looked.pop(study_id, None)
                return self._add_trial(study_id, template_trial)
            trial_id, trial = write(self.engine, lambda connection: start_trial(connection, study_id))
            self._trials[trial_id], self._study[trial_id] = trial, study_id
            return trial_id

    def add_once(self, study_id: int, trial: FrozenTrial, unique: str) -> None:
        """Adds a finished trial, unless the study has one with the same attribute `unique`.

        It is looked for and added by one transaction: no two workers add it, at whatever moment.
        """
        with self._lock:
            self._look(study_id)
            self._check(study_id, trial.distributions)
            write(self.engine, lambda connection: add_once(connection, study_id, trial, unique))

    @contextmanager
    def together(self) -> Generator[None]:
        """Within this block what is set of a trial is kept back, and stored by one transaction at its end.

        A proposal then takes two commits instead of ten, and its result one; in a database that many write to, each
        commit waits for the lock. The trial, which nobody else changes, is read once at most. So are all trials, and
        not at all where they were read just before. Where the block raises, nothing is stored.
        """
        with self._lock:
            self._began = time.monotonic()
            try:
                yield
                changed = self._changed
            finally:
                self._began, self._changed = None, {}
            for trial_id, (before, after) in changed.items():
                self._store(trial_id, before, after)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        with self._changing(trial_id) as trial:
            self._check(self._study.get(trial_id), {param_name: distribution})
            trial.params[param_name] = distribution.to_external_repr(param_value_internal)
            trial.distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changing(trial_id) as trial:
            trial.user_attrs[key] = json.loads(json.dumps(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changing(trial_id) as trial:
            trial.system_attrs[key] = json.loads(json.dumps(value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        with self._changing(trial_id) as trial:
            trial.intermediate_values[step] = intermediate_value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not state.is_finished():
            return self._set_state(trial_id, state, values)
        with self._changing(trial_id) as trial:
            trial.state, trial.datetime_complete = state, datetime.now()
            trial.values = None if values is None else list(values)
        return True

    def _check(self, study_id: int | None, distributions: Mapping[str, BaseDistribution]) -> None:
        """Raises `ValueError` for a parameter whose distribution is not that of the study's other trials."""
        if study_id is not None and study_id not in self._looked:
            self._look(study_id)
        for name, distribution in distributions.items():
            same = (each for each, study in self._study.items() if study == study_id)
            others = (self._trials[each].distributions.get(name) for each in same)
            check_distribution_compatibility(next(filter(None, others), distribution), distribution)

    @contextmanager
    def _changing(self, trial_id: int) -> Generator[FrozenTrial]:
        """A trial to be changed, which is stored at the end of the block, or of `together`."""
        with self._lock:
            known = self._changed.get(trial_id)
            before, after = known or ((found := self.get_trial(trial_id)), copied(found))
            self.check_trial_is_updatable(trial_id, after.state)
            yield after
            if self._began is None:
                self._store(trial_id, before, after)
            else:
                self._changed[trial_id] = before, after

    def _store(self, trial_id: int, before: FrozenTrial, after: FrozenTrial) -> None:
        write(self.engine, lambda connection: store_changes(connection, trial_id, before, after))
        self._trials[trial_id] = after

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's; within `together` a trial that runs and is known is not read again."""
        with self._lock:
            if trial_id in self._changed:
                return copied(self._changed[trial_id][1])
            known = self._trials.get(trial_id)
            if known is not None and known.state.is_finished():
                return known
            if known is None or known.state != TrialState.RUNNING or self._began is None:
                known = self._read(TRIALS.c.trial_id == trial_id, {})[trial_id]
                self._trials[trial_id] = known
            return copied(known)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's; those that are finished are read once, and within `together` all are, or were just before."""
        with self._lock:
            if self._began is None or self._looked.get(study_id, -inf) < self._began - FRESH_SECONDS:
                self._look(study_id)
            trials = [self._trials[each] for each in self._numbered[study_id]]
        found = [each for each in trials if states is None or each.state in states]
        return copied(found) if deepcopy else found

    def _look(self, study_id: int) -> None:
        """Reads the trials of a study that are new or may have changed."""
        numbered, open_ones, wanted = self._numbered[study_id], self._open[study_id], TRIALS.c.study_id == study_id
        if numbered:
            wanted &= (TRIALS.c.trial_id > numbered[-1]) | TRIALS.c.trial_id.in_(open_ones)
        found = self._read(wanted, self._trials)
        if not found:
            self.get_study_name_from_id(study_id)  # raises `KeyError` where there is no such study
        self._trials |= found
        self._study |= dict.fromkeys(found, study_id)
        numbered += [each for each in found if not numbered or each > numbered[-1]]
        self._open[study_id] = [each for each, trial in found.items() if not trial.state.is_finished()]
        self._looked[study_id] = time.monotonic()

    def _read(self, wanted: ColumnElement[bool], known: Mapping[int, FrozenTrial]) -> dict[int, FrozenTrial]:
        with corrupt_values(database_label(self.engine)):
            return read(self.engine, lambda connection: read_trials(connection, wanted, known))
