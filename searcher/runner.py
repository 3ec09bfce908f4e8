"""The main path: from a configuration to a measured front and its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..backends.errors import DeviceError, ExeuntError
from ..reports.report import write_report
from ..reports.view.loading import load_view
from ..reports.view.view import StudyView
from ..studies.config.budget import Budget, parse_budget
from ..studies.config.keywords import configured
from ..studies.config.reading import override
from ..studies.config.study import StudyConfig
from ..studies.database.engine import bare_engine
from ..studies.database.errors import corrupt_rows
from ..studies.database.urls import DEFAULT_STORAGE, storage_url
from ..studies.interruption import Interruption
from ..studies.store.store import open_store, stored_config
from ..studies.workers.shared_state import BASELINES, FRONT, SEARCHING
from .measuring.defaults import keep_stored_defaults
from .measuring.metric_choice import settle_metric
from .measuring.own_code import own_code, refuse_unpinned
from .measuring.setup import StudySetup, load_setup, read_proposals
from .monitoring.progress import ProgressListener
from .search.budget import BudgetMeter, refuse_too_small
from .search.front import measure_front
from .search.loop import measure_baselines, measure_proposals
from .search.opening import WorkerRole, open_session
from .search.session import LOOK_SECONDS, Session
from .spaces.levers import Parameters


@dataclass(frozen=True)
class StudyRequest:
    """What one command or worker does for a study.

    Attributes:
        config, url, budget, proposals, warm_start, watch, interruption, announce: as for `optimize`.
        role: how this process comes to the study.
        named: the code of their own that the user names in this command; None: what `config` names.
        began: when the budget's time began, on `time.monotonic`'s clock; with this process if not given.
    """

    config: StudyConfig
    url: str
    budget: Budget | None = None
    proposals: Sequence[Path] = ()
    warm_start: Sequence[str] = ()
    role: WorkerRole = field(default_factory=WorkerRole)
    named: Collection[str] | None = None
    began: float | None = None
    watch: ProgressListener = field(default_factory=ProgressListener)
    interruption: Interruption = field(default_factory=Interruption)
    announce: Callable[[StudySetup], object] | None = None

    @property
    def names_code(self) -> Collection[str]:
        """What is imported though no pin says that it is what the study was measured with."""
        return tuple(own_code(self.config).values()) if self.named is None else self.named

    @property
    def spends(self) -> Budget:
        """The budget. Raises InputError if it is too small to be given to a study; another worker's holds as it is."""
        budget = self.budget or parse_budget(self.config.run.budget)
        return budget if self.role.is_one_of_many else refuse_too_small(budget)


def optimize(
    config: StudyConfig | str | os.PathLike[str] | None = None,
    storage: str | os.PathLike[str] = DEFAULT_STORAGE,
    *,
    budget: Budget | str | None = None,
    proposals: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    warm_start: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    watch: ProgressListener | None = None,
    interruption: Interruption | None = None,
    announce: Callable[[StudySetup], object] | None = None,
    **settings: Any,
) -> StudyView:
    """Search schedules, measure the front again on noises that no selection saw, and write the report.

    Whatever was committed before is not measured again, so an interrupted study goes on where it stopped.

    Args:
        config: the study, or its file; the demo's if not given.
        storage: the database, a URL or the name of an SQLite file; it is made if it is not there.
        budget: what to spend, such as "2m", or else the configuration's. Time counts from the start of this process.
        proposals: schedule files, or folders of them, to measure in place of what a sampler would propose.
        warm_start: what the search begins with: schedule files, folders of them, or other studies' databases, with
            #STUDY where one holds several.
        watch: who is told what goes on.
        interruption: stops the work at the next step once a signal came.
        announce: called with what will be measured with, before anything is spent.
        settings: what goes over the configuration, by the names of flags: `checkpoint="DiT.pt", reference="photos/"`.

    Raises:
        InputError, ScheduleError: an input is wrong; nothing was sampled and the database is as it was.
        Interrupted: a signal came; everything committed is kept.
        StorageError: the database is out of reach.
    """
    config = configured(config, settings)
    request = StudyRequest(
        config,
        storage_url(os.fspath(storage)),
        parse_budget(budget) if isinstance(budget, str) else budget,
        list(map(Path, _several(proposals))),
        [os.fspath(each) for each in _several(warm_start)],
        watch=watch or ProgressListener(),
        interruption=interruption or Interruption(),
        announce=announce,
    )
    work(request)
    return study_view(request.url, config.name)


