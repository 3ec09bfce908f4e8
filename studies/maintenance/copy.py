"""Studies copied whole between databases of either kind: in one transaction, and compared before it is committed."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from ...backends.errors import InputError, StorageError
from ..artifacts.files import ContentMover
from ..database.errors import database_label
from ..database.optuna import tables as optuna
from ..database.tables import CHUNKS, FILES, MEMBERS, ORDERS, STUDIES, THROUGHPUTS, WORKERS
from ..database.transactions import reading, writing
from ..store.evaluation_queries import batches
from ..store.store import Store
from .check import overlapping_chunks
from .rows import Row, RowReference, StudyRows, rows_of_study

_BATCH = 100
# Genetic samplers keep the trials that are parents of a generation, by their identifiers.
_PARENTS = re.compile(r".*:parent:\d+")
# The columns that name a study, beside `study_id`, where its name stands for Optuna's identifier.
_NAMED = {
    **{table.name: "study" for table in (MEMBERS, CHUNKS, THROUGHPUTS, WORKERS, ORDERS, FILES)},
    STUDIES.name: "name",
    "studies": "study_name",
}
# The columns that name a row of one study in every database.
_OWN = {WORKERS.name: "owner", THROUGHPUTS.name: "entry"}


@dataclass(frozen=True)
class Copied:
    """What a copy did: the study's name there, and how many rows of each table were put there.

    `there` is how many rows other studies had already; `digest` is of all rows, the same in both databases.
    """

    study: str
    rows: dict[str, int]
    there: int
    digest: str


def copy_study(source: Store, target: Store, study: str, name: str | None = None, packs: bool = False) -> Copied:
    """Copies a study into another database, under another name if one is given, and compares what is there afterwards.

    Either all of it is there afterwards or nothing; files without rows may be left, which the target's garbage
    collection removes. What both databases have measured stands there once. `packs` is for backups, whose rows hold
    what are files elsewhere.

    Raises:
        InputError: there is no such study, the target has one of that name, or other values of the same evaluations.
        StorageError: a database or its files are out of reach, or features are not those that were committed.
    """
    name = name or study
    source.studies.require(study)
    carrier = ContentMover(source.files, target.files, packs)
    source.files.find()
    if not packs:
        _ = target.files.store  # what is wrong with it is said before anything is copied
    with reading(source.engine) as here, writing(target.engine, durable=True) as there:
        _refuse_known(there, name, database_label(target.engine))
        return _Copy(here, there, study, name, database_label(target.engine), carrier).run()


def _refuse_known(connection: Connection, name: str, where: str) -> None:
    ours = select(STUDIES.c.name).where(STUDIES.c.name == name)
    theirs = select(optuna.STUDIES.c.study_name).where(optuna.STUDIES.c.study_name == name)
    if connection.execute(ours.union(theirs)).first() is not None:
        raise InputError(f"study: `{name}` is in {where} already. Give the copy another name: --as {name}-2.")


@dataclass
class _Copy:
    """One copy at work, between two open transactions."""

    here: Connection
    there: Connection
    study: str
    name: str
    where: str
    carrier: ContentMover
    rows: dict[str, int] = field(default_factory=dict[str, int])
    there_already: int = 0
    all: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    new: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def run(self) -> Copied:
        sources = rows_of_study(self.here, self.study)
        targets = {part.table.name: part for part in rows_of_study(self.there, self.name)}
        numbers = _trial_numbers(self.here, self.study)
        for part in sources:
            rows = _portable(part, _read(self.here, part.rows), numbers)
            self._put(targets[part.table.name], (self._renamed(part, row) for row in rows))
        self._compare(list(targets.values()))
        return Copied(self.name, self.rows, self.there_already, _whole_digest(self.all))

    def _renamed(self, part: StudyRows, row: Row) -> Row:
        """The row under the copy's name. What is a study's own and known by a name everywhere gets another one too."""
        column = _NAMED.get(part.table.name, "study_id" if "study_id" in row else None)
        if self.name == self.study or column is None or row[column] != self.study:
            return row
        row = row | {column: self.name}
        if part.table is STUDIES:
            row["config"] = row["config"] | {"name": self.name}
        if own := _OWN.get(part.table.name):
            row[own] = f"{row[own]}#{self.name}"
        return row

    def _put(self, part: StudyRows, rows: Iterable[Row]) -> None:
        """Inserts the rows of a table that are not there, with this database's identifiers."""
        # The rows of other studies that this one may share.
        shared = _read(self.there, part.all_rows("features")) if part.shared else ()
        there = {_values(row, part.key): row for row in shared}
        known = {reference.column: self._identifiers(reference) for reference in part.references}
        numbers = {number: trial for trial, number in _trial_numbers(self.there, self.name).items()}
        everything, new = list[str](), Counter[str]()
        for batch in batches(rows, _BATCH):
            everything += map(_digest, batch)
            batch = [row for row in batch if not self._is_there(part, row, there)]
            new.update(map(_digest, batch))
            values = [
                self.carrier.moved(part.table, row)
                | {column: identifiers[row[column]] for column, identifiers in known.items()}
                for row in _portable(part, batch, numbers)
            ]
            if values:
                self.there.execute(part.table.insert(), values)
        self.all[part.table.name], self.new[part.table.name] = everything, new
        self.rows[part.table.name] = new.total()
        self.there_already += len(everything) - new.total()

    def _is_there(self, part: StudyRows, row: Row, there: dict[tuple[Any, ...], Row]) -> bool:
        key = _values(row, part.key)
        found = there.get(key) if part.key else None
        if found is None:
            return False
        if _values(row, part.same) != _values(found, part.same):
            raise InputError(
                f"study: {self.where} has other values for measurements of `{self.study}` "
                f"({part.table.name.removeprefix('exeunt_')}: {', '.join(map(str, key))[:120]}), and the two would be "
                "mixed. Copy the study to another database."
            )
        return True

    def _identifiers(self, reference: RowReference) -> dict[Any, int]:
        query = select(reference.name, reference.target).select_from(reference.name.table)
        # Evaluations and conditions are known by digests everywhere, trials by their numbers only within their study.
        query = query if reference.name.name == "digest" else query.where(reference.among)
        return dict(self.there.execute(query).all())

    def _compare(self, targets: list[StudyRows]) -> None:
        """Raises `StorageError` unless every row that was put there is read there again, features included."""
        overlap = overlapping_chunks(self.there)
        if overlap:
            raise InputError(
                f"study: {self.where} has other chunks of the same images ({overlap[0]}). Copy the study elsewhere."
            )
        numbers = _trial_numbers(self.there, self.name)
        for part in targets:
            rows = _portable(part, _read(self.there, part.rows), numbers)
            found = Counter(_digest(self.carrier.arrived(part.table, row)) for row in rows)
            missing = self.new[part.table.name] - found
            if missing:
                raise StorageError(
                    f"study: {missing.total()} rows of {part.table.name} in {self.where} differ from the originals. "
                    "Nothing was copied; run `exeunt db check` on both databases."
                )


