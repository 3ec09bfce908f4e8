"""Studies that several processes share: `exeunt optimize --workers N`, with N processes here, or none.

Who does the work of `exeunt optimize`: processes on this machine, or what another engine starts elsewhere.
"""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ...studies.config.reading import config_to_dict
from ...studies.store.find import stored_config
from ...studies.store.store import open_store
from ...studies.workers.orders import withdraw_order
from ..monitoring.endpoint import Endpoint
from ..runner import StudyRequest, open_study
from ..search.budget import process_age
from ..search.opening import WorkerRole
from .job import Job
from .pool import Workers, WorkerStarter, environments
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
    request: StudyRequest, hands: WorkerBackend, announce: Callable[[str], None], metrics: Endpoint | None = None
) -> None:
    """Does what `runner.work` does, in several processes.

    Args:
        request: what they do together; its interruption lets them finish what they are at once a signal came.
        hands: who works, and where the database is.
        announce: called with the statement of the baseline before anything is spent.
        metrics: where the first of them serves its figures, and each of the others at the next port.

    Raises:
        As `optimize` does, and what ended the last worker.
    """
    job = Job(
        config=config_to_dict(request.config),
        url=hands.url,
        budget=str(request.spends),
        budget_id=secrets.token_hex(8),
        began=time.time() - process_age(),
        proposals=tuple(map(str, request.proposals)),
        parent=os.getpid(),
        reports=hands.writes_report,
        metrics=None if metrics is None else (metrics.address, metrics.port),
    )
    if stored_config(hands.url, request.config.name) is not None:
        with open_store(hands.url) as store:
            withdraw_order(store, request.config.name)
    Workers(job, hands.environments, request.watch, announce, hands.start).run(request.interruption)


def prepare(request: StudyRequest) -> str:
    """Makes a study, or gives one another budget, and leaves the work to workers wherever they are.

    The device that the study names need not be here. Errors are those of `optimize`.

    Returns:
        The database's URL without a password.
    """
    with open_study(replace(request, role=WorkerRole(takes_target=False, works=False))) as session:
        return session.store.url
