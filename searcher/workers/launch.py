"""Studies that several processes share: `exeunt optimize --workers N`, with N processes here, or none.

Who does the work of `exeunt optimize`: processes on this machine, or what another engine starts elsewhere.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...backends.errors import DeviceError
from ...studies.config.budget import Budget, parse_budget
from ...studies.config.reading import config_to_dict, override
from ...studies.config.study import StudyConfig
from ...studies.interruption import Interruption
from ...studies.store.store import open_store, stored_config
from ...studies.workers.orders import withdraw_order
from ..measuring.defaults import keep_stored_defaults
from ..measuring.setup import StudySetup, load_setup, read_proposals
from ..monitoring.endpoint import Endpoint
from ..monitoring.progress import ProgressListener, Silent
from ..search.budget import BudgetMeter, process_age, refuse_too_small
from ..search.opening import WorkerRole, open_session
from .job import Job
from .pool import Workers, WorkerStarter, draw_budget_id, environments
from .process import WorkerProcess


class WorkerBackend(NamedTuple):
    """The workers that one command may start.

    Attributes:
        url: the study's database, as they reach it.
        environments: the variables of each, which also say how many there are.
        start: starts one.
        writes_report: whether one of them writes the report, since they see this machine's folders.
    """

    url: str
    environments: list[dict[str, str]]
    start: WorkerStarter
    writes_report: bool


def processes(url: str, count: int, device: str) -> WorkerBackend:
    """So many processes here. Raises InputError as `environments` does."""
    return WorkerBackend(url, environments(count, device), WorkerProcess, writes_report=True)


def work_together(
    config: StudyConfig,
    hands: WorkerBackend,
    *,
    budget: Budget | None = None,
    proposals: Sequence[Path] = (),
    watch: ProgressListener,
    interruption: Interruption,
    announce: Callable[[str], None],
    metrics: Endpoint | None = None,
) -> None:
    """Does what `runner.optimize` does, in several processes.

    Args:
        config: the study.
        hands: who works, and where the database is.
        budget: what they spend together; the configuration's if not given.
        proposals: as for `optimize`.
        watch: who is told what they do.
        interruption: lets them finish what they are at once a signal came.
        announce: called with the statement of the baseline before anything is spent.
        metrics: where the first of them serves its figures, and each of the others at the next port.

    Raises:
        As `optimize` does, and what ended the last worker.
    """
    budget = refuse_too_small(budget or parse_budget(config.run.budget))
    if stored_config(hands.url, config.name) is not None:
        with open_store(hands.url) as store:
            withdraw_order(store, config.name)
    job = Job(
        config=config_to_dict(config),
        url=hands.url,
        budget=str(budget),
        budget_id=draw_budget_id(),
        began=time.time() - process_age(),
        proposals=tuple(map(str, proposals)),
        parent=os.getpid(),
        reports=hands.writes_report,
        metrics=None if metrics is None else (metrics.address, metrics.port),
    )
    Workers(job, hands.environments, watch, announce, hands.start).run(interruption)


def prepare(
    config: StudyConfig,
    url: str,
    *,
    budget: Budget | None = None,
    proposals: Sequence[Path] = (),
    announce: Callable[[StudySetup], object],
) -> str:
    """Makes a study, or gives one another budget, and leaves the work to workers wherever they are.

    The device that the study names need not be here. Arguments and errors are those of `optimize`.

    Returns:
        The database's URL without a password.
    """
    meter = BudgetMeter(refuse_too_small(budget or parse_budget(config.run.budget)))
    stored = stored_config(url, config.name)
    study_setup = _laboratory(config if stored is None else keep_stored_defaults(config, stored))
    given = read_proposals(proposals, study_setup)
    announce(study_setup)
    arrival = WorkerRole(takes_target=False, works=False)
    with open_session(study_setup, url, meter, Silent(), Interruption(), arrival) as session:
        for candidate in given:
            session.objective.register(candidate)
        return session.store.url


def _laboratory(config: StudyConfig) -> StudySetup:
    """What the study measures with, on the CPU where its device is not here."""
    try:
        return load_setup(config)
    except DeviceError:
        here = load_setup(override(config, {"throughput.device": "cpu"}))
        named = override(here.config, {"throughput.device": config.throughput.device})
        return replace(here, config=named)
