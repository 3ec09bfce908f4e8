"""Leases: one owner at a time for a name, until a moment on the database's clock, with a token that only rises.

The clock decides when others may take a lease over; the token decides whether a commit counts. So a worker that slept
through its lease does no harm when it wakes up: whoever took over has a higher token, and the sleeper's is refused.
(Fencing tokens are Chubby's sequencers: Burrows, OSDI 2006, section 2.4.)
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from ..backends.errors import ExeuntError
from .tables import LEASES
from .transactions import clock, insert_once


class StaleClaim(ExeuntError):
    """Another worker has taken over what this one had claimed; its work on it must not be committed."""

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


def hold(connection: Connection, name: str, owner: str, token: int, seconds: float) -> None:
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
