"""Evaluations that take their workers with them: the reason is kept, and after some attempts they are given up.

A schedule may need more memory than a machine has, and the kernel then kills whoever samples it. So each loss of a
worker is noted at what it had claimed, and an evaluation that was lost again and again, without a single chunk
committed in between, has failed for good.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from .tables import CHUNKS, EVALUATIONS, FAILURES, LEASES
from .transactions import clock, insert_once

MOST_ATTEMPTS = 5


def lease_name(evaluation: str) -> str:
    """The name of the lease on an evaluation, by its digest."""
    return f"evaluation {evaluation}"


def note_losses(connection: Connection, owner: str, reason: str) -> None:
    """Notes at everything that a lost worker had claimed why it was lost."""
    for row in connection.execute(select(LEASES.c.name, LEASES.c.token).where(LEASES.c.owner == owner)).all():
        kind, _, digest = row.name.partition(" ")
        found = connection.execute(select(EVALUATIONS.c.id).where(EVALUATIONS.c.digest == digest)).scalar()
        if lease_name(digest) == f"{kind} {digest}" and found is not None:
            values = {"owner": owner, "token": row.token, "reason": f"{owner} was lost at it: {reason}", "at": clock()}
            insert_once(connection, FAILURES, {"evaluation_id": found, **values})


def is_lost_cause(connection: Connection, evaluation_id: int) -> bool:
    """Whether an evaluation failed so often since its last chunk that nobody should try again; it has failed then."""
    last = select(func.coalesce(func.max(CHUNKS.c.committed), 0.0)).where(CHUNKS.c.evaluation_id == evaluation_id)
    failures = select(func.count()).where(FAILURES.c.evaluation_id == evaluation_id)
    attempts = connection.execute(failures.where(FAILURES.c.at > last.scalar_subquery())).scalar_one()
    if attempts < MOST_ATTEMPTS:
        return False
    connection.execute(EVALUATIONS.update().where(EVALUATIONS.c.id == evaluation_id).values(failed=True))
    return True
