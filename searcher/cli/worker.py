"""`exeunt worker`: one more worker for a study, on this machine or any other."""

import shlex

import click

from ...studies.config.reading import override, parse_assignment
from ...studies.database.errors import corrupt_rows
from ...studies.database.urls import storage_flags
from ...studies.interruption import interruptible
from ...studies.store.store import Store, only_study, open_store
from .flags.database import storage_flag, study_flag
from .flags.output import OutputOptions, output_options, print_statement


@click.command()
@storage_flag
@study_flag
@click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:N. Default: the study's.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="A path that differs here: checkpoint.path=/data/x.pt.",
)
@click.option(
    "--target",
    is_flag=True,
    help="Make this the device that the study is timed on, unless a worker is alive on the present one.",
)
@click.option("--report", metavar="FOLDER", help="Folder for a report when the study is finished. Default: none.")
@click.option("--artifacts", metavar="URL|FOLDER", help="Where this machine finds the study's files.")
@output_options
def worker(
    url: str,
    study: str | None,
    device: str | None,
    assignments: tuple[str, ...],
    target: bool,
    report: str | None,
    artifacts: str | None,
    output: OutputOptions,
) -> None:
    """Join an existing study as one more worker, until its budget is spent.

    Start one worker for each device, on any machine that reaches the database. Each ends by itself. Exit codes: 0 the
    study is finished or was stopped; 2 files, settings or versions here are not the study's; 70 this device is broken;
    75 interrupted, or the storage is out of reach: run the same command again.

    \b
    Examples:
      exeunt worker --study demo
      EXEUNT_STORAGE=postgresql+psycopg://ada@db.example/exeunt exeunt worker --study dit --device cuda
      exeunt worker --study dit --log-format json --metrics-port 9100
    """
    from ..measuring.setup import resolve_device
    from ..runner import StudyRequest, work
    from ..search.estimate import statement
    from ..search.opening import WorkerRole
    from ..search.session import Stopped

    changes = {"run.report": report, "run.artifacts": artifacts} | (
        {} if device is None else {"throughput.device": device}
    )
    with output.watch() as watch, interruptible() as interruption:
        name = only_study(url, study)
        flags = [*storage_flags(url), "--study", name]
        interruption.hint = f"what was committed is kept. Go on with `{shlex.join(['exeunt', 'worker', *flags])}`."
        try:
            with open_store(url, read_only=True) as store, corrupt_rows(store.url):
                stored, is_over = store.studies.config(name), _is_over(store, name)
            given = dict(map(parse_assignment, assignments))
            config = resolve_device(override(stored, {**changes, **given}))
            if is_over and config.run.report is None:
                more = shlex.join(["exeunt", "resume", *flags, "--budget", "30m"])
                watch.say(f"Study `{name}` is finished: its budget is spent. Give it another budget: `{more}`.")
                return
            request = StudyRequest(
                config,
                url,
                role=WorkerRole(joins=True, takes_target=target),
                named=tuple(map(str, given.values())),
                watch=watch,
                interruption=interruption,
                announce=lambda study_setup: print_statement(watch, statement(study_setup), err=True),
            )
            work(request)
        except Stopped as error:
            # What starts interrupted workers again must not do so here.
            watch.say(str(error))


def _is_over(store: Store, study: str) -> bool:
    """Whether there is nothing to do. Raises Stopped where all workers are to end."""
    import optuna

    from ...studies.database.optuna.storage import optuna_storage
    from ...studies.workers.shared_state import is_spent, order
    from ..search.session import Stopped

    wanted = order(store, study)
    if wanted is not None and wanted.wanted == "stop":
        raise Stopped(f"Study `{study}` was stopped; `exeunt study unpause {study}` lets workers continue.")
    try:
        return is_spent(optuna.load_study(study_name=study, storage=optuna_storage(store.engine)))
    except KeyError:
        return False  # Its first worker has not begun yet.
