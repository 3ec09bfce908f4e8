"""The search: the full schedules and a few steps first, then proposals, and in between the baselines that the best must
beat.

Several workers may take part. Each takes what no other has claimed, and waits for others only when nothing else is left
to do.
"""

from collections import deque
from collections.abc import Sequence

from ...studies.store.records import summarized
from ...studies.workers.shared_state import SEARCHING
from ..measuring.objective import AWAITED, UNMEASURABLE
from ..spaces.candidates import FITTED, Candidate, first_baselines, list_baselines
from .promotion import next_rival
from .session import Session

FIT_EVERY = 8  # with `--fit`, one of this many evaluations of the search may be a trial with fitted rows
FIT_FROM = 0.4  # the share of the budget after which rows are fitted: before, there is no front worth it
CALIBRATED_SHARE = 0.08  # of a budget a quick calibration may cost
BASELINE_EVERY = 6  # one of this many evaluations of the search may be a baseline that the best trial must beat
MOST_REPEATS = 200  # so many proposals in a row that were all measured before say that the space holds nothing new
STALLED = 10  # so many proposals that together are expected to gain less than the front's noise end a search
MOST_OPEN = 4  # so many proposals at a time may wait for other workers


def measure_baselines(session: Session) -> None:
    """Measures the full schedules and a few of fewer steps, after timing the kinds of calls that these make in one go.

    Raises DeviceError: this worker's device makes other images than those that the study has.
    """
    first, *rungs = first_baselines(_rungs(session))
    costs = session.objective.costs
    if costs.can_time:
        costs.time_kinds([each.schedule for each in (first, *rungs)])
    while not session.results.is_stated and not _measure_known(session, first):
        session.await_others()
    session.results.device_check.pass_once()
    _measure_nothing(session)  # of a study from before there was a scale
    for candidate in rungs:
        session.refresh()
        if not has_room(session, candidate):
            return
        _measure_known(session, candidate)


def _measure_nothing(session: Session) -> None:
    """Works out what images score that show nothing, unless another worker does or did."""
    while not session.objective.nothing:
        with session.exclusive("scale") as mine:
            if mine:
                session.refresh(now=True)
                if not session.objective.nothing:
                    session.objective.measure_nothing()
                return
        session.wait()


def _measure_known(session: Session, candidate: Candidate) -> bool:
    """Measures a schedule that no sampler proposed, and lets the sampler learn from it where the space can express it.

    One that can't be measured is left out, except the first baseline: everything is stated against it.

    Returns False where another worker measures it, or has to do its part first.
    """
    results = session.results
    try:
        measured = results.measure(candidate)
        _measure_nothing(session)  # the other end of the scale that it is judged by
    except AWAITED:
        return False
    except UNMEASURABLE as error:
        if not results.is_stated:
            raise
        results.leave_out(candidate, error)
        return True
    if candidate.weights == session.study_setup.weights:
        session.proposer.tell_known(measured, session.violation(measured))
    return True


def measure_proposals(session: Session) -> None:
    """Measures the schedules that a user gave, in this session or an earlier one; without any, those of a sampler."""
    if session.results.given:
        _measure_given(session)
    else:
        search(session)


