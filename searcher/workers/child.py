"""One of the processes of `exeunt optimize --workers N`: reads its job from standard input, and reports to its parent.

Its job is a line of JSON, since a command line can be seen by everybody and may not hold a database's password. What it
does goes to standard output as JSON lines; it ends when its parent is gone.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from ...backends.errors import ExeuntError, Interrupted
from ...studies.config.budget import parse_budget
from ...studies.config.reading import config_from_dict
from ...studies.database.urls import guard_output
from ...studies.interruption import Interruption, interruptible
from ..monitoring.endpoint import Endpoint
from ..monitoring.json_lines import log_json_lines
from ..monitoring.prometheus import metered
from ..runner import StudyRequest, work
from ..search.estimate import statement
from ..search.opening import WorkerRole
from .process import FINISHED, Job


class Child(Interruption):
    """An interruption that also comes when the parent is gone, since nobody would be left to stop this process."""

    def __init__(self, inner: Interruption, parent: int) -> None:
        super().__init__()
        self._inner = inner
        self._parent = parent

    def check(self) -> None:
        self._inner.check()
        if os.getppid() != self._parent:
            raise Interrupted("The process that started this worker has ended; what was committed is kept.")


def main() -> NoReturn:
    """Reads the job, does it, and ends with the exit code of what came of it."""
    guard_output()
    values = json.loads(sys.stdin.readline())
    with log_json_lines(sys.stdout) as lines, interruptible() as interruption:
        try:
            job = Job(**values)
            with metered(Endpoint(*job.metrics) if job.metrics else None, lines) as watch:
                request = StudyRequest(
                    config_from_dict(job.config),
                    job.url,
                    parse_budget(job.budget, rest=True),
                    [Path(each) for each in job.proposals],
                    job.warm_start,
                    WorkerRole(budget_id=job.budget_id),
                    job.named,
                    began=time.monotonic() - (time.time() - job.began),
                    watch=watch,
                    interruption=Child(interruption, job.parent),
                    announce=lambda study_setup: watch.event("baseline", text=statement(study_setup)),
                )
                work(request, reports=job.reports)
            lines.emit(FINISHED)
        except ExeuntError as error:
            lines.emit("error", identifier=error.identifier, text=str(error))
            raise SystemExit(error.exit_code) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
