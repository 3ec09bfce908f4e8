"""The main path: from a configuration to a measured front and its report."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..reports.report import write_report
from ..reports.uncollected import settled
from ..reports.view.loading import load_view
from ..reports.view.selection import highlights
from ..reports.view.view import StudyView
from ..studies.config.budget import Budget, parse_budget
from ..studies.config.study import StudyConfig
from ..studies.database.urls import DEFAULT_STORAGE, storage_url
from ..studies.interruption import Interruption
from ..studies.store.store import stored_config
from ..studies.workers.shared_state import BASELINES, FRONT, SEARCHING
from .measuring.defaults import keep_stored_defaults
from .measuring.setup import StudySetup, load_setup, read_proposals
from .monitoring.progress import ProgressListener, Silent
from .search.budget import BudgetMeter, refuse_too_small
from .search.front import measure_front
from .search.loop import measure_baselines, measure_proposals
from .search.opening import WorkerRole, open_session
from .search.peers import LOOK_SECONDS
from .search.session import Session


def optimize(
    config: StudyConfig,
    storage: str = DEFAULT_STORAGE,
    *,
    budget: Budget | None = None,
    proposals: Sequence[Path] = (),
    watch: ProgressListener | None = None,
    interruption: Interruption | None = None,
    announce: Callable[[StudySetup], object] | None = None,
) -> StudyView:
    """Search schedules, measure the front again on noises that no selection saw, and write the report.

    Whatever was committed before is not measured again, so an interrupted study goes on where it stopped.

    Args:
        config: the study.
        storage: the database, a URL or the name of an SQLite file; it is made if it is not there.
        budget: what to spend; the configuration's if not given. Time counts from the start of this process.
        proposals: schedule files, or folders of them, to measure in place of what a sampler would propose.
        watch: who is told what goes on.
        interruption: stops the work at the next step once a signal came.
        announce: called with what will be measured with, before anything is spent.

    Raises:
        InputError, ScheduleError: an input is wrong; nothing was sampled and the database is as it was.
        Interrupted: a signal came; everything committed is kept.
        StorageError: the database is out of reach.
    """
    meter = BudgetMeter(refuse_too_small(budget or parse_budget(config.run.budget)))
    with begin(
        config,
        storage_url(storage),
        meter,
        WorkerRole(),
        proposals=proposals,
        watch=watch or Silent(),
        interruption=interruption or Interruption(),
        announce=announce,
    ) as session:
        spend_budget(session)
        report_study(session)
        return load_view(session.store, session.name)


@contextmanager
def begin(
    config: StudyConfig,
    url: str,
    meter: BudgetMeter,
    arrival: WorkerRole,
    *,
    proposals: Sequence[Path] = (),
    watch: ProgressListener,
    interruption: Interruption,
    announce: Callable[[StudySetup], object] | None = None,
) -> Generator[Session]:
    """A session on a study with everything that a user gave it; see `optimize`, and `WorkerRole` for `arrival`."""
    stored = stored_config(url, config.name)
    study_setup = load_setup(config if stored is None else keep_stored_defaults(config, stored))
    given = read_proposals(proposals, study_setup)
    if announce is not None:
        announce(study_setup)
    with open_session(study_setup, url, meter, watch, interruption, arrival) as session:
        for candidate in given:
            session.objective.register(candidate)
        session.restore()
        yield session


def spend_budget(session: Session) -> None:
    """Does what the study has to do until its budget is spent and its front is measured, alone or beside others."""
    with settled():
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
    study_setup, folder = session.study_setup, session.study_setup.config.run.report
    if folder is None:
        return []
    from ..reports.plots.samples import sample_grid
    from ..reports.view.operations import with_flops

    view = with_flops(load_view(session.store, session.name), study_setup.networks)
    grid = sample_grid(
        view,
        highlights(view),
        lambda weights: [study_setup.networks[weights]],
        study_setup.conditions,
        seed=study_setup.config.quality.final_seed,
    )
    return write_report(view, Path(folder), grid)
