"""What the commands of `exeunt study` share: asking, sizes, JSON."""

import sys
from typing import Any

import click

from ..backends.errors import InputError, json_text

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


def size_text(num_bytes: int) -> str:
    """In the unit of which there are at least one and less than a thousand."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