def _several(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Sequence[str | os.PathLike[str]]:
    return [paths] if isinstance(paths, str | os.PathLike) else paths


def work(request: StudyRequest, *, reports: bool = True) -> None:
    """Does what the study has to do, and writes its report; see `optimize`."""
    try:
        with open_study(request) as session:
            spend_budget(session)
            if reports:
                report_study(session)
    except SystemExit as error:
        raise ExeuntError(
            f"study `{request.config.name}`: code that it runs ended the process with exit code {error.code} before "
            "the study was finished. Remove `sys.exit` or `exit` there."
        ) from error


def study_view(url: str, study: str) -> StudyView:
    """What a study of a database at a URL has measured."""
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        return load_view(store, study)


@contextmanager
def open_study(request: StudyRequest) -> Generator[Session]:
    """A session on a study with everything that a user gave it. Raises what `optimize` does."""
    config, role, meter = request.config, request.role, BudgetMeter(request.spends, request.began)
    stored = None if role.joins else stored_config(request.url, config.name)
    if stored is not None:
        config = keep_stored_defaults(config, stored)
    refuse_unpinned(config, request.url, request.names_code)
    study_setup = _load(config, role, settles=stored is None and not role.joins)
    assert study_setup.space, "levers are refused before anything is sampled"
    given, points = read_proposals(request.proposals, study_setup), _warm_points(request, study_setup)
    is_here = study_setup.config.throughput.device.startswith(study_setup.network.device.type)
    if stored is None and not role.joins and is_here:
        bare_engine(request.url).dispose()  # what it refuses is refused before anything is sampled
        study_setup = settle_metric(study_setup, config, request.interruption.check)
    if request.announce is not None:
        request.announce(study_setup)
    with open_session(study_setup, request.url, meter, request.watch, request.interruption, role, points) as session:
        for candidate in given:
            session.objective.register(candidate)
        if given:
            session.results.restore()
        yield session


def _warm_points(request: StudyRequest, study_setup: StudySetup) -> list[Parameters]:
    """What the search begins with, from elsewhere."""
    if not request.warm_start:
        return []
    from .search.warm_start import warm_points

    return warm_points(request.warm_start, study_setup, request.watch.say)


def _load(config: StudyConfig, role: WorkerRole, settles: bool) -> StudySetup:
    """What the study measures with, on the CPU where this process measures nothing and the device is not here."""
    try:
        return load_setup(config, settles=settles)
    except DeviceError:
        if role.works:
            raise
        here = load_setup(override(config, {"throughput.device": "cpu"}), settles=settles)
        return replace(here, config=override(here.config, {"throughput.device": config.throughput.device}))


def spend_budget(session: Session) -> None:
    """Does what the study has to do until its budget is spent and its front is measured, alone or beside others."""
    if session.peers.others:
        session.rest(LOOK_SECONDS)  # until all of them have seen this one, with whom they share what is left
    while session.choice is None or not session.choice.measured:
        session.enter(BASELINES)
        measure_baselines(session)
        session.enter(SEARCHING)
        measure_proposals(session)
        session.enter(FRONT)
        measure_front(session)


def report_study(session: Session) -> list[Path]:
    """Writes the report of a study; the networks that are loaded already give sample images and operations."""
    from ..reports.plots.samples import fresh_samples

    study_setup, folder = session.study_setup, session.study_setup.config.run.report
    if folder is None:
        return []
    view = load_view(session.store, session.name)
    seed = study_setup.config.quality.final_seed
    view, grid = fresh_samples(view, study_setup.all_networks, study_setup.conditions, seed)
    return write_report(view, Path(folder), grid)
