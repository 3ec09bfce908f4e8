"""`exeunt status`: what a database holds, read without changing anything."""

import click

from .flags.database import json_flag, storage_flag, study_flag


@click.command()
@storage_flag
@study_flag
@json_flag
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates of --watch.",
)
def status(url: str, study: str | None, as_json: bool, watch: bool, interval: float) -> None:
    """Show what a database holds: workers, schedules, trials, images, front, errors.

    It also shows how many trials an hour are measured and what is left of the budget. With --watch and --json each look
    is one line of JSON for each study.

    \b
    Examples:
      exeunt status
      exeunt status --storage runs/dit.db --study dit --json
      exeunt status --watch --interval 2
    """
    from ..monitoring import watch_output
    from ..monitoring.watch import StatusReader

    reader = StatusReader(url, study)
    if watch:
        watch_output.watch(reader, interval, as_json=as_json)
    elif as_json:
        click.echo(watch_output.status_json(reader.read()))
    else:
        click.echo(watch_output.snapshot_text(reader.read()))
