"""Steps from one version of our tables to the next. A step never changes once it was released.

Each is plain SQL that SQLite and PostgreSQL both understand, and says nothing about the tables as they are now: a later
version's tables must not seep into an earlier step.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

STEPS: Mapping[int, Sequence[str]] = {
    2: (
        # Filled by `maintenance.upgrade`.
        "ALTER TABLE exeunt_schedules ADD COLUMN outline JSON",
        "ALTER TABLE exeunt_failures ADD COLUMN token INTEGER",
        # Tokens of claims are positive, so these are those of no claim.
        "UPDATE exeunt_failures SET token = -id",
        "CREATE UNIQUE INDEX exeunt_failures_once ON exeunt_failures (evaluation_id, owner, token)",
        "ALTER TABLE exeunt_throughputs ADD COLUMN entry VARCHAR(512)",
        # Other databases of version 1 have the same ids, and a study may be copied from one to another.
        "UPDATE exeunt_throughputs SET entry = schedule_digest || ' ' || measured || ' ' || id",
        "CREATE UNIQUE INDEX exeunt_throughputs_once ON exeunt_throughputs (entry)",
        "CREATE TABLE exeunt_orders (study VARCHAR(512) NOT NULL, wanted VARCHAR(512) NOT NULL, since FLOAT NOT NULL, "
        "PRIMARY KEY (study), FOREIGN KEY(study) REFERENCES exeunt_studies (name))",
    ),
    # Features that are committed from now on are files, and their rows have none; those that are there stay in theirs.
    3: (
        "CREATE TABLE exeunt_artifacts (id INTEGER NOT NULL, url TEXT NOT NULL, token VARCHAR(512) NOT NULL, "
        "created FLOAT NOT NULL, PRIMARY KEY (id))",
        "CREATE TABLE exeunt_files (study VARCHAR(512) NOT NULL, kind VARCHAR(512) NOT NULL, "
        "schedule_digest VARCHAR(64) NOT NULL, weights_sha256 TEXT NOT NULL, about JSON NOT NULL, "
        "created FLOAT NOT NULL, num_bytes BIGINT NOT NULL, sha256 VARCHAR(64) NOT NULL, content TEXT NOT NULL, "
        "PRIMARY KEY (study, kind, schedule_digest, weights_sha256), "
        "FOREIGN KEY(study) REFERENCES exeunt_studies (name), "
        "FOREIGN KEY(schedule_digest) REFERENCES exeunt_schedules (digest))",
        "CREATE INDEX exeunt_files_schedule ON exeunt_files (schedule_digest)",
    ),
    # Chunks that are committed from now on have the statistics of their images' pixels; those that are there have none.
    4: ("ALTER TABLE exeunt_chunks ADD COLUMN statistics TEXT",),
}
CURRENT = max(STEPS)


def migrate(connection: Connection, version: int) -> None:
    """Takes tables of a version to the current one, within the transaction of the connection."""
    for number in range(version + 1, CURRENT + 1):
        for statement in STEPS[number]:
            connection.execute(text(statement))
