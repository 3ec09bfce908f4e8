"""The tables of a study database. They stand beside Optuna's, whose names they avoid with a prefix.

Version 3. A change of anything here is a new version and a step in `migrations.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
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

METADATA = MetaData()
DIGEST = String(64)
NAME = String(512)


def _table(name: str, *contents: Column[object] | UniqueConstraint | Index) -> Table:
    return Table(f"exeunt_{name}", METADATA, *contents)


VERSION = _table("version", Column("version", Integer, nullable=False))

STUDIES = _table(
    "studies",
    Column("name", NAME, primary_key=True),
    Column("config", JSON, nullable=False),
    Column("pins", JSON, nullable=False),
    Column("created", Float, nullable=False),
)

# `outline` is worked out of `schedule`, so that thousands can be listed without reading them; see `outlines.py`.
SCHEDULES = _table(
    "schedules",
    Column("digest", DIGEST, primary_key=True),
    Column("schedule", Text, nullable=False),
    Column("outline", JSON(none_as_null=True)),
)

MEMBERS = _table(
    "members",
    Column("id", Integer, primary_key=True),
    Column("study", NAME, ForeignKey("exeunt_studies.name"), nullable=False),
    Column("label", NAME, nullable=False),
    Column("role", NAME, nullable=False),
    Column("family", NAME, nullable=False),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("weights_name", NAME, nullable=False),
    Column("trial_number", Integer),
    UniqueConstraint("study", "label", "weights_sha256"),
    Index("exeunt_members_schedule", "schedule_digest"),
)

# `digest` is that of the whole key; the key's parts stand beside it so that they can be selected by.
EVALUATIONS = _table(
    "evaluations",
    Column("id", Integer, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("conditions_digest", NAME, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("extractor", NAME, nullable=False),
    Column("dtype", NAME, nullable=False),
    Column("executor", NAME, nullable=False),
    Column("failed", Boolean, nullable=False),
    Index("exeunt_evaluations_schedule", "schedule_digest"),
)

FAILURES = _table(
    "failures",
    Column("id", Integer, primary_key=True),
    Column("evaluation_id", Integer, ForeignKey("exeunt_evaluations.id"), nullable=False, index=True),
    Column("owner", NAME, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("token", Integer),
    # The same failure of the same claim is noted once, however often its transaction is repeated.
    Index("exeunt_failures_once", "evaluation_id", "owner", "token", unique=True),
)

# A lease stays when it is free, with its last token, so that tokens only rise. `expires` is on the database's clock.
LEASES = _table(
    "leases",
    Column("name", NAME, primary_key=True),
    Column("owner", NAME, index=True),
    Column("token", Integer, nullable=False),
    Column("expires", Float, nullable=False),
)

# `features` is empty where they are a file of the artifact store, whose name is `sha256`; those of earlier versions and
# of backups are here. They stand last: SQLite then reads the other columns without the pages that they overflow to.
CHUNKS = _table(
    "chunks",
    Column("id", Integer, primary_key=True),
    Column("evaluation_id", Integer, ForeignKey("exeunt_evaluations.id"), nullable=False),
    Column("first_image", BigInteger, nullable=False),
    Column("num_images", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("owner", NAME, nullable=False),
    Column("study", NAME, index=True),
    Column("committed", Float, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("features", LargeBinary, nullable=False),
    UniqueConstraint("evaluation_id", "first_image"),
)

QUALITIES = _table(
    "qualities",
    Column("id", Integer, primary_key=True),
    Column("evaluation_id", Integer, ForeignKey("exeunt_evaluations.id"), nullable=False),
    Column("metric", NAME, nullable=False),
    Column("reference", NAME, nullable=False),
    Column("first_image", BigInteger, nullable=False),
    Column("num_images", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("lower", Float, nullable=False),
    Column("upper", Float, nullable=False),
    Column("standard_error", Float, nullable=False),
    Column("level", Float, nullable=False),
    Column("floor", Float),
    Column("finished", Float, nullable=False),
    Column("influence", LargeBinary, nullable=False),
    UniqueConstraint("evaluation_id", "metric", "reference", "first_image", "num_images"),
)

TIMING_KEYS = _table(
    "timing_keys",
    Column("id", Integer, primary_key=True),
    Column("digest", DIGEST, nullable=False, unique=True),
    Column("device", NAME, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("executor", NAME, nullable=False),
    Column("dtype", NAME, nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("versions", Text, nullable=False),
)

CALL_TIMINGS = _table(
    "call_timings",
    Column("id", Integer, primary_key=True),
    Column("timing_key_id", Integer, ForeignKey("exeunt_timing_keys.id"), nullable=False),
    Column("kind_digest", DIGEST, nullable=False),
    Column("kind", Text, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("measured", Float, nullable=False),
    UniqueConstraint("timing_key_id", "kind_digest"),
)

THROUGHPUTS = _table(
    "throughputs",
    Column("id", Integer, primary_key=True),
    Column("timing_key_id", Integer, ForeignKey("exeunt_timing_keys.id"), nullable=False),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False, index=True),
    Column("baseline_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), nullable=False),
    Column("baseline_weights_sha256", Text, nullable=False),
    Column("purpose", NAME, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("baseline_seconds", JSON, nullable=False),
    Column("predicted_seconds", Float),
    Column("latency_seconds", JSON, nullable=False),
    Column("peak_memory_bytes", BigInteger),
    Column("study", NAME, index=True),
    Column("measured", Float, nullable=False),
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
    Column("pid", Integer, nullable=False),
    Column("boot", NAME, nullable=False),
    Column("namespace", NAME, nullable=False),
    Column("process_started", NAME, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("lease_seconds", Float, nullable=False),
    Column("started", Float, nullable=False),
    Column("heartbeat", Float, nullable=False),
    Column("ended", Float),
    Column("reason", Text),
)

# What somebody wants of all workers of a study: "pause" or "stop". No row: that they work.
ORDERS = _table(
    "orders",
    Column("study", NAME, ForeignKey("exeunt_studies.name"), primary_key=True),
    Column("wanted", NAME, nullable=False),
    Column("since", Float, nullable=False),
)

# The one store of this database's files and the token in its marker. No row: a folder beside an SQLite database.
ARTIFACTS = _table(
    "artifacts",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("url", Text, nullable=False),
    Column("token", NAME, nullable=False),
    Column("created", Float, nullable=False),
)

# Files of a study beside features: sample images and schedules. `content` is empty where it is a file of the artifact
# store, whose name is `sha256`; in backups it is here, in base64.
FILES = _table(
    "files",
    Column("study", NAME, ForeignKey("exeunt_studies.name"), primary_key=True),
    Column("kind", NAME, primary_key=True),
    Column("schedule_digest", DIGEST, ForeignKey("exeunt_schedules.digest"), primary_key=True),
    Column("weights_sha256", Text, primary_key=True),
    Column("about", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("sha256", DIGEST, nullable=False),
    Column("content", Text, nullable=False),
    Index("exeunt_files_schedule", "schedule_digest"),
)
