"""`exeunt study`: the studies of a database as wholes.

`exeunt study pause`, `stop` and `unpause`: orders to all workers of a study.

`exeunt study gc`: what no study refers to.

What the commands of `exeunt study` share: asking, JSON.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ...backends.checkpoints.files import readable_bytes
from ...backends.errors import InputError, json_text, printable
from ...reports.files.whole import write_whole
from ...reports.terminal import TABLE_WIDTH
from ...studies.config.budget import parse_budget
from ...studies.database.foreign import contradicting_rows, corrupt_rows
from ...studies.database.urls import read_url, storage_url
from ...studies.store.store import Store, open_store
from .flags.database import json_flag, storage_flag

if TYPE_CHECKING:
    from ...studies.maintenance.delete import Garbage
    from ...studies.maintenance.list import Summary
    from ...studies.store.files import StudyFile

name_argument = click.argument("name")
yes_flag = click.option("--yes", is_flag=True, help="Don't ask.")


def confirm(question: str, yes: bool, as_json: bool) -> None:
    """Asks, where there is somebody to ask.

    Raises:
        InputError: there is nobody, and `--yes` was not given.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InputError("study: this can't be undone, and there is nobody to ask. Add --yes.")
    click.confirm(question, abort=True)


def print_json(value: Any) -> None:
    """Writes to standard output."""
    click.echo(json_text(value))


@click.command()
@name_argument
@storage_flag
@json_flag
def pause(name: str, storage: str, as_json: bool) -> None:
    """Make all workers of a study finish what they are at, wherever they are, and wait.

    \b
    Examples:
      exeunt study pause demo
      exeunt study unpause demo
    """
    from ...studies.workers.orders import request

    with open_store(storage_url(storage)) as store, corrupt_rows(store.url):
        request(store, name, "pause")
        _say_order(
            store, name, f"`{name}` pauses: its workers wait. Go on with `exeunt study unpause {name}`.", as_json
        )


@click.command()
@name_argument
@storage_flag
@json_flag
def stop(name: str, storage: str, as_json: bool) -> None:
    """Make all workers of a study finish what they are at, wherever they are, and end.

    \b
    Examples:
      exeunt study stop demo
      exeunt study unpause demo
    """
    from ...studies.workers.orders import request

    with open_store(storage_url(storage)) as store, corrupt_rows(store.url):
        request(store, name, "stop")
        _say_order(store, name, f"`{name}` stops: its workers end. Undo with `exeunt study unpause {name}`.", as_json)


@click.command()
@name_argument
@storage_flag
@json_flag
def unpause(name: str, storage: str, as_json: bool) -> None:
    """Let workers work on a paused or stopped study again.

    \b
    Examples:
      exeunt study unpause demo
    """
    from ...studies.workers.orders import withdraw_order

    with open_store(storage_url(storage)) as store, corrupt_rows(store.url):
        store.studies.require(name)
        there = withdraw_order(store, name)
        said = f"`{name}` goes on." if there else f"`{name}` was neither paused nor stopped."
        _say_order(store, name, said, as_json)


def _say_order(store: Store, name: str, said: str, as_json: bool) -> None:
    from ...studies.maintenance.list import summaries

    if as_json:
        found = next(each for each in summaries(store) if each.study == name)
        print_json({"study": name, "order": found.order, "workers": found.workers})
    else:
        click.echo(said)


_MOST_LINES = 10


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
    from ...studies.maintenance.delete import collect_garbage, find_garbage

    age = _age(older_than)
    with open_store(storage_url(storage), read_only=dry_run) as store, corrupt_rows(store.url):
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
    for digest, (images, size) in list(found.evaluations.items())[:_MOST_LINES]:
        click.echo(f"  evaluation {digest[:12]}  {images:,} images, {readable_bytes(size)}")
    if len(found.evaluations) > _MOST_LINES:
        click.echo(f"  and {len(found.evaluations) - _MOST_LINES:,} more")
    counts = found.rows | {"files": len(found.files)}
    rows = ", ".join(f"{count:,} {table.removeprefix('exeunt_')}" for table, count in counts.items() if count)
    click.echo(f"No study refers to {rows}: {_sizes(found)}.")


def _sizes(found: Garbage) -> str:
    return f"{readable_bytes(found.feature_bytes)} of features, {readable_bytes(found.file_bytes)} of files"


@click.group()
def study() -> None:
    """List, copy, delete, back up, pause or stop studies, and collect garbage."""


for command in (gc, pause, stop, unpause):
    study.add_command(command)


@study.command("list")
@storage_flag
@json_flag
def list_studies(storage: str, as_json: bool) -> None:
    """List the studies of a database: what they are doing, what they have, who works on them.

    \b
    Examples:
      exeunt study list
      exeunt study list --storage runs/dit.db --json
    """
    from ...studies.maintenance.list import summaries

    with open_store(storage_url(storage), read_only=True) as store, corrupt_rows(store.url):
        found = summaries(store)
    if as_json:
        print_json([{**asdict(each), "started": _moment(each.started)} for each in found])
    elif found:
        Console(width=TABLE_WIDTH, highlight=False, markup=False).print(_table(found))
    else:
        click.echo("No study yet. Start one with `exeunt optimize`.")


def _table(found: Sequence[Summary]) -> Table:
    table = Table("study", "state", "started", "trials", "schedules", "images", "workers")
    for each in found:
        trials = ", ".join(f"{count} {state}" for state, count in each.trials.items())
        state = f"{each.state} ({each.order} wanted)" if each.order else each.state
        counts = (f"{each.schedules:,}", f"{each.images:,}", str(each.workers))
        table.add_row(*map(printable, (each.study, state, _moment(each.started)[:16], trials, *counts)))
    return table


