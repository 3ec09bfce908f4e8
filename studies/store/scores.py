"""What the members of a study scored, in one query of few columns, since `status --watch` asks every few seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from ..config.study import StudyConfig
from ..database.tables import EVALUATIONS, MEMBERS, QUALITIES
from .evaluation_queries import is_of_member


class Scored(NamedTuple):
    """One value of one member.

    Attributes:
        member: the member's identifier; they rise in the order in which members were added.
        floor: as in `records.QualityRecord`.
    """

    member: int
    schedule_digest: str
    family: str
    value: float
    floor: float | None


@dataclass(frozen=True)
class Asked:
    """The questions that a study asks of its members, but for the schedule and the noises.

    Attributes:
        config: the study's, fitted.
        pins: the digests of what its settings name.
    """

    config: StudyConfig
    pins: Mapping[str, str]

    def of(self, seed: int) -> ColumnElement[bool]:
        """The condition that an evaluation is one of them, on the noises of a seed."""
        pinned = {"quality.conditions": EVALUATIONS.c.conditions_digest, "quality.metric": EVALUATIONS.c.extractor}
        return and_(
            EVALUATIONS.c.seed == seed,
            EVALUATIONS.c.dtype == self.config.checkpoint.dtype,
            EVALUATIONS.c.executor == self.config.throughput.executor,
            *(column == self.pins[name] for name, column in pinned.items() if name in self.pins),
        )


def scored(connection: Connection, asked: Asked, seed: int, reference: str | None) -> list[Scored]:
    """The values of a study's primary metric on the search's count of images of a seed, in the order of its members.

    `reference` is what they are compared with; None: whatever it is.
    """
    quality = QUALITIES.c
    query = (
        select(MEMBERS.c.id, MEMBERS.c.schedule_digest, MEMBERS.c.family, quality.value, quality.floor)
        .select_from(MEMBERS)
        .join(EVALUATIONS, is_of_member())
        .join(QUALITIES)
        .where(MEMBERS.c.study == asked.config.name, asked.of(seed), quality.metric == asked.config.quality.metric)
        .where(quality.num_images == asked.config.quality.num_images)
        .order_by(MEMBERS.c.id, quality.id)
    )
    rows = connection.execute(query if reference is None else query.where(quality.reference == reference))
    return [Scored(*row) for row in rows]


def full_question(connection: Connection, asked: Asked, seed: int) -> str | None:
    """The digest of what the full schedule's images answer on the noises of a seed; None before they are sampled."""
    full = (
        select(func.min(MEMBERS.c.id)).where(MEMBERS.c.study == asked.config.name, MEMBERS.c.family == "full")
    ).scalar_subquery()
    query = select(EVALUATIONS.c.digest).join(MEMBERS, is_of_member()).where(MEMBERS.c.id == full, asked.of(seed))
    return connection.execute(query).scalars().first()


def noise(connection: Connection, asked: Asked, search: str, final: str) -> float | None:
    """What another noise changes: the full schedule's images of one question against those of the other."""
    query = (
        select(QUALITIES.c.value)
        .join(EVALUATIONS)
        .where(EVALUATIONS.c.digest == final, QUALITIES.c.reference == search)
        .where(QUALITIES.c.metric == asked.config.quality.metric)
        .order_by(QUALITIES.c.id.desc())
    )
    return connection.execute(query).scalars().first()


def final_stamp(connection: Connection, asked: Asked) -> tuple[int, float]:
    """How many values on final noises a study has, and when the newest was finished; (0, 0.0) before there are any."""
    query = (
        select(func.count(), func.coalesce(func.max(QUALITIES.c.finished), 0.0))
        .select_from(QUALITIES)
        .join(EVALUATIONS)
        .join(MEMBERS, is_of_member())
        .where(MEMBERS.c.study == asked.config.name, asked.of(asked.config.quality.final_seed))
    )
    count, newest = connection.execute(query).one()
    return count, newest
