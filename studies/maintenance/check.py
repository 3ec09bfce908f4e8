"""Whether a database holds what was put into it: its file, its tables, and what must be true between their rows."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select, text

from ...backends.errors import InputError
from ...backends.schedule import ExeuntError, parse
from ..artifacts.base import DamagedArtifact, MissingArtifact
from ..artifacts.files import CONTENTS, Files, contents, file_name
from ..database.optuna import tables as optuna
from ..database.tables import CHUNKS, EVALUATIONS, FILES, LEASES, MEMBERS, SCHEDULES, STUDIES, WORKERS
from ..database.transactions import clock, reading
from ..store.evaluation_queries import columns_of
from ..store.records import EvaluationKey
from ..workers.trials import OWNER
from ..workers.workers import unended_workers

_BATCH = 100
MOST = 20  # findings of one kind, after which there is nothing to learn from more


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: what was checked: file, schedule, evaluation, chunk, features, files, member, lease or trial.
        what: what was found, in words.
        damage: whether something is lost or wrong; else the next worker puts it right.
    """

    kind: str
    what: str
    damage: bool = True


def check_all(engine: Engine, features: bool = True) -> list[Finding]:
    """Everything that is not as it should be in a current database.

    `features` reads them all, and all files, and holds them to the digests that they were committed with, at about a
    second a gigabyte; without, files need only be there.
    """
    files = Files(engine)
    with reading(engine) as connection:
        checks = [_file, _schedules, _evaluations, _chunks, _members, _leases, _trials]
        found = [finding for each in checks for finding in _few(each(connection))]
    try:
        there = {stored.name for stored in files.listed()}
    except InputError as error:
        return [*found, Finding("files", str(error).rstrip("."))]
    with reading(engine) as connection:
        return [*found, *_few(_contents(connection, files) if features else _names(connection, files, there))]


def _few(findings: Iterator[Finding]) -> Iterator[Finding]:
    for number, finding in enumerate(findings):
        if number == MOST:
            yield Finding(finding.kind, f"and more of this kind after the first {MOST}", finding.damage)
            return
        yield finding


def check_file(engine: Engine) -> list[Finding]:
    """What SQLite finds wrong with its file, whatever tables are in it. A server looks after its own files."""
    with reading(engine) as connection:
        return list(_few(_file(connection)))


