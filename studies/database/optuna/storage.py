"""Optuna's tables in the study database, and its storage over them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import wraps
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, final
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage  # pyright: ignore[reportPrivateUsage]
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from ....backends.errors import InputError
from ..errors import Unreachable, database_label, explained, storage_errors
from ..foreign import corrupt_values
from ..retries import retry
from ..transactions import (
    READ_ONLY,
    is_read_only,
    open_transactions,
    pool_arguments,
    postgresql_arguments,
    sqlite_arguments,
)
from . import writing
from .reading import read_notes, read_trial, read_trials
from .writing import Changes, Ending, Parameter, changed, start_trial, store_changes

R = TypeVar("R")

_only_reads: ContextVar[bool] = ContextVar("_only_reads", default=False)
_storages: WeakKeyDictionary[Engine, RDBStorage] = WeakKeyDictionary()


def optuna_storage(engine: Engine) -> RDBStorage:
    """Optuna's storage in the same database, read-only where the engine is: one for each engine, closed with it.

    It has no heartbeat of its own: Optuna's works under `study.optimize` only, and our leases also cover ask and tell.

    Raises:
        InputError: its tables are those of another version of Optuna.
        StorageError: the database is out of reach.
    """
    if engine not in _storages:
        _storages[engine] = _checked(engine)
    return _storages[engine]


def _checked(engine: Engine) -> RDBStorage:
    with storage_errors(engine):
        storage = _storage(engine, skip_table_creation=True)
        found, wanted = storage.get_current_version(), storage.get_head_version()
        known = [] if found == wanted else storage.get_all_versions()
    event.listen(engine, "engine_disposed", lambda _engine: storage.engine.dispose())
    if found == wanted:
        return storage
    fix = "Type `exeunt db upgrade`." if found in known else "Install a newer Optuna."
    raise InputError(
        f"storage: Optuna {optuna.__version__} needs tables of version {wanted}, but "
        f"{database_label(engine)} has {found}. {fix}"
    )


def create_optuna_tables(engine: Engine) -> None:
    """Makes Optuna's tables in a database that has none of them, or completes a creation that was cut off."""
    _storage(engine, skip_table_creation=False).engine.dispose()


class OptunaVersions(NamedTuple):
    """The version of Optuna's tables in a database, and the one that the installed Optuna wants."""

    found: str
    wanted: str


def upgradable_optuna(engine: Engine) -> OptunaVersions:
    """The versions of Optuna's tables, which must be there.

    Raises:
        InputError: they are newer than the installed Optuna knows.
    """
    with _closing(engine) as storage:
        found, wanted = storage.get_current_version(), storage.get_head_version()
        if found not in storage.get_all_versions():
            raise InputError(
                f"storage: Optuna {optuna.__version__} knows tables up to version {wanted}, but "
                f"{database_label(engine)} has {found}. Install a newer Optuna: pip install --upgrade optuna."
            )
    return OptunaVersions(found, wanted)


def upgrade_optuna_tables(engine: Engine) -> None:
    """Brings Optuna's tables, which `upgradable_optuna` has seen, to the version that the installed Optuna wants."""
    with _closing(engine) as storage:
        if storage.get_current_version() != storage.get_head_version():
            storage.upgrade()


@contextmanager
def _closing(engine: Engine) -> Generator[RDBStorage]:
    storage = _storage(engine, skip_table_creation=True)
    try:
        yield storage
    finally:
        storage.engine.dispose()


