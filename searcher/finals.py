"""The front, measured again: end to end on the clock, and on noises that no selection saw.

One worker chooses what is compared, so that all measure the same. Images are the elastic part. What is timed is timed
first; then all compared schedules get images in rounds, and one worker works out the values at the count that they have
in common.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..studies.workers import shared_state
from ..studies.workers.shared_state import Choice
from ..studies.workers.turns import turn
from .candidates import Candidate
from .end_to_end import are_timed, time_end_to_end
from .keeping import keep_front
from .reserve import MOST_COMPARED, closing_seconds, promoted, sampling_seconds, timing_seconds
from .rounds import Rounds
from .session import Session
from .target import await_target

# Fewer would compare too little.
LEAST_COMPARED = 8


def measure_front(session: Session) -> None:
    """Times the promoted schedules beside the full one and measures them on final seeds at one count."""
    choice = choose_front(session)
    if choice.measured:
        return
    compared = _chosen(session, choice)
    time_end_to_end(session, compared)
    rounds = Rounds(session, compared)
    rounds.run()
    close(session, choice, rounds)


def choose_front(session: Session) -> Choice:
    """What all workers compare: this one's choice, unless another one was first."""
    while True:
        with turn(session.store, f"front {session.name}", session.crew.worker) as mine:
            if mine:
                session.refresh(now=True)
                session.choice = shared_state.choice_of(session.proposer.study) or _choose(session)
                return session.choice
        session.wait()


def _choose(session: Session) -> Choice:
    compared = affordable(session, promoted(session))
    choice = Choice(session.grant.id, tuple(each.key for each in compared))
    shared_state.choose(session.proposer.study, choice)
    session.watch.say(
        f"comparing {len(compared)} schedules on final seeds: {', '.join(each.label for each in compared)}"
    )
    return choice


def _chosen(session: Session, choice: Choice) -> list[Candidate]:
    """The candidates of a choice, in its order."""
    known = {each.key: each for each in reversed(session.members())}
    return [known[key] for key in choice.compared]


def affordable(session: Session, ranked: Sequence[Candidate]) -> list[Candidate]:
    """As many of them as can be measured at the full final count; a few even if at no more than the search's."""
    quality = session.laboratory.config.quality
    least = min(quality.num_images, quality.final_images)
    counts = range(min(len(ranked), MOST_COMPARED), 0, -1)
    whole = next((n for n in counts if _is_affordable(session, ranked[:n], quality.final_images)), 0)
    some = next((n for n in counts if _is_affordable(session, ranked[:n], least)), 0)
    return list(ranked[: max(whole, min(some, LEAST_COMPARED), min(2, len(ranked)))])


def _is_affordable(session: Session, compared: Sequence[Candidate], count: int) -> bool:
    """Whether what is left buys timing these and bringing each to that many images."""
    seconds = timing_seconds(session, compared) + closing_seconds(session, len(compared), count)
    seconds += sampling_seconds(session, [(each, count) for each in compared])
    allowance = session.allowance
    return seconds <= allowance.seconds_left and count * len(compared) <= allowance.images_left


def close(session: Session, choice: Choice, rounds: Rounds) -> None:
    """Works out the final values at one count, or waits until another worker has done so."""
    while session.choice == choice:
        if are_timed(session, rounds.left):
            with turn(session.store, f"front {session.name}", session.crew.worker) as mine:
                if mine and not shared_state.is_spent(session.proposer.study):
                    _score(session, rounds)
                    keep_front(session)
                    session.choice = replace(choice, measured=True)
                    shared_state.choose(session.proposer.study, session.choice)
                    shared_state.enter(session.proposer.study, shared_state.FINISHED, beside_others=False)
                    return
        else:
            time_end_to_end(session, rounds.left)
            if are_timed(session, rounds.left):
                continue
        await_target(session)


def _score(session: Session, rounds: Rounds) -> None:
    rounds.read()
    seed, count = session.laboratory.config.quality.final_seed, rounds.count
    for candidate in rounds.left:
        session.objective.score(candidate, seed, count)
        session.objective.score_beside(candidate, seed, count)
