"""The flags that name a database and a study, which nearly every command has."""

from pathlib import Path

import click

DEFAULT_STORAGE = "sqlite:///exeunt.db"

storage_flag = click.option(
    "--storage", default=DEFAULT_STORAGE, show_default=True, metavar="URL|FILE", help="The study database."
)
study_flag = click.option("--study", metavar="NAME", help="The study's name in the database.")
budget_flag = click.option("--budget", metavar="BUDGET", help="4m, 100-trials, 20k-images, or several with a comma.")
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def storage_url(text: str) -> str:
    """A database's URL; a file's name stands for an SQLite database there."""
    return text if "://" in text else f"sqlite:///{text}"


def is_default(url: str) -> bool:
    """Whether a command finds this database without --storage."""
    return url in (DEFAULT_STORAGE, storage_url(str(Path(DEFAULT_STORAGE.removeprefix("sqlite:///")).absolute())))
