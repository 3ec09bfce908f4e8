"""What each trial cost a worker, as log records for whoever collects them: seconds, and those spent on the database."""

import logging
import time

from ..studies.database.retries import seconds_spent

LOG = logging.getLogger("exeunt.work")


class TrialLog:
    """Counts from one trial of this worker to its next."""

    def __init__(self) -> None:
        self._at, self._storage = time.perf_counter(), seconds_spent()

    def done(self, label: str, *, failed: bool = False) -> None:
        """Logs a trial that was told."""
        now, storage = time.perf_counter(), seconds_spent()
        spent = {"seconds": round(now - self._at, 4), "storage_seconds": round(storage - self._storage, 4)}
        LOG.info("trial", extra={"about": {"label": label, "state": "failed" if failed else "complete", **spent}})
        self._at, self._storage = now, storage
