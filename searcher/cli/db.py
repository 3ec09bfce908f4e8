"""`exeunt db`: whether a database is sound, and upgrades of older ones."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...backends.errors import InputError, printable
from .flags.database import json_flag, show, storage_flag
from .flags.paths import OUTPUT

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ...studies.maintenance.check import Finding
    from ...studies.maintenance.upgrade import Upgrade


@click.group()
def db() -> None:
    """Check a database, or upgrade an older one."""


@db.command("check")
@storage_flag
@click.option("--quick", is_flag=True, help="Don't read the features. Reading them takes about a second per gigabyte.")
@json_flag
@click.pass_context
def check_command(context: click.Context, url: str, quick: bool, as_json: bool) -> None:
    """Check a database without changing anything: versions, file, digests, and consistency between rows.

    The exit code is 1 if something is lost or damaged.

    \b
    Examples:
      exeunt db check
      exeunt db check --storage runs/dit.db --quick --json
    """
    from ...studies.database.errors import corrupt_rows
    from ...studies.database.schema import engine_url
    from ...studies.maintenance.check import check_all, check_file
    from ...studies.maintenance.upgrade import versions as find_versions

    with _opened(url, read_only=True) as (engine, where), corrupt_rows(where):
        versions, shown = find_versions(engine), engine_url(engine)
        current = versions.before == versions.after
        findings = check_all(engine, features=not quick) if current else check_file(engine)
    damaged = any(finding.damage for finding in findings)
    found = {"storage": shown, "sound": not damaged, "versions": asdict(versions)}
    values = {**found, "findings": [asdict(each) for each in findings]}
    show(values, _text(where, versions, findings), as_json)
    if damaged:
        context.exit(1)


@contextmanager
def _opened(url: str, *, read_only: bool = False) -> Generator[tuple[Engine, str]]:
    """An engine that asks nothing of the database's version, and the database in words."""
    from ...studies.database.engine import bare_engine
    from ...studies.database.errors import database_label, storage_errors

    engine = bare_engine(url, read_only=read_only)
    try:
        with storage_errors(engine):
            yield engine, database_label(engine)
    finally:
        engine.dispose()


def _text(where: str, versions: Upgrade, findings: list[Finding]) -> str:
    lines = [f"{where}: version {versions.before}, Optuna's tables at {versions.optuna_before}."]
    if versions.changed:
        lines.append(
            f"This Exeunt needs version {versions.after} with Optuna's tables at {versions.optuna_after}, so only the "
            "file was checked. Type `exeunt db upgrade`, and check again."
        )
    lines += [printable(f"{'damage' if each.damage else 'note'}: {each.kind}: {each.what}.") for each in findings]
    if not any(each.damage for each in findings):
        lines.append("Nothing is lost or damaged." if findings else "No problem was found.")
    return "\n".join(lines)


@db.command("upgrade")
@storage_flag
@click.option(
    "--backup",
    type=OUTPUT,
    metavar="FILE",
    help="File for the backup of an SQLite database. Default: beside the database.",
)
@click.option("--no-backup", is_flag=True, help="Make no backup.")
@json_flag
def upgrade_command(url: str, backup: Path | None, no_backup: bool, as_json: bool) -> None:
    """Upgrade an older database to this version of Exeunt, including Optuna's tables.

    No other command changes the tables of an existing database, so workers need no permission to alter
    tables. An SQLite database is backed up first; back up PostgreSQL with pg_dump. A newer database is not changed.

    \b
    Examples:
      exeunt db upgrade
      exeunt db upgrade --storage runs/dit.db --backup dit-before.db
    """
    from ...studies.maintenance.upgrade import upgrade_database

    if backup == Path("-"):
        raise InputError("backup: must be a file, but got standard output. Give a path, or --no-backup.")
    with _opened(url) as (engine, where):
        made = None if no_backup else _backed_up(engine, Path(where), backup)
        done = upgrade_database(engine)
    kept = "" if made is None else f" Backup: {made}."
    text = f"{where}: upgraded from version {done.before} to {done.after}.{kept}"
    text = text if done.changed else f"{where} has version {done.after} already."
    show({**asdict(done), "backup": None if made is None else str(made)}, text, as_json)


def _backed_up(engine: Engine, own: Path, path: Path | None) -> Path | None:
    """The backup of an SQLite database that is about to be changed."""
    from ...studies.maintenance.backup import back_up_file
    from ...studies.maintenance.upgrade import versions as find_versions

    versions = find_versions(engine)
    if engine.url.get_backend_name() != "sqlite" or not versions.changed:
        return None
    path = path or own.with_name(f"{own.stem}.version-{versions.before}{own.suffix}")
    back_up_file(engine, path)
    return path
