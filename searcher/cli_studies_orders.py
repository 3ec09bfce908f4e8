"""`exeunt study pause`, `stop` and `unpause`: orders to all workers of a study."""

import click

from ..studies.database.foreign import foreign_rows
from ..studies.maintenance.list import summaries
from ..studies.store.store import Store, open_store
from ..studies.workers.orders import give_order, withdraw_order
from .cli_studies_shown import name_argument, print_json
from .options import json_flag, storage_flag, storage_url


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
    with open_store(storage_url(storage)) as store, foreign_rows(store.url):
        give_order(store, name, "pause")
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
    with open_store(storage_url(storage)) as store, foreign_rows(store.url):
        give_order(store, name, "stop")
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
    with open_store(storage_url(storage)) as store, foreign_rows(store.url):
        store.studies.require(name)
        there = withdraw_order(store, name)
        said = f"`{name}` goes on." if there else f"`{name}` was neither paused nor stopped."
        _say_order(store, name, said, as_json)


def _say_order(store: Store, name: str, said: str, as_json: bool) -> None:
    if as_json:
        found = next(each for each in summaries(store) if each.study == name)
        print_json({"study": name, "order": found.order, "workers": found.workers})
    else:
        click.echo(said)
