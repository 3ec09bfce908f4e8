"""The tables of a study database. They stand beside Optuna's, whose names they avoid with a prefix.

Version 3. A change of anything here is a new version and a step in `migrations.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
)

from .columns import BigWhole, Bytes, LongWords, Moment, Number, Whole, Words

METADATA = MetaData()
DIGEST = Words(64)
NAME = Words(512)


def _table(name: str, *contents: Column[object] | UniqueConstraint | Index) -> Table:
    return Table(f"exeunt_{name}", METADATA, *contents)


VERSION = _table("version", Column("version", Whole, nullable=False))

STUDIES = _table(
    "studies",
    Column("name", NAME, primary_key=True),
    Column("config", JSON, nullable=False),
    Column("pins", JSON, nullable=False),
    Column("created", Moment, nullable=False),
)

# `outline` is worked out of `schedule`, so that thousands can be listed without reading them; see `outlines.py`.
SCHEDULES = _table(
    "schedules",
    Column("digest", DIGEST, primary_key=True),
    Column("schedule", LongWords, nullable=False),
    Column("outline", JSON(none_as_null=True)),
)

MEMBERS = _table(
    "members",
    Column("id", Whole, primary_key=True),
    Column("study", NAME, ForeignKey("exeunt_studies.name"), nullable=False),
    Column("label", NAME, nullable=False),
    Column("role", NAME, nullable=False),
    Column("family", NAME, nullable=False),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("weights_sha256", LongWords, nullable=False),
    Column("weights_name", NAME, nullable=False),
    Column("trial_number", Whole),
    UniqueConstraint("study", "label", "weights_sha256"),
    Index("exeunt_members_schedule", "schedule_digest"),
)

# `digest` is that of the whole key; the key's parts stand beside it so that they can be selected by.
EVALUATIONS = _table(
    "evaluations",
    Column("id", Whole, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("weights_sha256", LongWords, nullable=False),
    Column("conditions_digest", NAME, nullable=False),
    Column("seed", BigWhole, nullable=False),
    Column("extractor", NAME, nullable=False),
    Column("dtype", NAME, nullable=False),
    Column("executor", NAME, nullable=False),
    Column("failed", Boolean, nullable=False),
    Index("exeunt_evaluations_schedule", "schedule_digest"),
)

FAILURES = _table(
    "failures",
    Column("id", Whole, primary_key=True),
    Column("evaluation_id", Whole, ForeignKey("exeunt_evaluations.id"), nullable=False, index=True),
    Column("owner", NAME, nullable=False),
    Column("reason", LongWords, nullable=False),
    Column("at", Moment, nullable=False),
    Column("token", Whole),
    # The same failure of the same claim is noted once, however often its transaction is repeated.
    Index("exeunt_failures_once", "evaluation_id", "owner", "token", unique=True),
)

# A lease stays when it is free, with its last token, so that tokens only rise. `expires` is on the database's clock.
LEASES = _table(
    "leases",
    Column("name", NAME, primary_key=True),
    Column("owner", NAME, index=True),
    Column("token", Whole, nullable=False),
    Column("expires", Moment, nullable=False),
)

# `features` is empty where they are a file of the artifact store, whose name is `sha256`; those of earlier versions and
# of backups are here. They stand last: SQLite then reads the other columns without the pages that they overflow to.
CHUNKS = _table(
    "chunks",
    Column("id", Whole, primary_key=True),
    Column("evaluation_id", Whole, ForeignKey("exeunt_evaluations.id"), nullable=False),
    Column("first_image", BigWhole, nullable=False),
    Column("num_images", Whole, nullable=False),
    Column("width", Whole, nullable=False),
    Column("seconds", Number, nullable=False),
    Column("owner", NAME, nullable=False),
    Column("study", NAME, index=True),
    Column("committed", Moment, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("features", Bytes, nullable=False),
    UniqueConstraint("evaluation_id", "first_image"),
)

QUALITIES = _table(
    "qualities",
    Column("id", Whole, primary_key=True),
    Column("evaluation_id", Whole, ForeignKey("exeunt_evaluations.id"), nullable=False),
    Column("metric", NAME, nullable=False),
    Column("reference", NAME, nullable=False),
    Column("first_image", BigWhole, nullable=False),
    Column("num_images", Whole, nullable=False),
    Column("value", Number, nullable=False),
    Column("lower", Number, nullable=False),
    Column("upper", Number, nullable=False),
    Column("standard_error", Number, nullable=False),
    Column("level", Number, nullable=False),
    Column("floor", Number),
    Column("finished", Moment, nullable=False),
    Column("influence", Bytes, nullable=False),
    UniqueConstraint("evaluation_id", "metric", "reference", "first_image", "num_images"),
)

TIMING_KEYS = _table(
    "timing_keys",
    Column("id", Whole, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("device", NAME, nullable=False),
    Column("batch_size", Whole, nullable=False),
    Column("executor", NAME, nullable=False),
    Column("dtype", NAME, nullable=False),
    Column("weights_sha256", LongWords, nullable=False),
    Column("versions", LongWords, nullable=False),
)

CALL_TIMINGS = _table(
    "call_timings",
    Column("id", Whole, primary_key=True),
    Column("timing_key_id", Whole, ForeignKey("exeunt_timing_keys.id"), nullable=False),
    Column("kind_digest", DIGEST, nullable=False),
    Column("kind", LongWords, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("measured", Moment, nullable=False),
    UniqueConstraint("timing_key_id", "kind_digest"),
)

THROUGHPUTS = _table(
    "throughputs",
    Column("id", Whole, primary_key=True),
    Column("timing_key_id", Whole, ForeignKey("exeunt_timing_keys.id"), nullable=False),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False, index=True),
    Column("baseline_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("baseline_weights_sha256", LongWords, nullable=False),
    Column("purpose", NAME, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("baseline_seconds", JSON, nullable=False),
    Column("predicted_seconds", Number),
    Column("latency_seconds", JSON, nullable=False),
    Column("peak_memory_bytes", BigWhole),
    Column("study", NAME, index=True),
    Column("measured", Moment, nullable=False),
    # A name that is drawn for each timing, so that it is stored once, however often its transaction is repeated.
    Column("entry", NAME),
    Index("exeunt_throughputs_once", "entry", unique=True),
)

# What proves on its own host that a process is gone: the boot, the process namespace and the process's start time.
WORKERS = _table(
    "workers",
    Column("owner", NAME, primary_key=True),
    Column("study", NAME, index=True),
    Column("host", NAME, nullable=False),
    Column("pid", Whole, nullable=False),
    Column("boot", NAME, nullable=False),
    Column("namespace", NAME, nullable=False),
    Column("process_started", NAME, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("lease_seconds", Number, nullable=False),
    Column("started", Moment, nullable=False),
    Column("heartbeat", Moment, nullable=False),
    Column("ended", Moment),
    Column("reason", LongWords),
)

# What somebody wants of all workers of a study: "pause" or "stop". No row: that they work.
ORDERS = _table(
    "orders",
    Column("study", NAME, ForeignKey("exeunt_studies.name"), primary_key=True),
    Column("wanted", NAME, nullable=False),
    Column("since", Moment, nullable=False),
)

# The one store of this database's files and the token in its marker, and the one that is being taken into use; see
# `files.py`. No row: a folder beside an SQLite database.
ARTIFACTS = _table(
    "artifacts",
    Column("id", Whole, primary_key=True, autoincrement=False),
    Column("url", LongWords, nullable=False),
    Column("token", NAME, nullable=False),
    Column("created", Moment, nullable=False),
)

# Files of a study beside features: sample images and schedules. `content` is empty where it is a file of the artifact
# store, whose name is `sha256`; in backups it is here, in base64.
FILES = _table(
    "files",
    Column("study", NAME, ForeignKey("exeunt_studies.name"), primary_key=True),
    Column("kind", NAME, primary_key=True),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), primary_key=True),
    Column("weights_sha256", LongWords, primary_key=True),
    Column("about", JSON, nullable=False),
    Column("created", Moment, nullable=False),
    Column("num_bytes", BigWhole, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("content", LongWords, nullable=False),
    Index("exeunt_files_schedule", "schedule_digest"),
)
