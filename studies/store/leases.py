"""Leases: one owner at a time for a name, until a moment on the database's clock, with a token that only rises.

The clock decides when others may take a lease over; the token decides whether a commit counts. So a worker that slept
through its lease does no harm when it wakes up: its successor has a higher token, and the sleeper's is refused.
(Fencing tokens are Chubby's sequencers: Burrows, OSDI 2006, section 2.4.)

A schedule may need more memory than a machine has, and the kernel then kills the process that samples it. So each loss
of a worker is noted with its reason at what it had claimed, and an evaluation that was lost again and again, without a
single chunk committed in between, has failed for good.
"""

from sqlalchemy import Connection, func, select

from ...backends.errors import ExeuntError
from ..database.tables import CHUNKS, EVALUATIONS, FAILURES, LEASES
from ..database.transactions import clock, insert_once


class StaleClaim(ExeuntError):
    """Another worker has taken over a claim of this one, whose work on it must not be committed."""

    exit_code = 75
    identifier = "stale-claim"


def take(connection: Connection, name: str, owner: str, seconds: float) -> int | None:
    """The new token, or None while another owner's lease lives. Taking one's own again makes its older token stale."""
    insert_once(connection, LEASES, {"name": name, "owner": None, "token": 0, "expires": 0.0})
    row = connection.execute(
        select(LEASES.c.owner, LEASES.c.token, (LEASES.c.expires > clock()).label("live"))
        .where(LEASES.c.name == name)
        .with_for_update()
    ).one()
    if row.live and row.owner not in (None, owner):
        return None
    values = {"owner": owner, "token": row.token + 1, "expires": clock() + seconds}
    connection.execute(LEASES.update().where(LEASES.c.name == name).values(values))
    return row.token + 1


def hold_lease(connection: Connection, name: str, owner: str, token: int, seconds: float) -> None:
    """Extends a lease, and keeps it from changing hands until this transaction ends.

    Raises:
        StaleClaim: the token is old. One that expired and that nobody took over is still good.
    """
    mine = (LEASES.c.name == name) & (LEASES.c.owner == owner) & (LEASES.c.token == token)
    if connection.execute(LEASES.update().where(mine).values(expires=clock() + seconds)).rowcount == 0:
        raise StaleClaim(f"claim of {name}: another worker has taken it over from {owner}. Drop this work and go on.")


def free(connection: Connection, name: str, owner: str, token: int) -> None:
    """Gives a lease back; one that was taken over is left alone."""
    mine = (LEASES.c.name == name) & (LEASES.c.owner == owner) & (LEASES.c.token == token)
    connection.execute(LEASES.update().where(mine).values(owner=None, expires=0.0))


def renew_all(connection: Connection, owner: str, seconds: float) -> None:
    """Extends every lease of an owner."""
    connection.execute(LEASES.update().where(LEASES.c.owner == owner).values(expires=clock() + seconds))


def free_all(connection: Connection, owner: str) -> None:
    """Takes every lease from an owner that is gone, and makes its tokens stale in case it is not."""
    values = {"owner": None, "expires": 0.0, "token": LEASES.c.token + 1}
    connection.execute(LEASES.update().where(LEASES.c.owner == owner).values(values))


MOST_ATTEMPTS = 5


def lease_name(evaluation: str) -> str:
    """The name of the lease on an evaluation, by its digest."""
    return f"evaluation {evaluation}"


def note_abandoned(connection: Connection, owner: str, reason: str) -> None:
    """Notes at everything that a lost worker had claimed why it was lost."""
    for row in connection.execute(select(LEASES.c.name, LEASES.c.token).where(LEASES.c.owner == owner)).all():
        kind, _, digest = row.name.partition(" ")
        found = connection.execute(select(EVALUATIONS.c.id).where(EVALUATIONS.c.digest == digest)).scalar()
        if lease_name(digest) == f"{kind} {digest}" and found is not None:
            values = {
                "owner": owner,
                "token": row.token,
                "reason": f"{owner} was lost while it worked on it: {reason}",
                "at": clock(),
            }
            insert_once(connection, FAILURES, {"evaluation_id": found, **values})


def is_abandoned(connection: Connection, evaluation_id: int) -> bool:
    """Whether an evaluation failed so often since its last chunk that nobody should try again; it has failed then."""
    last = select(func.coalesce(func.max(CHUNKS.c.committed), 0.0)).where(CHUNKS.c.evaluation_id == evaluation_id)
    failures = select(func.count()).where(FAILURES.c.evaluation_id == evaluation_id)
    attempts = connection.execute(failures.where(FAILURES.c.at > last.scalar_subquery())).scalar_one()
    if attempts < MOST_ATTEMPTS:
        return False
    connection.execute(EVALUATIONS.update().where(EVALUATIONS.c.id == evaluation_id).values(failed=True))
    return True
