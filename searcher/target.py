"""Waiting for workers on the device that a study is about, where this one measures quality alone."""

import time

from ..backends.errors import Interrupted
from ..studies.workers.target import is_manned
from .session import Session


class Unmanned(Interrupted):
    """No worker is left on the study's target device."""

    identifier = "no-target"


def await_target(session: Session) -> None:
    """Waits a moment for other workers.

    Raises:
        Unmanned: this one can't time anything, and for as long as a lease nobody lived who can.
    """
    session.wait()
    target, now = session.costs.target, time.monotonic()
    if session.costs.can_time or is_manned(session.store, session.name, target):
        session.unmanned_since = None
        return
    session.unmanned_since = session.unmanned_since or now
    if now - session.unmanned_since > session.laboratory.config.run.lease_seconds:
        raise Unmanned(
            f"study `{session.name}` is timed on {target['device']}, where no worker is at work, and this worker has "
            "nothing left to do. Start one there, or make this device the target: exeunt worker --target."
        )
