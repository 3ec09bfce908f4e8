"""`exeunt study`: commands on whole studies, requests to their workers, and the removal of unused data."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.console import Console
from rich.table import Table

from ...backends.checkpoints.files import readable_bytes
from ...backends.errors import InputError, printable
from ...reports.files.export import is_special, is_standard_output, write_whole
from ...reports.report import TABLE_WIDTH
from ...studies.config.budget import parse_budget
from ...studies.database.errors import contradicting_rows, corrupt_rows
from ...studies.database.urls import read_url, storage_url
from ...studies.store.store import Store, open_store
from .flags.database import json_flag, show, storage_flag
from .flags.paths import OUTPUT, OUTPUT_FOLDER

if TYPE_CHECKING:
    from ...studies.maintenance.delete import Garbage
    from ...studies.maintenance.list import Summary
    from ...studies.store.files import StudyFile

name_argument = click.argument("name")
yes_flag = click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
_MOST_LINES = 10


@contextmanager
def _opened(url: str, *, read_only: bool = True) -> Generator[Store]:
    with open_store(url, read_only=read_only) as store, corrupt_rows(store.url):
        yield store


def confirm(question: str, yes: bool, as_json: bool) -> None:
    """Asks before something is removed. Raises InputError where nobody can answer and `--yes` was not given."""
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InputError(
            "study: removal must be confirmed, since it can't be undone, but there is no terminal to ask. Add --yes."
        )
    click.confirm(question, abort=True)


@click.group()
def study() -> None:
    """List, copy, delete, back up, pause or stop studies, and remove unused data."""


def _add_order(order: Literal["pause", "stop", "unpause"], summary: str, said: str) -> None:
    """Adds the command that gives an order to all workers of a study, or takes it back."""

    undo = "" if order == "unpause" else "\n  exeunt study unpause demo"

    @study.command(order, help=f"{summary}\n\n\b\nExamples:\n  exeunt study {order} demo{undo}")
    @name_argument
    @storage_flag
    @json_flag
    def _(name: str, url: str, as_json: bool) -> None:
        from ...studies.maintenance.list import summaries
        from ...studies.workers.shared_state import request, withdraw_order

        text = said.format(name=name)
        with _opened(url, read_only=False) as store:
            if order != "unpause":
                request(store, name, order)
            elif not withdraw_order(store, store.studies.require(name)):
                text = f"`{name}` was neither paused nor stopped."
            found = next(each for each in summaries(store) if each.study == name) if as_json else None
        show({"study": name, "order": found.order, "workers": found.workers} if found else None, text, as_json)


_add_order(
    "pause",
    "Make all workers of a study, on all machines, finish their step and wait.",
    "`{name}` is pausing: its workers will wait. Continue with `exeunt study unpause {name}`.",
)
_add_order(
    "stop",
    "Make all workers of a study, on all machines, finish their step and end.",
    "`{name}` is stopping: its workers will end. Undo with `exeunt study unpause {name}`.",
)
_add_order("unpause", "Let workers continue a paused or stopped study.", "Workers can continue `{name}`.")


@study.command()
@storage_flag
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@click.option(
    "--older-than",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Keep unused files younger than this, since a worker may be about to commit one: 12h, 30m.",
)
@yes_flag
@json_flag
def gc(url: str, dry_run: bool, older_than: str, yes: bool, as_json: bool) -> None:
    """Remove unused data: evaluations, timings, schedules and files of deleted studies and dead workers.

    \b
    Examples:
      exeunt study gc --dry-run
      exeunt study gc --yes
    """
    from ...studies.maintenance.delete import collect_garbage, find_garbage

    limit = parse_budget(older_than, rest=True)
    if limit.seconds is None or limit.trials is not None or limit.images is not None:
        raise InputError(f"study: --older-than must be a time, but got `{older_than}`. Write 1d, 12h or 30m.")
    with _opened(url, read_only=dry_run) as store:
        found = find_garbage(store, limit.seconds)
        if not dry_run and not found.is_empty:
            if not as_json:
                click.echo(_garbage_text(found))
            confirm("Remove all of this?", yes, as_json)
            found = collect_garbage(store, limit.seconds)
    if dry_run or found.is_empty:
        text = _garbage_text(found)
    else:
        text = f"Removed {len(found.evaluations):,} evaluations and {len(found.files):,} files: {_sizes(found)}."
    show(_garbage_json(found, removed=not dry_run), text, as_json)


def _garbage_json(found: Garbage, removed: bool) -> dict[str, Any]:
    evaluations = [
        {"digest": digest, "images": images, "bytes": size} for digest, (images, size) in found.evaluations.items()
    ]
    files = [{"name": name, "bytes": size} for name, size in found.files.items()]
    sizes = {"bytes": found.feature_bytes, "file_bytes": found.file_bytes}
    return {"removed": removed, **sizes, "evaluations": evaluations, "files": files, "rows": found.rows}


def _garbage_text(found: Garbage) -> str:
    if found.is_empty:
        return "Nothing to remove: everything belongs to a study."
    lines = [
        f"  evaluation {digest[:12]}  {images:,} images, {readable_bytes(size)}"
        for digest, (images, size) in list(found.evaluations.items())[:_MOST_LINES]
    ]
    if len(found.evaluations) > _MOST_LINES:
        lines.append(f"  and {len(found.evaluations) - _MOST_LINES:,} more")
    counts = found.rows | {"files": len(found.files)}
    rows = ", ".join(f"{count:,} {table.removeprefix('exeunt_')}" for table, count in counts.items() if count)
    return "\n".join([*lines, f"No study refers to {rows}: {_sizes(found)}."])


def _sizes(found: Garbage) -> str:
    return f"{readable_bytes(found.feature_bytes)} of features, {readable_bytes(found.file_bytes)} of files"


@study.command("list")
@storage_flag
@json_flag
def list_studies(url: str, as_json: bool) -> None:
    """List the studies of a database: state, measurements, number of workers.

    \b
    Examples:
      exeunt study list
      exeunt study list --storage runs/dit.db --json
    """
    from ...studies.maintenance.list import summaries

    with _opened(url) as store:
        found = summaries(store)
    if found and not as_json:
        Console(width=TABLE_WIDTH, highlight=False, markup=False).print(_table(found))
        return
    values = [{**asdict(each), "started": _moment(each.started)} for each in found]
    show(values, "No study yet. Start one with `exeunt optimize`.", as_json)


def _table(found: Sequence[Summary]) -> Table:
    table = Table("study", "state", "started", "trials", "schedules", "images", "workers")
    for each in found:
        trials = ", ".join(f"{count} {state}" for state, count in each.trials.items())
        state = f"{each.state} ({each.order} requested)" if each.order else each.state
        counts = (f"{each.schedules:,}", f"{each.images:,}", str(each.workers))
        table.add_row(*map(printable, (each.study, state, _moment(each.started)[:16], trials, *counts)))
    return table


@study.command()
@name_argument
@storage_flag
@click.option("--to", metavar="URL|FILE", help="The database to copy to. It is created if it does not exist.")
@click.option(
    "--to-file", type=click.Path(path_type=Path), metavar="FILE", help="A file whose first line is the URL to copy to."
)
@click.option("--as", "new_name", metavar="NAME", help="Name of the copy. Default: the same name.")
@click.option(
    "--artifacts", metavar="URL|FOLDER", help="Where the other database stores its files; PostgreSQL needs it."
)
@json_flag
def copy(
    name: str,
    url: str,
    to: str | None,
    to_file: Path | None,
    new_name: str | None,
    artifacts: str | None,
    as_json: bool,
) -> None:
    """Copy a whole study into another database, SQLite or PostgreSQL, and compare the two.

    It copies everything or nothing. Measurements that both databases have are stored once. The original stays: delete
    it when you continue with the copy.

    \b
    Examples:
      exeunt study copy demo --to backup/demo.db
      exeunt study copy demo --to postgresql+psycopg://ada@db.example/exeunt --artifacts s3://team/exeunt
      exeunt study copy demo --storage runs/dit.db --to-file url.txt --as demo-2
    """
    from ...studies.maintenance.copy import copy_study

    if (to is None) == (to_file is None):
        got = "none" if to is None else "two"
        raise InputError(f"study: must be copied to one database, but got {got}. Give --to or --to-file.")
    target = storage_url(to) if to is not None else read_url(to_file or Path())
    with _opened(url) as store:
        store.studies.require(name)
        with open_store(target, artifacts=artifacts) as other, contradicting_rows(store.url):
            copied, where = copy_study(store, other, name, new_name), other.url
    rows = sum(copied.rows.values())
    shared = f", {copied.there} were stored there already" if copied.there else ""
    text = f"{where}: `{copied.study}` in {rows:,} rows{shared}; digest {copied.digest[:12]} on both sides."
    show({**asdict(copied), "storage": where}, text, as_json)


@study.command()
@name_argument
@storage_flag
@yes_flag
@json_flag
def delete(name: str, url: str, yes: bool, as_json: bool) -> None:
    """Delete a study: its configuration, schedules, trials and workers.

    Its measurements stay, so that other studies can use them, until `exeunt study gc` removes them.

    \b
    Examples:
      exeunt study delete demo
      exeunt study delete demo --yes && exeunt study gc --yes
    """
    from ...studies.maintenance.delete import delete_study

    with _opened(url, read_only=False) as store:
        store.studies.require(name)
        confirm(f"Delete study `{name}` of {store.url}?", yes, as_json)
        deleted = delete_study(store, name)
    text = (
        f"Deleted `{name}`: {deleted['exeunt_members']:,} schedules, {deleted['trials']:,} trials.\n"
        "Its measurements are kept. `exeunt study gc --dry-run` lists those that no study uses."
    )
    show({"study": name, "rows": deleted}, text, as_json)


@study.command()
@storage_flag
@click.option(
    "-o", "--output", type=OUTPUT, metavar="FILE", help="File to write. Default: exeunt-TIME.db; - is standard output."
)
@json_flag
def backup(url: str, output: Path | None, as_json: bool) -> None:
    """Back up a database into one SQLite file while workers run, and check the file.

    The file is a study database: every command takes it as --storage, and `exeunt study copy` restores a study from it.

    \b
    Examples:
      exeunt study backup -o exeunt-monday.db
      exeunt study backup --storage-file url.txt --json
    """
    from ...studies.maintenance.backup import back_up

    path = output or Path(f"exeunt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db")
    streams = is_standard_output(path) or is_special(path)
    with _opened(url) as store, contradicting_rows(store.url), TemporaryDirectory() as folder:
        done = back_up(store, Path(folder) / "backup.db" if streams else path)
        if streams:
            with (
                done.path.open("rb") as file,
                mmap(file.fileno(), 0, access=ACCESS_READ) as content,
                memoryview(content) as view,
            ):
                write_whole(path, view)
            done = replace(done, path=path)
    text = f"{done.path}: {', '.join(done.studies) or 'no study'} ({readable_bytes(done.num_bytes)}), checked."
    values = {"path": str(done.path), "studies": done.studies, "bytes": done.num_bytes}
    show(values, text, as_json, err=is_standard_output(path))


@study.command()
@name_argument
@storage_flag
@click.option("-o", "--output", type=OUTPUT_FOLDER, metavar="FOLDER", help="Also write the files into this folder.")
@json_flag
def files(name: str, url: str, output: Path | None, as_json: bool) -> None:
    """List the files that a study keeps: sample images and schedule files of its front.

    \b
    Examples:
      exeunt study files demo
      exeunt study files demo -o front/
    """
    with _opened(url) as store:
        found = {_file_name(store, each): each for each in store.kept.kept(store.studies.require(name))}
        for path, each in found.items() if output else ():
            write_whole((output or Path()) / path, store.kept.contents(each))
        lines = [
            printable(f"{path}  {readable_bytes(each.num_bytes)}, {each.sha256[:12]}") for path, each in found.items()
        ]
    text = "\n".join([*lines, f"{len(found)} files" + (f" in {output}." if output else ".")])
    show([{"file": path, **asdict(each)} for path, each in found.items()], text, as_json)


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
