"""`exeunt dashboard`: the searches of a database in Optuna's dashboard, in a browser on this machine."""

import click

from ..studies.store.store import open_store
from .dashboard import ADDRESS, application, served
from .options import storage_flag, storage_url
from .watching_loop import until_signal

NOTE = """\
It shows what Optuna knows: trials, parameters, and both objectives on search seeds. It knows neither throughput with
intervals nor final images (`exeunt report`), nor baselines that the search's space can't express, nor who has claimed
what (`exeunt status --watch`), and its front is that of the search. It can't change anything. Whoever is logged in on
this machine can read it. Ctrl-C ends it."""


@click.command()
@storage_flag
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="PORT",
    help=f"Of {ADDRESS}; 0 takes a free one.",
)
def dashboard(storage: str, port: int) -> None:
    """Show a database's searches in optuna-dashboard, on this machine alone and read-only.

    It needs `pip install 'exeunt[dashboard]'`, and runs until Ctrl-C. From another machine, forward the port:
    `ssh -L 8080:127.0.0.1:8080 HOST`.

    \b
    Examples:
      exeunt dashboard
      exeunt dashboard --storage runs/dit.db --port 0
    """
    with open_store(storage_url(storage), read_only=True) as store, served(application(store), port) as server:
        click.echo(f"http://{ADDRESS}:{server.server_port}/dashboard")
        click.echo(NOTE, err=True)
        with until_signal():
            server.serve_forever()