def search(session: Session) -> None:
    """Measures a sampler's proposals until the rest of the budget is needed for the front, or the space is used up."""
    rungs, repeats, evaluations, proposals, gains = _rungs(session), 0, 0, session.open, deque[float](maxlen=STALLED)
    measured = session.results.measured
    _calibrate(session)
    while repeats < MOST_REPEATS and session.choice is None and not session.ended:
        session.refresh()
        proposals.settle()
        if len(proposals.waiting) >= MOST_OPEN or not has_room(session):
            # One that is being measured may yet fail and leave its share of the budget.
            if not proposals.waiting and (session.peers.others == 0 or session.proposer.asked_elsewhere() == 0):
                break
            session.await_others()
            continue
        evaluations += 1
        if evaluations % BASELINE_EVERY == 0 and _measure_contested(session, rungs):
            continue
        if evaluations % FIT_EVERY == 0 and _measure_fitted(session):
            continue
        known = len(measured) + len(session.results.short)
        if proposal := _next_proposal(session):
            session.budget.meter.trials += 1
            if session.study_setup.config.run.until_stalled:
                session.ended = _stalled(session, gains)
            proposals.add(proposal)
            repeats = repeats + 1 if len(measured) + len(session.results.short) == known else 0
    while proposals.waiting:
        session.await_others()
        proposals.settle()
    if session.ended:
        session.watch.say(f"the search ends here: {session.ended}")
    if rung := session.results.rung:
        session.watch.say(
            f"{len(session.results.short)} of {session.proposer.asked()} proposals fell short of the front on "
            f"{rung.count} images and were measured no further; {rung.count} images rank {rung.num_compared} schedules "
            f"as {session.study_setup.config.quality.num_images} do with Kendall's tau {rung.agreement:.2f}"
        )
    if trust := session.proposer.trust:
        session.watch.say(
            f"the search's model ranks {trust.num_known} schedules with Kendall's tau {trust.rank_correlation:.2f} "
            "(leave-one-out)"
        )


def _stalled(session: Session, gains: deque[float]) -> str:
    """Why the search ends: the last proposals together are expected to gain less than the noise of the front.

    Each by itself soon is, and yet many of them gain: on the closed-form network (20 steps, 128 images, seeds 0 to 2)
    ten such in a row came after 48, 35 and 64 proposals, with 89, 82 and 89 % of the hypervolume that 160 have; ten
    that together gain so little came after 65, not at all, and after 74, with 91 and 98 %.

    Args:
        gains: of the proposals before the last one, which is added.
    """
    if (gain := session.proposer.expected_gain) is None:
        gains.clear()
        return ""
    gains.append(gain)
    noise = session.front_noise() if len(gains) == STALLED else None
    if noise is None or sum(gains) > noise:
        return ""
    return (
        f"it has stalled, since {STALLED} proposals in a row were together expected to gain less than the noise of the "
        f"front ({sum(gains):.2g} against {noise:.2g} of hypervolume)"
    )


def _calibrate(session: Session) -> None:
    """Puts the front of a quick calibration next, in a new study that begins with nothing else and can afford it."""
    setup, meter, space = session.study_setup, session.budget.meter, session.study_setup.space
    if not setup.config.search.calibrate or space.name != "free" or not setup.metric.has_features:
        return
    if session.proposer.asked() or session.proposer.is_warm or meter.budget.images is not None:
        return
    if setup.frame.num_blocks < 2:  # no step can run fewer
        return
    from ..sensitivity.quick import quick_cost, quick_front
    from ..spaces.free import require_free
    from ..spaces.nearest import nearest

    cost, config = quick_cost(setup), setup.config
    seconds = cost * session.objective.seconds(session.objective.costs.full, config.quality.num_images)
    if seconds > CALIBRATED_SHARE * meter.seconds_left or cost > CALIBRATED_SHARE * meter.trials_left:
        return
    with session.exclusive("calibration") as mine:
        if not mine:
            return
        found = quick_front(setup, session.watch, session.objective.check)
        points = [near.parameters for each in found if (near := nearest(require_free(space, "front"), each))]
        session.proposer.warm_start(points)
        session.watch.say(
            f"calibrated: {len(points)} schedules to begin with, for {cost:.1f} evaluations of the full one"
        )
    session.watch.phase(SEARCHING, 1.0)


def _measure_contested(session: Session, rungs: Sequence[Candidate]) -> bool:
    """Measures a baseline that could spoil the best trial's lead and that no other worker measures.

    Returns False where there is none.
    """
    results, costs, busy = session.results, session.objective.costs, set[tuple[str, str]]()
    if all(results.is_done(each) for each in rungs):
        return False
    if session.peers.others:
        session.refresh(now=True)
    while left := [
        each for each in rungs if not results.is_done(each) and each.key not in busy and costs.can_tell(each.stored)
    ]:
        speeds = [(costs.batch_size / costs.expected(each.stored), each) for each in left]
        candidate = next_rival(results.ordered, speeds, session.yardstick)
        if candidate is None:
            return False
        if _measure_known(session, candidate):
            return True
        busy.add(candidate.key)
    return False


