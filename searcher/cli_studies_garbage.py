"""`exeunt study gc`: what no study refers to."""

from typing import Any

import click

from ..backends.errors import InputError
from ..studies.config.budget import parse_budget
from ..studies.database.foreign import foreign_rows
from ..studies.maintenance.delete import Garbage, collect_garbage, find_garbage
from ..studies.store.store import open_store
from .cli_studies_shown import confirm, print_json, size_text, yes_flag
from .options import json_flag, storage_flag, storage_url

MOST_LINES = 10


@click.command()
@storage_flag
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@click.option(
    "--older-than",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Files without a row go once they are this old, since a worker may be about to commit one: 12h, 30m.",
)
@yes_flag
@json_flag
def gc(storage: str, dry_run: bool, older_than: str, yes: bool, as_json: bool) -> None:
    """Remove what no study refers to: evaluations, timings, schedules and files of deleted studies and dead workers.

    \b
    Examples:
      exeunt study gc --dry-run
      exeunt study gc --yes
    """
    age = _age(older_than)
    with open_store(storage_url(storage), read_only=dry_run) as store, foreign_rows(store.url):
        found = find_garbage(store, age)
        if not dry_run and not found.is_empty:
            if not as_json:
                _show_garbage(found)
            confirm("Remove it?", yes, as_json)
            found = collect_garbage(store, age)
    if as_json:
        print_json(_garbage_json(found, removed=not dry_run))
    elif dry_run or found.is_empty:
        _show_garbage(found)
    else:
        click.echo(f"Removed {len(found.evaluations):,} evaluations and {len(found.files):,} files: {_sizes(found)}.")


def _age(text: str) -> float:
    limit = parse_budget(text, rest=True)
    if limit.seconds is None or limit.trials is not None or limit.images is not None:
        raise InputError(f"study: --older-than must be a time, but got `{text}`. Write 1d, 12h or 30m.")
    return limit.seconds


def _garbage_json(found: Garbage, removed: bool) -> dict[str, Any]:
    evaluations = [
        {"digest": digest, "images": images, "bytes": size} for digest, (images, size) in found.evaluations.items()
    ]
    files = [{"name": name, "bytes": size} for name, size in found.files.items()]
    sizes = {"bytes": found.feature_bytes, "file_bytes": found.file_bytes}
    return {"removed": removed, **sizes, "evaluations": evaluations, "files": files, "rows": found.rows}


def _show_garbage(found: Garbage) -> None:
    if found.is_empty:
        click.echo("Everything belongs to a study.")
        return
    for digest, (images, size) in list(found.evaluations.items())[:MOST_LINES]:
        click.echo(f"  evaluation {digest[:12]}  {images:,} images, {size_text(size)}")
    if len(found.evaluations) > MOST_LINES:
        click.echo(f"  and {len(found.evaluations) - MOST_LINES:,} more")
    counts = found.rows | {"files": len(found.files)}
    rows = ", ".join(f"{count:,} {table.removeprefix('exeunt_')}" for table, count in counts.items() if count)
    click.echo(f"No study refers to {rows}: {_sizes(found)}.")


def _sizes(found: Garbage) -> str:
    return f"{size_text(found.feature_bytes)} of features, {size_text(found.file_bytes)} of files"