def _storage(engine: Engine, skip_table_creation: bool) -> RDBStorage:
    """Optuna makes its own engine from a URL, so ours gives it the URL, one connection, and the same transactions.

    The URL goes through `str.format` there, for which braces are doubled.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    url = engine.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    storage = _PatientStorage(
        url,
        # Making tables takes Optuna two connections at once.
        engine_kwargs={**_engine_arguments(engine), "max_overflow": 0 if skip_table_creation else 1},
        skip_compatibility_check=True,
        skip_table_creation=skip_table_creation,
    )
    if engine.url.get_backend_name() == "sqlite":
        open_transactions(storage.engine, may_write=lambda: not _only_reads.get())
    return storage


def _engine_arguments(engine: Engine) -> dict[str, Any]:
    read_only = is_read_only(engine)
    sqlite = engine.url.get_backend_name() == "sqlite"
    arguments = sqlite_arguments() if sqlite else postgresql_arguments(engine.url, read_only, "exeunt-optuna")
    return {
        "connect_args": arguments,
        "execution_options": {READ_ONLY: read_only},
        **pool_arguments(engine.url),
    }


@contextmanager
def together(study: optuna.Study, *, have_read: bool = False) -> Generator[None]:
    """Within this block parameters and attributes of a trial are kept back, and one transaction stores them.

    That comes with its state when the trial ends, or else at the end of the block. A proposal's ten commits are two
    then, and what it is told is one, of which each costs a database that many write to a turn at its lock. The trial,
    which nobody else changes, is read once at most, and so are all trials: not at all where they `have_read` been just
    before. Where the block raises, nothing is stored. Other storages than `optuna_storage`'s store all one by one.
    """
    backend, study_id = _backend(study)
    with nullcontext() if backend is None else backend.together(study_id, have_read):
        yield


def add_once(study: optuna.Study, trial: FrozenTrial, unique: str) -> None:
    """Adds a finished trial, unless the study has one with the same attribute `unique`.

    In `optuna_storage`'s it is looked for and added by one transaction: no two workers add it, at whatever moment.
    """
    backend, study_id = _backend(study)
    if backend is not None:
        backend.add_once(study_id, trial, unique)
    elif all(each.user_attrs.get(unique) != trial.user_attrs[unique] for each in study.get_trials(deepcopy=False)):
        study.add_trial(trial)


def _backend(study: optuna.Study) -> tuple[_PatientStorage | None, int]:
    """Our storage that a study is in, or None, and the study's identifier there."""
    storage = study._storage  # pyright: ignore[reportPrivateUsage]
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage  # pyright: ignore[reportPrivateUsage]
    return backend if isinstance(backend, _PatientStorage) else None, study._study_id  # pyright: ignore[reportPrivateUsage]


@dataclass
class _Block:
    """What a block of `together` has seen and keeps back.

    Attributes:
        study_id: the study that it is of.
        have_read: whether Optuna's cache has the study's trials.
        kept: changes of trials, by their identifiers.
        seen: trials as they are in the database, likewise.
    """

    study_id: int
    have_read: bool
    kept: dict[int, Changes] = field(default_factory=dict[int, Changes])
    seen: dict[int, FrozenTrial] = field(default_factory=dict[int, FrozenTrial])