def _file(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name != "sqlite":
        return
    for line in connection.execute(text("PRAGMA integrity_check")).scalars():
        if line != "ok":
            yield Finding("file", line)
    for table, row, parent, _ in connection.execute(text("PRAGMA foreign_key_check")):
        yield Finding("file", f"row {row} of {table} refers to a row of {parent} that does not exist")


def _schedules(connection: Connection) -> Iterator[Finding]:
    for row in connection.execute(select(SCHEDULES), execution_options={"yield_per": _BATCH}):
        try:
            found = parse(row.schedule).digest
        except ExeuntError as error:
            yield Finding("schedule", f"{row.digest[:12]} can't be read: {error}")
        else:
            if found != row.digest:
                yield Finding("schedule", f"{row.digest[:12]} has the contents of {found[:12]}")


def _evaluations(connection: Connection) -> Iterator[Finding]:
    for digest, *key in connection.execute(select(EVALUATIONS.c.digest, *columns_of(EVALUATIONS, EvaluationKey))):
        if EvaluationKey(*key).digest != digest:
            yield Finding("evaluation", f"{digest[:12]} has a key that does not match its digest")


def _chunks(connection: Connection) -> Iterator[Finding]:
    for each in overlapping_chunks(connection):
        yield Finding("chunk", f"{each} was committed twice")


def overlapping_chunks(connection: Connection) -> list[str]:
    """The chunks with an image that an earlier one has: "image 128 of evaluation 3f5a…"."""
    end = CHUNKS.c.first_image + CHUNKS.c.num_images
    before = func.max(end).over(partition_by=CHUNKS.c.evaluation_id, order_by=CHUNKS.c.first_image, rows=(None, -1))
    inner = select(CHUNKS.c.evaluation_id, CHUNKS.c.first_image, before.label("before")).subquery()
    query = (
        select(EVALUATIONS.c.digest, inner.c.first_image)
        .join(inner, inner.c.evaluation_id == EVALUATIONS.c.id)
        .where(inner.c.before > inner.c.first_image)
        .order_by(EVALUATIONS.c.id, inner.c.first_image)
    )
    return [f"image {first} of evaluation {digest[:12]}" for digest, first in connection.execute(query)]


def _contents(connection: Connection, files: Files) -> Iterator[Finding]:
    """Features and files that are not those that were committed, each read whole."""
    for table, row, kind, what in _rows_with_contents(connection):
        try:
            contents(table, row, files)
        except DamagedArtifact:
            yield Finding(kind, f"{what} have changed")
        except MissingArtifact as error:
            yield Finding(kind, f"{what} are missing: {str(error).rstrip('.')}")


def _names(connection: Connection, files: Files, there: Collection[str]) -> Iterator[Finding]:
    """Features and files that are not in the store."""
    for table, row, kind, what in _rows_with_contents(connection):
        if row[CONTENTS[table.name]] or file_name(table, row) in there:
            continue
        if not files.store.holds(file_name(table, row)):  # nor was it committed since the store was listed
            yield Finding(kind, f"{what} are missing: the store of files does not have {file_name(table, row)}")


def _rows_with_contents(connection: Connection) -> Iterator[tuple[Table, dict[str, Any], str, str]]:
    """Each row of which contents are kept, with the kind and the words of a finding about it."""
    query = select(CHUNKS, EVALUATIONS.c.digest).join(EVALUATIONS, EVALUATIONS.c.id == CHUNKS.c.evaluation_id)
    for row in connection.execute(query, execution_options={"yield_per": _BATCH}).mappings():
        what = f"those from image {row['first_image']} of evaluation {row['digest'][:12]}"
        yield CHUNKS, dict(row), "features", what
    for row in connection.execute(select(FILES), execution_options={"yield_per": _BATCH}).mappings():
        yield FILES, dict(row), "files", f"{row['kind']} of {row['schedule_digest'][:12]} of study `{row['study']}`"


def _members(connection: Connection) -> Iterator[Finding]:
    """Trials are looked for only in studies that Optuna has: one that never proposed anything has none there."""
    studies, trials = optuna.STUDIES, optuna.TRIALS
    there = (
        select(trials.c.trial_id)
        .join(studies)
        .where(studies.c.study_name == MEMBERS.c.study, trials.c.number == MEMBERS.c.trial_number)
    )
    query = select(MEMBERS.c.study, MEMBERS.c.label).where(MEMBERS.c.trial_number.is_not(None), ~there.exists())
    for study, label in connection.execute(query):
        yield Finding("member", f"`{label}` of study `{study}` has no trial")
    known = select(STUDIES.c.name).where(STUDIES.c.name == studies.c.study_name)
    for name in connection.execute(select(studies.c.study_name).where(~known.exists())).scalars():
        yield Finding("member", f"study `{name}` has trials, but no configuration")


def _leases(connection: Connection) -> Iterator[Finding]:
    """A claim of a worker that ended keeps others waiting until it runs out."""
    ended = select(WORKERS.c.owner).where(WORKERS.c.owner == LEASES.c.owner, WORKERS.c.ended.is_not(None))
    query = select(LEASES.c.name, LEASES.c.owner).where(LEASES.c.expires > clock(), ended.exists())
    for name, owner in connection.execute(query):
        yield Finding("lease", f"{name[:40]} is held by {owner}, which has ended", damage=False)


def _trials(connection: Connection) -> Iterator[Finding]:
    """A running trial whose worker is dead is a zombie until the next worker ends it."""
    trials, attributes = optuna.TRIALS, optuna.USER_ATTRIBUTES
    owner = (attributes.c.trial_id == trials.c.trial_id) & (attributes.c.key == OWNER)
    query = (
        select(trials.c.number, attributes.c.value_json).outerjoin(attributes, owner).where(trials.c.state == "RUNNING")
    )
    alive = {f'"{each.owner}"' for each in unended_workers(connection) if each.dead is None}
    for number, of in connection.execute(query):
        if of not in alive:
            yield Finding("trial", f"trial {number} is running, but its worker ({of or 'none'}) is not", damage=False)
