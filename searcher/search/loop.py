"""The search: a ladder of baselines first, then proposals, and in between the baselines that the best must beat.

Several workers may be at it. Each takes what no other has claimed; what another one is measuring is waited for only
where nothing else is left to do.
"""

from collections.abc import Collection, Mapping, Sequence

from ...studies.config.study import SearchConfig
from ...studies.store.outlines import summarized
from ...studies.workers.workers import exclusive
from ..measuring.candidate import Candidate, from_baseline
from ..measuring.objective import AWAITED, UNMEASURABLE
from ..spaces.baselines import list_baselines, select
from ..spaces.frame import FullSchedule
from .promotion import Measured, next_rival, violation, worst_excess
from .proposer import Proposal, Values
from .reserve import reserve
from .session import Session, await_target

# The full schedules and one or two of each family: what a front can't do without, whatever the budget.
FIRST_BASELINES = 8
# One of this many evaluations of the search is a baseline.
BASELINE_EVERY = 4
# So many proposals in a row that were all measured before say that the space holds nothing new.
MOST_REPEATS = 200
# So many proposals at a time may wait for other workers.
MOST_OPEN = 4


def ladder(config: SearchConfig, frames: Mapping[str, FullSchedule]) -> list[Candidate]:
    """All baselines of a study, in the order in which they are worth measuring.

    Args:
        config: says which families.
        frames: by the name of the weights; the study's own come first.
    """
    (weights, frame), *others = frames.items()
    rows = list_baselines(frame, weights, [(each, name) for name, each in others])
    return [from_baseline(row, weights) for row in select(rows, config.baselines)]


def measure_baselines(session: Session) -> None:
    """Measures the first rungs of every ladder, after timing all kinds of calls that baselines make in one go.

    Raises:
        DeviceError: this worker's device makes other images than those that the study has.
    """
    first, *rungs = _rungs(session)
    if session.costs.can_time:
        session.costs.time_kinds([each.schedule for each in (first, *rungs)])
    while not session.is_stated and not measure_baseline(session, first):
        await_target(session)
    session.trust.pass_once()
    for candidate in rungs[: FIRST_BASELINES - 1]:
        session.refresh()
        if not has_room(session, candidate):
            return
        measure_baseline(session, candidate)


def measure_baseline(session: Session, candidate: Candidate) -> bool:
    """Measures one baseline and lets the sampler learn from it where the space can express it.

    One that can't be measured is left out, except the first one: everything is stated against it.

    Returns:
        False where another worker is at it, or it has to wait for one.
    """
    try:
        measured = session.measure(candidate)
    except AWAITED:
        return False
    except UNMEASURABLE as error:
        if not session.is_stated:
            raise
        session.leave_out(candidate, error)
        return True
    if candidate.weights == session.study_setup.weights:
        tell_known(session, candidate, measured)
    return True


def tell_known(session: Session, candidate: Candidate, measured: Measured) -> None:
    """Lets the sampler learn from a schedule that it did not propose, once."""
    session.proposer.tell_known(candidate.label, candidate.schedule, told_values(session, measured))


def measure_proposals(session: Session) -> None:
    """Measures the schedules that a user gave, in this session or an earlier one; without any, those of a sampler."""
    if session.given:
        measure_given(session)
    else:
        search(session)


def search(session: Session) -> None:
    """Measures a sampler's proposals until the rest of the budget is needed for the front, or the space is used up."""
    rungs, repeats, evaluations = _rungs(session), 0, 0
    while repeats < MOST_REPEATS and session.choice is None:
        session.refresh()
        settle_proposals(session)
        if len(session.open) >= MOST_OPEN or not has_room(session):
            if not is_awaited(session):
                break
            await_target(session)
            continue
        evaluations += 1
        if evaluations % BASELINE_EVERY == 0 and measure_contested(session, rungs):
            continue
        known = len(session.measured)
        if proposal := next_proposal(session):
            measure_proposal(session, proposal)
            repeats = repeats + 1 if len(session.measured) == known else 0
    while session.open:
        await_target(session)
        settle_proposals(session)


def is_awaited(session: Session) -> bool:
    """Whether proposals are being measured, of which one may yet fail and leave its share of the budget."""
    return bool(session.open) or (session.peers.others > 0 and session.proposer.asked_elsewhere() > 0)


def measure_contested(session: Session, rungs: Sequence[Candidate]) -> bool:
    """Measures the baseline that matters most of those that no other worker is at; False where there is none."""
    busy: set[tuple[str, str]] = set()
    if all(session.is_done(each) for each in rungs):
        return False
    if session.peers.others:
        session.refresh(now=True)
    while candidate := _contested(session, rungs, busy):
        if measure_baseline(session, candidate):
            return True
        busy.add(candidate.key)
    return False


