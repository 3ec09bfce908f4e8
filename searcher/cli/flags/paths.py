"""Where commands write: a file, with `-` for standard output, or a folder."""

from pathlib import Path
from typing import Any

import click

from ....backends.errors import InputError


class OutputPath(click.Path):
    """A path to write to. An empty one, as of a variable that is not set, is refused."""

    def __init__(self, *, file: bool, folder: bool) -> None:
        super().__init__(file_okay=file, dir_okay=folder, readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            what = "a file, or `-` for standard output" if self.file_okay else "a folder"
            raise InputError(f"output: must name {what}, but is empty. Give a path, or omit the flag.")
        return super().convert(value, param, ctx)


OUTPUT = OutputPath(file=True, folder=True)
OUTPUT_FILE = OutputPath(file=True, folder=False)
OUTPUT_FOLDER = OutputPath(file=False, folder=True)
