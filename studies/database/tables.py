"""The tables of a study database. They stand beside Optuna's, whose names they avoid with a prefix.

Version 4. A change of anything here is a new version and a step in `migrations.py`.

SQLite keeps any value in any column, so what is read is checked against the column's type. PostgreSQL keeps to the
types itself, and there the database's own conversions stand. What SQL works out of columns has their types too: sums
and differences of numbers of a type must be of it.
"""

from math import inf
from typing import Any, ClassVar, Protocol

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from .errors import foreign

YEAR_10000 = 253402300800.0  # in seconds since 1970; Python's dates end before it


class _Processor(Protocol):
    def __call__(self, value: Any) -> Any: ...


class _Checked(TypeDecorator[Any]):
    """A type whose values are checked when SQLite hands them out. NULL passes: outer joins have it in any column.

    Attributes:
        rule: what a value must be, in words.
        kinds: the Python types that it comes in.
        below: what the size of a number must be less than; None for what is no number.
    """

    impl = String
    cache_ok = True
    rule: ClassVar[str]
    kinds: ClassVar[tuple[type, ...]]
    below: ClassVar[float | None] = None

    def result_processor(self, dialect: Dialect, coltype: object) -> _Processor | None:
        """Of SQLAlchemy: what each value read from the database is sent through.

        It raises `StorageError` for a value of another type.
        """
        return self._check if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    def _check(self, value: Any) -> Any:
        if value is None or (type(value) in self.kinds and (self.below is None or abs(value) < self.below)):
            return value
        raise foreign("the database", f"expected {self.rule}, but found {value!r:.80}")


class CheckedString(_Checked):
    """Text; with a length, of at most so many characters."""

    impl, cache_ok = String, True
    rule, kinds = "text", (str,)


class CheckedText(CheckedString):
    """Text of any length."""

    impl, cache_ok = Text, True


class CheckedInteger(_Checked):
    """A whole number, on PostgreSQL of 32 bits."""

    impl, cache_ok = Integer, True
    rule, kinds = "a whole number", (int,)


class BigWhole(CheckedInteger):
    """A whole number of 64 bits."""

    impl, cache_ok = BigInteger, True


class Number(_Checked):
    """A finite number."""

    impl, cache_ok = Float, True
    rule, kinds, below = "a finite number", (int, float), inf


class Timestamp(Number):
    """A point in time on the database's clock, in seconds since 1970 and before the year 10000; or between two."""

    impl, cache_ok = Float, True
    rule, below = "seconds since 1970", YEAR_10000


class Bytes(_Checked):
    """Bytes."""

    impl, cache_ok = LargeBinary, True
    rule, kinds = "bytes", (bytes,)


METADATA = MetaData()
DIGEST = CheckedString(64)
_NAME = CheckedString(512)


def _table(name: str, *contents: Column[object] | UniqueConstraint | Index) -> Table:
    return Table(f"exeunt_{name}", METADATA, *contents)


def _filled(kind: Any, *names: str) -> list[Column[object]]:
    """Columns of one type that are never NULL."""
    return [Column(name, kind, nullable=False) for name in names]


VERSION_TABLE = _table("version", Column("version", CheckedInteger, nullable=False))

STUDIES = _table(
    "studies",
    Column("name", _NAME, primary_key=True),
    *_filled(JSON, "config", "pins"),
    Column("created", Timestamp, nullable=False),
)

# `outline` is worked out of `schedule`, so that thousands can be listed without reading them; see `records.py`.
SCHEDULES = _table(
    "schedules",
    Column("digest", DIGEST, primary_key=True),
    Column("schedule", CheckedText, nullable=False),
    Column("outline", JSON(none_as_null=True)),
)

MEMBERS = _table(
    "members",
    Column("id", CheckedInteger, primary_key=True),
    Column("study", _NAME, ForeignKey("exeunt_studies.name"), nullable=False),
    *_filled(_NAME, "label", "role", "family"),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("weights_sha256", CheckedText, nullable=False),
    Column("weights_name", _NAME, nullable=False),
    Column("trial_number", CheckedInteger),
    UniqueConstraint("study", "label", "weights_sha256"),
    Index("exeunt_members_schedule", "schedule_digest"),
)

