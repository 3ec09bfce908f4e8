"""The evaluation store: which images were sampled for which question, and their features.

A worker claims an evaluation, commits its images in chunks, and releases it; the next one to claim it goes on from the
last committed chunk. The same image of the same question is never sampled twice, in any study of the database.
Features are files, written before the row that names them: what is cut off in between is a file without a row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, select, true

from ...backends.errors import ExeuntError, StorageError
from ...backends.schedule import Schedule
from ..artifacts.base import DamagedArtifact, MissingArtifact
from ..artifacts.files import (
    FEATURES_SUFFIX,
    STORED,
    Files,
    UnusableFeatures,
    contents,
    packed_features,
    packed_statistics,
    unpacked_statistics,
)
from ..database.errors import corrupt_values, database_label
from ..database.tables import CHUNKS, EVALUATIONS, FAILURES, MEMBERS, SCHEDULES
from ..database.transactions import clock, insert_once, read, reading, retrying, writing
from ..database.urls import redact
from . import evaluation_queries as queries
from . import leases
from .records import ChunkRecord, Claim, EvaluationKey, EvaluationRecord, Member, ScheduleSummary


class FailedEvaluation(ExeuntError):
    """The evaluation failed for good: its images are not available."""

    identifier = "failed-evaluation"


class DamagedFeatures(StorageError):
    """Stored features that are not those that were committed, or whose file is gone.

    Attributes:
        images: those that they belong to. Sample them again and put them back with `EvaluationStore.restore`.
    """

    identifier = "damaged-features"

    def __init__(self, message: str, images: range) -> None:
        super().__init__(message)
        self.images = images


__all__ = ["DamagedFeatures", "EvaluationStore", "FailedEvaluation", "UnusableFeatures"]


@final
class EvaluationStore:
    """Evaluations in the database of an engine, with their features in its files.

    Every method is one transaction, or raises `StorageError`.
    """

    def __init__(self, engine: Engine, files: Files) -> None:
        self.engine = engine
        self.files = files

    def stored_schedules(self, study: str) -> dict[str, ScheduleSummary]:
        """The schedules of a study's members, by digest: what lists need of them at once, the rest when it is asked."""
        members = select(MEMBERS.c.schedule_digest).where(MEMBERS.c.study == study)
        return read(self.engine, lambda connection: queries.held_schedules(connection, SCHEDULES.c.digest.in_(members)))

    def held(self, digests: Iterable[str]) -> dict[str, ScheduleSummary]:
        """The same of the schedules with these digests; those that are not there are left out."""
        found: dict[str, ScheduleSummary] = {}
        for some in queries.batches(sorted(set(digests))):
            among = SCHEDULES.c.digest.in_(some)
            found |= read(self.engine, lambda connection, among=among: queries.held_schedules(connection, among))
        return found

    @retrying
    def claim(
        self,
        key: EvaluationKey,
        owner: str,
        lease_seconds: float,
        study: str | None = None,
        schedule: Schedule | None = None,
        member: Member | None = None,
    ) -> Claim | None:
        """The right to add images to an evaluation, or None while another worker has it.

        Its schedule must be stored, or is with `schedule`. It becomes the `member` of the study, if there is one.

        Raises:
            FailedEvaluation: it failed for good, or was lost too often; the message has the reason.
        """
        row = None if schedule is None else queries.schedule_row(schedule)
        with writing(self.engine) as connection:
            if row is not None:
                insert_once(connection, SCHEDULES, row)
            if study is not None and member is not None:
                queries.insert_member(connection, study, member)
            insert_once(connection, EVALUATIONS, {"digest": key.digest, "failed": False, **asdict(key)})
            token = leases.take(connection, leases.lease_name(key.digest), owner, lease_seconds)
            row = connection.execute(select(EVALUATIONS).where(EVALUATIONS.c.digest == key.digest)).one()
            failed = row.failed or (token is not None and leases.is_abandoned(connection, row.id))
            reason = queries.reasons_of(connection, [row.id])[row.id][-1] if failed else None
            if failed and token is not None:
                leases.free(connection, leases.lease_name(key.digest), owner, token)
        if failed:
            raise FailedEvaluation(f"evaluation {key.digest[:12]}: {reason}")
        return None if token is None else Claim(key.digest, owner, token, lease_seconds, study)

    @retrying
    def release(self, claim: Claim) -> None:
        """Gives the claim back, so that another worker need not wait for its lease to end. Again is no error."""
        with writing(self.engine) as connection:
            leases.free(connection, leases.lease_name(claim.evaluation), claim.owner, claim.token)

    @retrying
    def fail(self, claim: Claim, reason: str, final: bool = True) -> None:
        """Notes why the work failed, and gives the claim back. Unless `final`, the evaluation may be claimed again.

        Noting it again for the same claim changes nothing.
        """
        note = {"owner": claim.owner, "token": claim.token, "reason": redact(reason), "at": clock()}
        with writing(self.engine, durable=True) as connection:
            evaluation = queries.evaluation_id(connection, claim.evaluation)
            if queries.has_row(connection, FAILURES, evaluation_id=evaluation, owner=claim.owner, token=claim.token):
                return
            _hold(connection, claim)
            connection.execute(FAILURES.insert().values(evaluation_id=evaluation, **note))
            if final:
                connection.execute(EVALUATIONS.update().where(EVALUATIONS.c.id == evaluation).values(failed=True))
            leases.free(connection, leases.lease_name(claim.evaluation), claim.owner, claim.token)

    @retrying
    def commit_chunk(
        self,
        claim: Claim,
        first_image: int,
        features: NDArray[np.float32],
        seconds: float,
        *,
        statistics: NDArray[np.float32] | None = None,
        last: bool = False,
    ) -> None:
        """Commits the features (n, D) of images [first_image, first_image + n), and starts the claim's lease again.

        Beside them stand the `statistics` (n, S) of their pixels. With the `last` chunk of a claim, the claim is given
        back.

        They are stored as float16, which costs a relative 5e-4 a feature. Committing the very same chunk again is no
        error, so that a commit whose answer was lost can be repeated. `seconds` is the device time that they took.

        Raises:
            StaleClaim: another worker has taken the evaluation over; nothing was committed.
            UnusableFeatures: a feature is not finite or beyond 65504; nothing was committed.
            NoRoom: the disk of the files or of the database stayed full; nothing was committed.
        """
        values: dict[str, Any] = self._filed(features, first_image)
        values |= {"seconds": seconds, "statistics": packed_statistics(statistics)}
        values |= {"owner": claim.owner, "study": claim.study}
        with reading(self.engine) as connection:  # before anybody has to wait for this transaction
            evaluation = queries.evaluation_id(connection, claim.evaluation)
        with writing(self.engine, durable=True) as connection:
            try:
                _hold(connection, claim)
            except leases.StaleClaim:
                own = {name: values[name] for name in ("first_image", "num_images", "sha256", "owner")}
                if last and queries.has_row(connection, CHUNKS, evaluation_id=evaluation, **own):
                    return  # It was given back by this very commit, whose answer was lost.
                raise
            if not queries.is_committed(connection, evaluation, values):
                committed = queries.moment(claim.study)
                connection.execute(CHUNKS.insert().values(evaluation_id=evaluation, committed=committed, **values))
                self.files.require(values["sha256"], FEATURES_SUFFIX)
            if last:
                leases.free(connection, leases.lease_name(claim.evaluation), claim.owner, claim.token)

    @retrying
    def restore(
        self,
        claim: Claim,
        first_image: int,
        features: NDArray[np.float32],
        seconds: float,
        *,
        statistics: NDArray[np.float32] | None = None,
    ) -> None:
        """Puts features (n, D), sampled again, in the place of a committed chunk's that are damaged or gone.

        The row stays and counts as before; what sampling again took is added to it. Errors are those of `commit_chunk`.
        """
        values = self._filed(features, first_image)
        with writing(self.engine, durable=True) as connection:
            _hold(connection, claim)
            evaluation = queries.evaluation_id(connection, claim.evaluation)
            same = (CHUNKS.c.evaluation_id == evaluation) & (CHUNKS.c.first_image == first_image)
            row = connection.execute(select(CHUNKS.c.num_images, CHUNKS.c.width).where(same)).one()
            assert tuple(row) == (values["num_images"], values["width"]), "a chunk is fixed whole"
            values |= {"seconds": CHUNKS.c.seconds + seconds, "statistics": packed_statistics(statistics)}
            connection.execute(CHUNKS.update().where(same).values(values))
            self.files.require(values["sha256"], FEATURES_SUFFIX)

    def _filed(self, features: NDArray[np.float32], first_image: int) -> dict[str, Any]:
        """The columns of a chunk whose features are a file, which is there for good afterwards."""
        data = packed_features(features, first_image)
        return {
            "first_image": first_image, "num_images": features.shape[0], "width": features.shape[1],
            "sha256": self.files.put(data, FEATURES_SUFFIX), "features": b"",
        }  # fmt: skip

    def missing(self, key: EvaluationKey, images: range) -> list[range]:
        """The parts of `images` that no chunk holds, in order."""
        query = queries.chunks_of(key, images, CHUNKS.c.first_image, CHUNKS.c.num_images)
        rows = read(self.engine, lambda connection: connection.execute(query).all())
        parts: list[range] = []
        start = images.start
        for row in rows:
            if row.first_image > start:
                parts.append(range(start, row.first_image))
            start = row.first_image + row.num_images
        return [*parts, range(start, images.stop)] if start < images.stop else parts

    def features(self, key: EvaluationKey, images: range) -> NDArray[np.float32] | None:
        """The features (n, D) of `images` in order, or None if some are missing.

        Raises:
            DamagedFeatures: what is stored is not what was committed.
        """
        columns = CHUNKS.c.first_image, CHUNKS.c.num_images, CHUNKS.c.width, CHUNKS.c.sha256, CHUNKS.c.features
        query = queries.chunks_of(key, images, *columns)
        rows = read(self.engine, lambda connection: connection.execute(query).mappings().all())
        parts = [self._part(row, images, key) for row in rows]
        if sum(len(part) for part in parts) < len(images) or not parts:
            return None
        return np.concatenate(parts)

    def statistics(self, key: EvaluationKey, images: range) -> NDArray[np.float32] | None:
        """The statistics (n, S) of the pixels of `images` in order, or None if some have none."""
        query = queries.chunks_of(key, images, CHUNKS.c.first_image, CHUNKS.c.num_images, CHUNKS.c.statistics)
        rows = read(self.engine, lambda connection: connection.execute(query).all())
        with corrupt_values(database_label(self.engine)):
            whole = [unpacked_statistics(row.statistics, row.num_images) for row in rows]
        parts = [
            values[max(images.start - row.first_image, 0) : images.stop - row.first_image]
            for row, values in zip(rows, whole, strict=True)
            if values is not None
        ]
        if sum(map(len, parts)) < len(images) or len({part.shape[1] for part in parts}) != 1:
            return None
        return np.concatenate(parts)

    def _part(self, row: Mapping[Any, Any], images: range, key: EvaluationKey) -> NDArray[np.float32]:
        """The features of a chunk that are among `images`."""
        first, count = row["first_image"], row["num_images"]
        try:
            data = contents(CHUNKS, row, self.files)
        except (MissingArtifact, DamagedArtifact) as error:
            raise DamagedFeatures(
                f"storage: features must have the digest they were committed with, but those from image "
                f"{first} of evaluation {key.digest[:12]} have changed or are missing: {error}",
                range(first, first + count),
            ) from None
        stored = np.frombuffer(data, dtype=STORED).reshape(count, row["width"])
        return stored[max(images.start - first, 0) : images.stop - first].astype(np.float32)

    def evaluations(self, study: str | None = None) -> list[EvaluationRecord]:
        """All evaluations, or those of a study's schedules on their weights, in the order of their first claims."""
        condition = queries.of_study(study)
        return read(self.engine, lambda connection: list(queries.evaluation_records(connection, condition)))

    def chunks(self, study: str | None = None) -> list[ChunkRecord]:
        """All committed chunks, or those that a study paid for, in the order of their commits."""
        query = select(EVALUATIONS.c.digest, *queries.columns_of(CHUNKS, ChunkRecord)).join_from(CHUNKS, EVALUATIONS)
        query = query.where(true() if study is None else queries.paid_by(study)).order_by(CHUNKS.c.id)
        return [ChunkRecord(*row) for row in read(self.engine, lambda connection: connection.execute(query).all())]


def _hold(connection: Connection, claim: Claim) -> None:
    leases.hold_lease(connection, leases.lease_name(claim.evaluation), claim.owner, claim.token, claim.lease_seconds)
