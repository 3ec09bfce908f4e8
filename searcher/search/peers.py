"""The other workers of a study: how many are alive, which died, and whether all are to pause or stop."""

import time

from ...studies.store.store import Store
from ...studies.workers.shared_state import order
from ...studies.workers.trials import TrialKeeper, peer_snapshot
from ...studies.workers.workers import Worker

LOOK_SECONDS = 1.0  # between two looks: a look takes some milliseconds


class Peers:
    """Looks at the other workers for one of them.

    Attributes:
        others: the living workers beside this one, when it last looked.
    """

    def __init__(self, store: Store, study: str, worker: Worker, keeper: TrialKeeper) -> None:
        self.worker = worker
        self.others = 0
        self._store = store
        self._study = study
        self.keeper = keeper
        self._looked = self._asked = float("-inf")
        self._wanted: str | None = None

    @property
    def size(self) -> int:
        """The number of living workers, this one included."""
        return 1 + self.others

    def look(self, *, now: bool = False) -> bool:
        """Ends the dead and counts the living, once a second or `now`.

        Returns:
            Whether it looked, and others are there or were there the last time: what they did is worth reading then.
        """
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        before = self.others
        found = peer_snapshot(self._store, self._study)
        if found.dead or found.orphans:
            self.keeper.fail_dead()
        self.others = len(found.alive - {self.worker.owner})
        self._looked = time.monotonic()
        return before + self.others > 0

    def wanted(self) -> str | None:
        """What a user ordered all workers to do, `pause` or `stop`, as of the last second."""
        if time.monotonic() - self._asked >= LOOK_SECONDS:
            found = order(self._store, self._study)
            self._wanted = None if found is None else found.wanted
            self._asked = time.monotonic()
        return self._wanted