# `digest` is that of the whole key; the key's parts stand beside it so that they can be selected by.
EVALUATIONS = _table(
    "evaluations",
    Column("id", CheckedInteger, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("weights_sha256", CheckedText, nullable=False),
    Column("conditions_digest", _NAME, nullable=False),
    Column("seed", BigWhole, nullable=False),
    *_filled(_NAME, "extractor", "dtype", "executor"),
    Column("failed", Boolean, nullable=False),
    Index("exeunt_evaluations_schedule", "schedule_digest"),
)

FAILURES = _table(
    "failures",
    Column("id", CheckedInteger, primary_key=True),
    Column("evaluation_id", CheckedInteger, ForeignKey("exeunt_evaluations.id"), nullable=False, index=True),
    Column("owner", _NAME, nullable=False),
    Column("reason", CheckedText, nullable=False),
    Column("at", Timestamp, nullable=False),
    Column("token", CheckedInteger),
    # The same failure of the same claim is noted once, however often its transaction is repeated.
    Index("exeunt_failures_once", "evaluation_id", "owner", "token", unique=True),
)

# A lease stays when it is free, with its last token, so that tokens only rise. `expires` is on the database's clock.
LEASES = _table(
    "leases",
    Column("name", _NAME, primary_key=True),
    Column("owner", _NAME, index=True),
    Column("token", CheckedInteger, nullable=False),
    Column("expires", Timestamp, nullable=False),
)

# `features` is empty where they are a file of the artifact store, whose name is `sha256`; those of earlier versions and
# of backups are here. `statistics` are those of the pixels of each image, in base64; earlier versions have none.
# Features stand last: SQLite then reads the other columns without the pages that they overflow to.
CHUNKS = _table(
    "chunks",
    Column("id", CheckedInteger, primary_key=True),
    Column("evaluation_id", CheckedInteger, ForeignKey("exeunt_evaluations.id"), nullable=False),
    Column("first_image", BigWhole, nullable=False),
    *_filled(CheckedInteger, "num_images", "width"),
    Column("seconds", Number, nullable=False),
    Column("owner", _NAME, nullable=False),
    Column("study", _NAME, index=True),
    Column("committed", Timestamp, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("statistics", CheckedText),
    Column("features", Bytes, nullable=False),
    UniqueConstraint("evaluation_id", "first_image"),
)

QUALITIES = _table(
    "qualities",
    Column("id", CheckedInteger, primary_key=True),
    Column("evaluation_id", CheckedInteger, ForeignKey("exeunt_evaluations.id"), nullable=False),
    *_filled(_NAME, "metric", "reference"),
    Column("first_image", BigWhole, nullable=False),
    Column("num_images", CheckedInteger, nullable=False),
    *_filled(Number, "value", "lower", "upper", "standard_error", "level"),
    Column("floor", Number),
    Column("finished", Timestamp, nullable=False),
    Column("influence", Bytes, nullable=False),
    UniqueConstraint("evaluation_id", "metric", "reference", "first_image", "num_images"),
)

TIMING_KEYS = _table(
    "timing_keys",
    Column("id", CheckedInteger, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("device", _NAME, nullable=False),
    Column("batch_size", CheckedInteger, nullable=False),
    *_filled(_NAME, "executor", "dtype"),
    *_filled(CheckedText, "weights_sha256", "versions"),
)

CALL_TIMINGS = _table(
    "call_timings",
    Column("id", CheckedInteger, primary_key=True),
    Column("timing_key_id", CheckedInteger, ForeignKey("exeunt_timing_keys.id"), nullable=False),
    Column("kind_digest", DIGEST, nullable=False),
    Column("kind", CheckedText, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("measured", Timestamp, nullable=False),
    UniqueConstraint("timing_key_id", "kind_digest"),
)

THROUGHPUTS = _table(
    "throughputs",
    Column("id", CheckedInteger, primary_key=True),
    Column("timing_key_id", CheckedInteger, ForeignKey("exeunt_timing_keys.id"), nullable=False),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False, index=True),
    Column("baseline_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("baseline_weights_sha256", CheckedText, nullable=False),
    Column("purpose", _NAME, nullable=False),
    *_filled(JSON, "seconds", "baseline_seconds"),
    Column("predicted_seconds", Number),
    Column("latency_seconds", JSON, nullable=False),
    Column("peak_memory_bytes", BigWhole),
    Column("study", _NAME, index=True),
    Column("measured", Timestamp, nullable=False),
    # A name that is drawn for each timing, so that it is stored once, however often its transaction is repeated.
    Column("entry", _NAME),
    Index("exeunt_throughputs_once", "entry", unique=True),
)

# What proves on its own host that a process is gone: the boot, the process namespace and the process's start time.
WORKERS = _table(
    "workers",
    Column("owner", _NAME, primary_key=True),
    Column("study", _NAME, index=True),
    Column("host", _NAME, nullable=False),
    Column("pid", CheckedInteger, nullable=False),
    *_filled(_NAME, "boot", "namespace", "process_started"),
    Column("environment", JSON, nullable=False),
    Column("lease_seconds", Number, nullable=False),
    *_filled(Timestamp, "started", "heartbeat"),
    Column("ended", Timestamp),
    Column("reason", CheckedText),
)

# What is requested of all workers of a study: "pause" or "stop". No row: that they work.
ORDERS = _table(
    "orders",
    Column("study", _NAME, ForeignKey("exeunt_studies.name"), primary_key=True),
    Column("wanted", _NAME, nullable=False),
    Column("since", Timestamp, nullable=False),
)

# The one store of this database's files and the token in its marker, and the one that is being taken into use; see
# `files.py`. No row: a folder beside an SQLite database.
ARTIFACTS = _table(
    "artifacts",
    Column("id", CheckedInteger, primary_key=True, autoincrement=False),
    Column("url", CheckedText, nullable=False),
    Column("token", _NAME, nullable=False),
    Column("created", Timestamp, nullable=False),
)

# Files of a study beside features: sample images and schedules. `content` is empty where it is a file of the artifact
# store, whose name is `sha256`; in backups it is here, in base64.
FILES = _table(
    "files",
    Column("study", _NAME, ForeignKey("exeunt_studies.name"), primary_key=True),
    Column("kind", _NAME, primary_key=True),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), primary_key=True),
    Column("weights_sha256", CheckedText, primary_key=True),
    Column("about", JSON, nullable=False),
    Column("created", Timestamp, nullable=False),
    Column("num_bytes", BigWhole, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("content", CheckedText, nullable=False),
    Index("exeunt_files_schedule", "schedule_digest"),
)
