"""Studies that several processes share: `exeunt optimize --workers N`, with N processes here, on a cluster, or none."""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from ...studies.config.reading import config_to_dict
from ...studies.store.find import stored_config
from ...studies.store.store import open_store
from ...studies.workers.orders import withdraw_order
from ..monitoring.endpoint import Endpoint
from ..runner import StudyRequest, open_study
from ..search.budget import process_age
from ..search.opening import WorkerRole
from .job import Job
from .pool import WorkerBackend, Workers


def work_together(
    request: StudyRequest, hands: WorkerBackend, announce: Callable[[str], None], metrics: Endpoint | None = None
) -> None:
    """Does what `runner.work` does, in several processes.

    Args:
        request: what they do together; once its interruption has received a signal, they finish their step and end.
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
    Workers(job, hands, request.watch, announce).run(request.interruption)


def prepare(request: StudyRequest) -> str:
    """Makes a study, or gives one another budget, and leaves the work to workers wherever they are.

    The device that the study names need not be here. Errors are those of `optimize`.

    Returns:
        The database's URL without a password.
    """
    with open_study(replace(request, role=WorkerRole(takes_target=False, works=False))) as session:
        return session.store.url