def next_proposal(session: Session) -> Proposal | None:
    """Asks for a trial. Near the end of a budget workers take turns, so that together they ask for no more than it has.

    Returns:
        None where it is another worker's turn, or the budget has no room any more.
    """
    if session.peers.others == 0 or _has_plenty(session):
        return session.proposer.ask()
    with exclusive(session.store, f"proposals {session.name}", session.peers.worker) as mine:
        if mine:
            session.refresh(now=True)
            if has_room(session):
                return session.proposer.ask()
    session.wait()
    return None


def _has_plenty(session: Session) -> bool:
    """Whether there is room for two more proposals of every worker."""
    meter, config, spare = session.meter, session.study_setup.config, 2 * session.peers.size
    images = meter.images_left - reserve(session).images
    trials = min(meter.trials_left, config.search.max_trials - session.proposer.num_trials)
    return trials > spare and images > spare * config.quality.num_images


def measure_given(session: Session) -> None:
    """Measures the schedules that a user gave and that have no values yet."""
    while left := [each for each in session.given if not session.is_done(each)]:
        waits = True
        # The same ones for all workers, who together measure no more than the budget has.
        for candidate in left[: round(min(session.meter.trials_left, len(left)))]:
            session.refresh()
            if not has_room(session, candidate):
                return
            if not session.is_done(candidate) and measure_given_one(session, candidate):
                waits = False
        if session.meter.trials_left <= 0:
            return
        if waits:
            await_target(session)


def measure_given_one(session: Session, candidate: Candidate) -> bool:
    """Measures one schedule that a user gave; False where another worker is at it."""
    try:
        measured = session.measure(candidate)
    except AWAITED:
        return False
    except UNMEASURABLE as error:
        session.leave_out(candidate, error)
    else:
        tell_known(session, candidate, measured)
    session.meter.trials += 1
    session.log.done(candidate.label, failed=session.is_left_out(candidate))
    return True


def measure_proposal(session: Session, proposal: Proposal) -> None:
    """Measures one proposal and tells its trial, once; a schedule whose samples are not finite fails its trial."""
    label = f"trial {proposal.number}"
    candidate = Candidate(
        label, "trial", "", session.study_setup.weights, summarized(proposal.schedule), proposal.number
    )
    session.open.append(candidate)
    session.meter.trials += 1
    settle_proposals(session)


def settle_proposals(session: Session) -> None:
    """Measures open proposals and tells their trials; those that another worker has to do its part for stay open."""
    session.open = [each for each in session.open if not _settled(session, each)]


def _settled(session: Session, candidate: Candidate) -> bool:
    assert candidate.trial is not None, "a sampler's proposal"
    try:
        session.proposer.tell(candidate.trial, told_values(session, session.measure(candidate)))
    except AWAITED:
        return False
    except UNMEASURABLE as error:
        session.proposer.fail(candidate.trial, str(error))
        session.leave_out(candidate, error)
    session.log.done(candidate.label, failed=session.is_left_out(candidate))
    return True


def told_values(session: Session, measured: Measured) -> Values:
    """What Optuna is told of a schedule."""
    worst = worst_excess(session.results, session.noise)
    return Values(measured.quality, measured.speed, violation(measured, worst))


def has_room(session: Session, candidate: Candidate | None = None) -> bool:
    """Whether another evaluation fits into the budget, with what the front's measurement needs set aside.

    Args:
        session: the study at work.
        candidate: what would be measured; a proposal, whose cost nobody knows yet, counts as half the full schedule.
    """
    meter, config = session.meter, session.study_setup.config
    kept, images = reserve(session), config.quality.num_images
    schedule = candidate.schedule if candidate else session.study_setup.frame.full
    seconds = session.objective.seconds(schedule, images) * (1.0 if candidate else 0.5)
    return (
        meter.trials_left > 0
        and session.proposer.num_trials < config.search.max_trials
        and meter.seconds_left > kept.seconds + seconds
        and meter.images_left >= kept.images + images
    )


def _contested(session: Session, rungs: Sequence[Candidate], busy: Collection[tuple[str, str]]) -> Candidate | None:
    """The baseline to measure next: one that could spoil the best trial's lead, else the next rung of the ladders."""
    left = [each for each in rungs if not session.is_done(each) and each.key not in busy]
    left = [each for each in left if session.costs.can_tell(each.stored)]
    speeds = [(session.costs.images_per_second(each.stored), each) for each in left]
    return next_rival(session.results, speeds, session.noise) or next(iter(left), None)


def _rungs(session: Session) -> list[Candidate]:
    return ladder(session.study_setup.config.search, session.study_setup.frames)
