"""The main path: from a configuration to a measured front."""

from .finals import measure_front
from .search import measure_baselines, search
from .session import Session


def optimize(session: Session) -> None:
    """Search schedules, then measure the front again on noises that no selection saw.

    Whatever was committed before is not measured again, so an interrupted study goes on where it stopped.
    """
    session.enter("measuring baselines")
    measure_baselines(session)
    session.enter("searching")
    search(session)
    session.enter("measuring the front")
    measure_front(session)
    session.enter("finished")
