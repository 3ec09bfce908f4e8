"""The main path: from a configuration to a measured front."""

from collections.abc import Sequence

from .candidates import Candidate
from .finals import measure_front
from .search import is_fixed, measure_baselines, measure_fixed, search
from .session import Session


def optimize(session: Session, proposals: Sequence[Candidate] = ()) -> None:
    """Search schedules, then measure the front again on noises that no selection saw.

    Whatever was committed before is not measured again, so an interrupted study goes on where it stopped.

    Args:
        session: an open study.
        proposals: schedules to measure in place of those that a sampler would propose.
    """
    session.enter("measuring baselines")
    measure_baselines(session)
    session.enter("searching")
    if proposals or is_fixed(session):
        measure_fixed(session, proposals)
    else:
        search(session)
    session.enter("measuring the front")
    measure_front(session)
    session.enter("finished")