@final
class _PatientStorage(RDBStorage):
    """Optuna's storage, each of whose transactions is repeated when it was cut off.

    Every one may be: attributes and parameters are set once or to the same, a trial that was made twice has no owner
    and is ended by `TrialKeeper`, and one that was told already is seen to be.
    """

    _block: _Block | None = None
    _running: Mapping[int, FrozenTrial] = MappingProxyType({})

    @contextmanager
    def together(self, study_id: int, have_read: bool) -> Generator[None]:
        """See `together`."""
        self._block = block = _Block(study_id, have_read)
        try:
            yield
        finally:
            self._block = None
        for trial_id, changes in block.kept.items():
            self._store(trial_id, changes)
            if trial_id in block.seen:
                self._running = {**self._running, trial_id: changed(block.seen[trial_id], changes)}

    def add_once(self, study_id: int, trial: FrozenTrial, unique: str) -> None:
        """See `add_once`."""
        with self.engine.begin() as connection:
            writing.add_once(connection, study_id, trial, unique)

    def _store(self, trial_id: int, changes: Changes) -> None:
        with self.engine.begin() as connection:
            store_changes(connection, trial_id, changes)

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        """As Optuna's, which would read the trial while it writes."""
        if trial_state.is_finished():
            raise UpdateFinishedTrialError(f"The trial with identifier {trial_id} is finished.")

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if template_trial is not None:
            return super()._create_new_trial(study_id, template_trial)
        with self.engine.begin() as connection:
            found = start_trial(connection, study_id)
        if self._block is not None:
            self._block.seen[found._trial_id] = deepcopy(found)  # pyright: ignore[reportPrivateUsage]
        return found

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """As Optuna's, in less time."""
        with self.engine.begin() as connection:
            return read_notes(connection, study_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's; within `together` a trial is read once, or not at all where it runs and is known."""
        block = self._block
        found = (block.seen.get(trial_id) or self._running.get(trial_id)) if block is not None else None
        if found is None:
            with self.engine.begin() as connection:
                found = read_trial(connection, trial_id)
            if block is not None:
                block.seen[trial_id] = found
        return deepcopy(found)

    def _changes(self, trial_id: int) -> Changes | None:
        """Where to keep changes of a trial back, within `together`."""
        return None if self._block is None else self._block.kept.setdefault(trial_id, Changes())

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        new = param_name, param_value_internal, distribution, previous_distribution
        if (changes := self._changes(trial_id)) is None:
            super()._set_trial_param(trial_id, *new)
        else:
            changes.parameters.append(Parameter(*new))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's, or kept back for `together`."""
        if (changes := self._changes(trial_id)) is None:
            super().set_trial_user_attr(trial_id, key, value)
        else:
            changes.own[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's, or kept back for `together`."""
        if (changes := self._changes(trial_id)) is None:
            super().set_trial_system_attr(trial_id, key, value)
        else:
            changes.system[key] = value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's, except that telling a finished trial just what it was told is no error."""
        if not state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)
        kept = {} if self._block is None else self._block.kept
        changes = replace(kept.get(trial_id, Changes()), ending=Ending(state, values))
        with self.engine.begin() as connection:
            store_changes(connection, trial_id, changes)
        kept.pop(trial_id, None)
        return True

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """As Optuna's, in less time."""
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        after, among, block = trial_id_greater_than, included_trial_ids, self._block
        if block is not None and block.study_id == study_id:
            if block.have_read and (after >= 0 or among):  # which Optuna's cache has
                return []
            block.have_read = True
        with corrupt_values(database_label(self.engine)), self.engine.begin() as connection:
            found = read_trials(connection, study_id, after=after, among=among, running=self._running)
        # `together` stores parameters with all notes of a trial, which only its own worker changes from then on, when
        # it ends. One that was queued has some notes before, but not its worker's name yet.
        running = [each for each in found if each.state == TrialState.RUNNING and each.params and each.user_attrs]
        self._running = {each._trial_id: each for each in running}  # pyright: ignore[reportPrivateUsage]
        return found


def _repeated(method: Callable[..., R], *, reads: bool) -> Callable[..., R]:
    @wraps(method)
    def repeat(self: RDBStorage, *arguments: Any, **options: Any) -> R:
        def attempt() -> R:
            token = _only_reads.set(reads)
            try:
                return method(self, *arguments, **options)
            except (SQLAlchemyError, StorageInternalError) as error:
                if not isinstance(found := explained(error, database_label(self.engine)), Unreachable):
                    raise
                self.remove_session()
                raise found from error
            finally:
                _only_reads.reset(token)

        return retry(self.engine, attempt)

    return repeat


# Those that make one transaction each; Optuna's others are made of these.
_READING = (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "get_trial_param",
    "get_trial",
    "_get_trials",
    "_get_best_trial_id",
)
_WRITING = (
    "create_new_study",
    "delete_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "_create_new_trial",
    "_set_trial_param",
    "_store",
    "add_once",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
for _name in (*_READING, *_WRITING):
    setattr(_PatientStorage, _name, _repeated(getattr(_PatientStorage, _name), reads=_name in _READING))