def _measure_fitted(session: Session) -> bool:
    """Fits the rows of the most promising trial that has none, on noises of their own, and measures that schedule.

    Returns False where nothing was measured: it is too early, no trial is left, or its own rows are better.
    """
    if not session.study_setup.config.search.fit or session.budget.meter.share_spent < FIT_FROM:
        return False
    fitted = {each.candidate.label for each in session.results.ordered if each.candidate.family == FITTED}
    with session.exclusive("fit") as mine:
        for trial in session.promoted() if mine else ():
            label = f"{trial.label}, fitted"
            if trial.trial is None or trial.key in session.fitted or label in fitted:
                continue
            session.fitted.add(trial.key)
            schedule = session.fitter.fitted(trial.schedule)
            if schedule is None:
                session.watch.say(f"{trial.label}: fitted rows are no better")
                return False
            stored = summarized(schedule)
            return _measure_known(session, Candidate(label, "trial", FITTED, trial.weights, stored))
    return False


def _next_proposal(session: Session) -> Candidate | None:
    """Asks for a trial. Near the end of a budget workers take turns, so that together they ask for no more than it has.

    Returns None where it is another worker's turn, or the budget has no room any more.
    """
    if session.peers.others == 0 or _has_plenty(session):
        return session.proposer.ask()
    with session.exclusive("proposals") as mine:
        if mine:
            session.refresh(now=True)
            if has_room(session):
                return session.proposer.ask()
    session.wait()
    return None


def _has_plenty(session: Session) -> bool:
    """Whether there is room for two more proposals of every worker."""
    meter, config, spare = session.budget.meter, session.study_setup.config, 2 * session.peers.size
    images = meter.images_left - session.forecast.reserved(session.promoted())[1]
    trials = min(meter.trials_left, config.search.max_trials - session.proposer.num_trials)
    return trials > spare and images > spare * config.quality.num_images


def _measure_given(session: Session) -> None:
    """Measures the schedules that a user gave and that have no values yet."""
    results, meter = session.results, session.budget.meter
    while left := [each for each in results.given if not results.is_done(each)]:
        waits = True
        # The same ones for all workers, who together measure no more than the budget has.
        for candidate in left[: round(min(meter.trials_left, len(left)))]:
            session.refresh()
            if not has_room(session, candidate):
                return
            if not results.is_done(candidate) and _measure_known(session, candidate):
                waits = False
                meter.trials += 1
                session.open.log.done(candidate.label, failed=candidate.key in results.left_out)
        if meter.trials_left <= 0:
            return
        if waits:
            session.await_others()


def measure_all(session: Session, candidates: Sequence[Candidate]) -> None:
    """Measures what no sampler proposed, as far as the budget goes."""
    while left := [each for each in candidates if not session.results.is_done(each)]:
        session.refresh()
        if not has_room(session, left[0]):
            return
        # Those that another worker measures right now come last.
        if not any(_measure_known(session, each) for each in left):
            session.await_others()


def has_room(session: Session, candidate: Candidate | None = None) -> bool:
    """Whether another evaluation fits into the budget, with what the front's measurement needs set aside.

    That of a proposal, whose cost nobody knows yet, counts as half the full schedule.
    """
    meter, config, objective = session.budget.meter, session.study_setup.config, session.objective
    kept_seconds, kept_images = session.forecast.reserved(session.promoted())
    images = config.quality.num_images
    stored, share = (candidate.stored, 1.0) if candidate else (objective.costs.full, 0.5)
    seconds = share * objective.seconds(stored, images)
    return (
        meter.trials_left > 0
        and session.proposer.num_trials < config.search.max_trials
        and meter.seconds_left > kept_seconds + seconds
        and meter.images_left >= kept_images + images
    )


def _rungs(session: Session) -> list[Candidate]:
    return list_baselines(session.study_setup.frames, session.study_setup.config.search.baselines)
