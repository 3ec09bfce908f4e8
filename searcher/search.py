"""The search: a ladder of baselines first, then proposals, and in between the baselines that the best must beat."""

from collections.abc import Mapping, Sequence

from ..studies.config import SearchConfig
from .candidates import Candidate, from_baseline
from .frames import Frame
from .objective import UNMEASURABLE
from .promotion import Measured, next_rival, violation, worst_excess
from .proposing import Proposal, Values
from .reserve import reserve
from .seeds import baselines, select
from .session import Session

# The full schedules and one or two of each family: what a front can't do without, whatever the budget.
FIRST_BASELINES = 8
# One of this many evaluations of the search is a baseline.
BASELINE_EVERY = 4
# So many proposals in a row that were all measured before say that the space holds nothing new.
MOST_REPEATS = 200


def ladder(config: SearchConfig, frames: Mapping[str, Frame]) -> list[Candidate]:
    """All baselines of a study, in the order in which they are worth measuring.

    Args:
        config: says which families.
        frames: by the name of the weights; the study's own come first.
    """
    (weights, frame), *others = frames.items()
    rows = baselines(frame, weights, [(each, name) for name, each in others])
    return [from_baseline(row, weights) for row in select(rows, config.baselines)]


def measure_baselines(session: Session) -> None:
    """Measures the first rungs of every ladder, after timing all kinds of calls that baselines make in one go."""
    rungs = _rungs(session)
    session.objective.time_kinds([each.schedule for each in rungs])
    for candidate in rungs[:FIRST_BASELINES]:
        if session.measured and not has_room(session, candidate):
            return
        measure_baseline(session, candidate)


def measure_baseline(session: Session, candidate: Candidate) -> None:
    """Measures one baseline and lets the sampler learn from it where the space can express it.

    One that can't be measured is left out, except the first one: everything is stated against it.
    """
    try:
        measured = session.measure(candidate)
    except UNMEASURABLE as error:
        if not session.measured:
            raise
        session.leave_out(candidate, error)
        return
    if candidate.weights == session.laboratory.weights:
        session.proposer.tell_known(candidate.label, candidate.schedule, values(session, measured))


def measure_proposals(session: Session) -> None:
    """Measures the schedules that a user gave, in this session or an earlier one; without any, those of a sampler."""
    if any(map(is_given, session.members())):
        measure_given(session)
    else:
        search(session)


def search(session: Session) -> None:
    """Measures a sampler's proposals until the rest of the budget is needed for the front, or the space is used up."""
    rungs, repeats, evaluations = _rungs(session), 0, 0
    while repeats < MOST_REPEATS and has_room(session):
        evaluations += 1
        if evaluations % BASELINE_EVERY == 0 and (candidate := _contested(session, rungs)):
            measure_baseline(session, candidate)
            continue
        known = len(session.measured)
        measure_proposal(session, session.proposer.ask())
        repeats = repeats + 1 if len(session.measured) == known else 0


def measure_given(session: Session) -> None:
    """Measures the schedules that a user gave and that have no values yet."""
    for candidate in [each for each in session.members() if is_given(each) and each.key not in session.measured]:
        if not has_room(session, candidate):
            return
        try:
            measured = session.measure(candidate)
        except UNMEASURABLE as error:
            session.leave_out(candidate, error)
        else:
            session.proposer.tell_known(candidate.label, candidate.schedule, values(session, measured))
        session.allowance.trials += 1


def is_given(candidate: Candidate) -> bool:
    """Whether a user proposed it."""
    return candidate.role == "trial" and candidate.trial is None


def measure_proposal(session: Session, proposal: Proposal) -> None:
    """Measures one proposal and tells its trial, once; a schedule whose samples are not finite fails its trial."""
    label = f"trial {proposal.number}"
    candidate = Candidate(label, "trial", "", session.laboratory.weights, proposal.schedule, proposal.number)
    try:
        session.proposer.tell(proposal.number, values(session, session.measure(candidate)))
    except UNMEASURABLE as error:
        session.proposer.fail(proposal.number)
        session.leave_out(candidate, error)
    session.allowance.trials += 1


def values(session: Session, measured: Measured) -> Values:
    """What Optuna is told of a schedule."""
    worst = worst_excess(session.measured.values(), session.noise)
    return Values(measured.quality, measured.speed, violation(measured, worst))


def has_room(session: Session, candidate: Candidate | None = None) -> bool:
    """Whether another evaluation fits into the budget, with what the front's measurement needs set aside.

    Args:
        session: the study at work.
        candidate: what would be measured; a proposal, whose cost nobody knows yet, counts as half the full schedule.
    """
    allowance, config = session.allowance, session.laboratory.config
    kept, images = reserve(session), config.quality.num_images
    schedule = candidate.schedule if candidate else session.laboratory.frame.full
    seconds = session.objective.seconds(schedule, images) * (1.0 if candidate else 0.5)
    return (
        allowance.trials_left > 0
        and session.proposer.num_trials < config.search.max_trials
        and allowance.seconds_left > kept.seconds + seconds
        and allowance.images_left >= kept.images + images
    )


def _contested(session: Session, rungs: Sequence[Candidate]) -> Candidate | None:
    """The baseline to measure next: one that could spoil the best trial's lead, else the next rung of the ladders."""
    left = [each for each in rungs if each.key not in session.measured.keys() | session.left_out]
    speeds = [(session.objective.images_per_second(each.schedule), each) for each in left]
    return next_rival(list(session.measured.values()), speeds, session.noise) or next(iter(left), None)


def _rungs(session: Session) -> list[Candidate]:
    return ladder(session.laboratory.config.search, session.laboratory.frames)
