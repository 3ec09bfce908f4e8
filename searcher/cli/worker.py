"""`exeunt worker`: one more worker for a study, on this machine or any other."""

import click

from ...studies.config.reading import parse_assignment
from ...studies.database.urls import storage_url
from ...studies.interruption import interruptible
from ...studies.store.store import only_study
from ..search.estimate import statement
from ..search.session import Stopped
from ..workers.join import join
from .flags.database import storage_flag, study_flag
from .flags.output import OutputOptions, output_options, print_statement


@click.command()
@storage_flag
@study_flag
@click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:N, where this worker's is not the study's.")
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Where a file is here: checkpoint.path=/data/x.pt."
)
@click.option("--target", is_flag=True, help="Time the study on this device, unless a worker lives on its target.")
@click.option("--report", metavar="FOLDER", help="Write the report here when the study is finished.")
@click.option("--artifacts", metavar="URL|FOLDER", help="Where the study's files are, seen from here.")
@output_options
def worker(
    storage: str,
    study: str | None,
    device: str | None,
    assignments: tuple[str, ...],
    target: bool,
    report: str | None,
    artifacts: str | None,
    telling: OutputOptions,
) -> None:
    """Work on a study that is there, beside all its other workers, until its budget is spent.

    Start as many as there are devices, on any machine that reaches the database; each ends by itself. Exit codes: 0 the
    study is finished or was stopped, 2 something here is not what the study measures with, 70 this device is broken,
    75 interrupted or storage out of reach: the same command goes on.

    \b
    Examples:
      exeunt worker --study demo
      EXEUNT_STORAGE=postgresql+psycopg://ada@db.example/exeunt exeunt worker --study dit --device cuda
      exeunt worker --study dit --log-format json --metrics-port 9100
    """
    url = storage_url(storage)
    flagged = {"throughput.device": device, "run.report": report, "run.artifacts": artifacts}
    changes = {**flagged, **dict(map(parse_assignment, assignments))}
    with telling.watch() as watch, interruptible() as interruption:
        try:
            join(
                url,
                only_study(url, study),
                {key: value for key, value in changes.items() if value is not None},
                takes_target=target,
                watch=watch,
                interruption=interruption,
                announce=lambda study_setup: print_statement(watch, statement(study_setup), err=True),
            )
        except Stopped as error:
            # Whoever starts workers again when they were interrupted must not do so here.
            watch.say(str(error))
