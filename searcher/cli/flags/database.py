"""The flags that name a database and a study, which nearly every command has."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ....backends.errors import InputError

DEFAULT_STORAGE = "sqlite:///exeunt.db"
STORAGE = "EXEUNT_STORAGE"
STORAGE_FILE = "EXEUNT_STORAGE_FILE"
MAX_URL_BYTES = 10_000

F = TypeVar("F", bound=Callable[..., Any])


def _file_flag(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    context.meta[STORAGE_FILE] = path


def _storage_flag(context: click.Context, _: click.Parameter, url: str | None) -> str:
    path = context.meta.get(STORAGE_FILE)
    if url is None:
        return read_url(path) if path else unflagged_storage()
    if path is not None:
        raise InputError("storage: give --storage or --storage-file, but not both.")
    if _has_password(url):
        note = f"Everybody on this machine can see a password on a command line. Put the URL into {STORAGE}, or a file."
        click.echo(note, err=True)
    return url


def storage_flag(command: F) -> F:
    """`--storage` and `--storage-file`, as the parameter `storage`: text that `storage_url` takes."""
    url = click.option(
        "--storage",
        metavar="URL|FILE",
        callback=_storage_flag,
        help=f"The study database; else what {STORAGE} says, or {DEFAULT_STORAGE}.",
    )
    file = click.option(
        "--storage-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_file_flag,
        help=f"A file with the database's URL in its first line; else what {STORAGE_FILE} names.",
    )
    return url(file(command))


study_flag = click.option("--study", metavar="NAME", help="The study's name in the database.")
budget_flag = click.option("--budget", metavar="BUDGET", help="4m, 100-trials, 20k-images, or several with a comma.")
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def storage_url(text: str) -> str:
    """A database's URL; a file's name stands for an SQLite database there."""
    return text if "://" in text else f"sqlite:///{text}"


def unflagged_storage() -> str:
    """The database that a command opens without any flag."""
    if url := os.environ.get(STORAGE, "").strip():
        return url
    if path := os.environ.get(STORAGE_FILE):
        return read_url(Path(path))
    return DEFAULT_STORAGE


def read_url(path: Path) -> str:
    """The URL in the first line of a file.

    Raises:
        InputError: the file can't be read, or its first line is empty.
    """
    try:
        with path.open(encoding="utf-8") as file:
            url = file.readline(MAX_URL_BYTES).strip()
    except OSError as error:
        raise InputError(f"storage: the file {path} can't be read ({error.strerror}). Check the path.") from None
    except UnicodeDecodeError:
        raise InputError(f"storage: the file {path} must have a URL in its first line, but isn't text.") from None
    if not url:
        raise InputError(f"storage: the file {path} must have a URL in its first line, but that is empty.")
    return url


def is_default(url: str) -> bool:
    """Whether a command finds this database, whose URL has no password, without --storage."""
    return _without_password(url) == _without_password(storage_url(unflagged_storage()))


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    from ....studies.database import passwords

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(Path(parsed.database or "").expanduser().absolute())
    return passwords.typed(parsed)


def _has_password(url: str) -> bool:
    rest = url.partition("://")[2]
    return "@" in rest and ":" in rest.rpartition("@")[0]
