"""Giving a study a budget, or joining those who spend it already."""

import secrets

from ..studies.workers import shared_state, spending
from ..studies.workers.shared_state import Grant
from ..studies.workers.turns import turn
from .session import Session


def take_grant(session: Session, *, joins: bool, budget_id: str | None) -> None:
    """Gives the session's budget to its study, or makes the session spend what the study was given before.

    Args:
        session: whose allowance is what its command may spend.
        joins: whether a budget that is there holds, spent or not.
        budget_id: names the budget that several processes give together: the first of them gives it.
    """
    while True:
        with turn(session.store, f"budget {session.name}", session.crew.worker) as mine:
            if mine:
                _take(session, joins, budget_id)
                return
        session.rest(0.1)


def _take(session: Session, joins: bool, budget_id: str | None) -> None:
    study = session.proposer.study
    session.proposer.warm_start()
    found = shared_state.grant_of(study)
    if found is not None and (joins or found.id == budget_id or _is_being_spent(session, budget_id)):
        session.spend(found)
        if session.crew.others and budget_id is None:
            workers = f"{session.crew.others} other worker{'s' if session.crew.others > 1 else ''}"
            session.watch.say(f"joining {workers} on a budget of {found.budget}")
        return
    session.grant = Grant(
        id=budget_id or secrets.token_hex(8),
        budget=str(session.allowance.budget),
        started=spending.now(session.store) - session.allowance.seconds,
        trials=session.trials_spent(),
        images=spending.images_spent(session.store, session.name),
    )
    shared_state.give(study, session.grant)


def _is_being_spent(session: Session, budget_id: str | None) -> bool:
    return budget_id is None and session.crew.others > 0 and not shared_state.is_spent(session.proposer.study)
