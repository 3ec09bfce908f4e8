"""The flags that name a database and a study, which nearly every command has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ....backends.errors import InputError, json_text
from ....studies.database.urls import DEFAULT_STORAGE, STORAGE, STORAGE_FILE, read_url, storage_url, unflagged_storage

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _file_flag(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    context.meta[STORAGE_FILE] = path


def _storage_flag(context: click.Context, _: click.Parameter, url: str | None) -> str:
    path = context.meta.get(STORAGE_FILE)
    if url is None:
        return storage_url(read_url(path) if path else unflagged_storage())
    if path is not None:
        raise InputError("storage: give --storage or --storage-file, but got both. Omit one.")
    if _has_password(url):
        note = f"Everybody on this machine can see a password on a command line. Put the URL into {STORAGE}, or a file."
        click.echo(note, err=True)
    return storage_url(url)


def storage_flag(command: Decorated) -> Decorated:
    """`--storage` and `--storage-file`, as the parameter `url`."""
    named = click.option(
        "--storage",
        "url",
        metavar="URL|FILE",
        callback=_storage_flag,
        help=f"The study database. Default: {STORAGE}, or {DEFAULT_STORAGE}.",
    )
    file = click.option(
        "--storage-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_file_flag,
        help=f"A file whose first line is the database's URL. Default: {STORAGE_FILE}.",
    )
    return named(file(command))


study_flag = click.option("--study", metavar="NAME", help="The study's name in the database.")
budget_flag = click.option(
    "--budget", metavar="BUDGET", help="When the search ends: 4m, 100-trials, 20k-images, or several with commas."
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(values: Any, text: str, as_json: bool, *, err: bool = False) -> None:
    """Prints values as JSON, or what they say as text; on standard error where a file went to standard output."""
    click.echo(json_text(values) if as_json else text, err=err)


def _has_password(url: str) -> bool:
    rest = url.partition("://")[2]
    return "@" in rest and ":" in rest.rpartition("@")[0]