def _values(row: Row, columns: tuple[str, ...]) -> tuple[Any, ...]:
    """Values that can be compared and looked up; JSON's lists become tuples."""
    return tuple(tuple(row[name]) if isinstance(row[name], list) else row[name] for name in columns)


def _read(connection: Connection, query: Select[Any]) -> Iterator[Row]:
    """The rows of a query, some at a time, since features need not all fit into memory."""
    for row in connection.execute(query, execution_options={"yield_per": _BATCH}).mappings():
        yield dict(row)


def _digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of a row's contents, the same on every database.

    Features and files count by their own digests. What was worked out of a schedule counts by the schedule.
    """
    contents = {name: value for name, value in row.items() if name not in ("features", "content", "outline")}
    text = json.dumps(contents, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return hashlib.sha256(bytes(value)).hexdigest()


def _whole_digest(rows: Mapping[str, Iterable[str]]) -> str:
    """One digest of the digests of each table's rows, in whatever order these come."""
    whole = hashlib.sha256()
    for table, found in sorted(rows.items()):
        for each in sorted(found):
            whole.update(f"{table} {each}\n".encode())
    return whole.hexdigest()


def _trial_numbers(connection: Connection, study: str) -> dict[int, int]:
    """The numbers of a study's trials by their identifiers."""
    trials, studies = optuna.TRIALS, optuna.STUDIES
    query = select(trials.c.trial_id, trials.c.number).join(studies).where(studies.c.study_name == study)
    return dict(connection.execute(query).all())


def _portable(part: StudyRows, rows: Iterable[Row], translated: Mapping[int, int]) -> Iterator[Row]:
    """Rows whose texts name trials by `translated` instead of their identifiers, or the other way round."""
    for row in rows:
        if part.table.name == "study_system_attributes" and _PARENTS.fullmatch(row["key"]):
            parents = [translated[trial] for trial in json.loads(row["value_json"])]
            row = row | {"value_json": json.dumps(parents)}
        yield row