@study.command()
@name_argument
@storage_flag
@click.option("--to", metavar="URL|FILE", help="The database that it is copied to, made if it is not there.")
@click.option(
    "--to-file", type=click.Path(path_type=Path), metavar="FILE", help="A file with that URL in its first line."
)
@click.option("--as", "new_name", metavar="NAME", help="What the copy is called there.")
@click.option("--artifacts", metavar="URL|FOLDER", help="Where that database keeps its files; PostgreSQL needs it.")
@json_flag
def copy(
    name: str,
    storage: str,
    to: str | None,
    to_file: Path | None,
    new_name: str | None,
    artifacts: str | None,
    as_json: bool,
) -> None:
    """Copy a study whole into another database, SQLite or PostgreSQL, and compare the two.

    Either all of it is there afterwards or nothing. What both databases have measured stands there once. The study
    stays where it was; delete it there once you go on with the copy.

    \b
    Examples:
      exeunt study copy demo --to backup/demo.db
      exeunt study copy demo --to postgresql+psycopg://ada@db.example/exeunt --artifacts s3://team/exeunt
      exeunt study copy demo --storage runs/dit.db --to-file url.txt --as demo-2
    """
    from ...studies.maintenance.copy import copy_study

    if (to is None) == (to_file is None):
        raise InputError("study: say where to copy it, with --to or with --to-file.")
    target = storage_url(to) if to is not None else read_url(to_file or Path())
    with open_store(storage_url(storage), read_only=True) as store, corrupt_rows(store.url):
        store.studies.require(name)
        with open_store(target, artifacts=artifacts) as other, contradicting_rows(store.url):
            copied, where = copy_study(store, other, name, new_name), other.url
    if as_json:
        print_json({**asdict(copied), "storage": where})
        return
    rows = sum(copied.rows.values())
    shared = f", {copied.there} were there already" if copied.there else ""
    click.echo(f"{where}: `{copied.study}` in {rows:,} rows{shared}; digest {copied.digest[:12]} on both sides.")


@study.command()
@name_argument
@storage_flag
@yes_flag
@json_flag
def delete(name: str, storage: str, yes: bool, as_json: bool) -> None:
    """Delete a study: its configuration, schedules, trials and workers.

    What it measured stays for other studies and for the next one, until `exeunt study gc`.

    \b
    Examples:
      exeunt study delete demo
      exeunt study delete demo --yes && exeunt study gc --yes
    """
    from ...studies.maintenance.delete import delete_study

    with open_store(storage_url(storage)) as store, corrupt_rows(store.url):
        store.studies.require(name)
        confirm(f"Delete study `{name}` of {store.url}?", yes, as_json)
        deleted = delete_study(store, name)
    if as_json:
        print_json({"study": name, "rows": deleted})
    else:
        click.echo(f"Deleted `{name}`: {deleted['exeunt_members']:,} schedules, {deleted['trials']:,} trials.")
        click.echo("What it measured is kept; `exeunt study gc --dry-run` lists what nothing refers to now.")


@study.command()
@storage_flag
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: named for the moment.")
@json_flag
def backup(storage: str, output: Path | None, as_json: bool) -> None:
    """Back up a database into one SQLite file while work goes on, and check the file.

    The file is a study database: every command takes it as --storage, and `exeunt study copy` brings it back.

    \b
    Examples:
      exeunt study backup -o exeunt-monday.db
      exeunt study backup --storage-file url.txt --json
    """
    from ...studies.maintenance.backup import back_up

    path = output or Path(f"exeunt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db")
    with (
        open_store(storage_url(storage), read_only=True) as store,
        corrupt_rows(store.url),
        contradicting_rows(store.url),
    ):
        done = back_up(store, path)
    if as_json:
        print_json({"path": str(done.path), "studies": done.studies, "bytes": done.num_bytes})
    else:
        click.echo(f"{done.path}: {', '.join(done.studies) or 'no study'} ({readable_bytes(done.num_bytes)}), checked.")


@study.command()
@name_argument
@storage_flag
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Put them there too.")
@json_flag
def files(name: str, storage: str, output: Path | None, as_json: bool) -> None:
    """List what a study keeps beside figures: sample images and schedule files of its front.

    \b
    Examples:
      exeunt study files demo
      exeunt study files demo -o front/
    """
    with open_store(storage_url(storage), read_only=True) as store, corrupt_rows(store.url):
        found = {_file_name(store, each): each for each in store.kept.kept(store.studies.require(name))}
        for path, each in found.items() if output else ():
            write_whole((output or Path()) / path, store.kept.contents(each))
        lines = [
            printable(f"{path}  {readable_bytes(each.num_bytes)}, {each.sha256[:12]}") for path, each in found.items()
        ]
    if as_json:
        print_json([{"file": path, **asdict(each)} for path, each in found.items()])
        return
    for line in lines:
        click.echo(line)
    click.echo(f"{len(found)} files" + (f" in {output}." if output else "."))


def _file_name(store: Store, file: StudyFile) -> str:
    """A name for people: the label and the weights of the member that the file is about."""
    members = {
        (each.schedule_digest, each.weights_sha256): each for each in reversed(store.studies.members(file.study))
    }
    member = members.get(file.key)
    text = f"{member.label} {member.weights_name}" if member else file.schedule_digest[:12]
    return f"{re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')}.{file.suffix}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
