"""What `exeunt optimize` and `exeunt resume` do with a study: here in one process, in several, or by others."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from ..backends.errors import InputError
from ..reports.report import write_report
from ..reports.terminal import show
from ..reports.view.loading import load_view
from ..reports.view.view import StudyView
from ..studies.config.budget import Budget, parse_budget
from ..studies.config.study import StudyConfig
from ..studies.interruption import interruptible
from ..studies.store.store import open_store
from ..studies.workers.status import standing_at
from . import runner
from .cli_report import sampled
from .engine_flags import Engine
from .estimate import statement
from .options import is_default
from .sharing import prepare, work_together
from .telling import Telling, state


def go_on(
    config: StudyConfig,
    stored: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    *,
    as_json: bool,
    telling: Telling,
    engine: Engine,
) -> None:
    """Spends what an interrupted study has left; a finished one whose budget is spent shows its front."""
    stands = standing_at(url, config.name)
    if config.run.budget != stored.run.budget:
        work(config, url, proposals, as_json=as_json, telling=telling, engine=engine)
    elif stands.finished:
        show_finished(url, stored, as_json)
    else:
        left = stands.left(parse_budget(config.run.budget))
        work(config, url, proposals, as_json=as_json, telling=telling, engine=engine, budget=left)


def work(
    config: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    *,
    as_json: bool,
    telling: Telling,
    engine: Engine,
    budget: Budget | None = None,
) -> None:
    """Does what a study has to do within a budget, its configuration's if none is given, and shows what came out."""
    if engine.waits:
        if telling.metrics is not None:
            raise InputError(
                "metrics-port: must be given to who works, and `--workers 0` works nothing. "
                "Give it to `exeunt worker` instead."
            )
        leave_to_others(config, url, proposals, budget, as_json)
        return
    if engine.is_this_process:
        view = alone(config, url, proposals, budget, as_json=as_json, telling=telling)
    else:
        view = together(config, url, proposals, engine, budget, as_json=as_json, telling=telling)
    if config.run.report is not None:
        click.echo(f"Report: {Path(config.run.report) / 'index.html'}", err=as_json)
    show(view, as_json)


def alone(
    config: StudyConfig, url: str, proposals: Sequence[Path], budget: Budget | None, *, as_json: bool, telling: Telling
) -> StudyView:
    """Does it in this process."""
    with telling.watch() as watch, interruptible() as interruption:
        return runner.optimize(
            config,
            url,
            budget=budget,
            proposals=proposals,
            watch=watch,
            interruption=interruption,
            announce=lambda laboratory: state(watch, statement(laboratory), err=as_json),
        )


def together(
    config: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    engine: Engine,
    budget: Budget | None,
    *,
    as_json: bool,
    telling: Telling,
) -> StudyView:
    """Does it in several processes, wherever the engine has them."""
    if telling.metrics is not None and engine.is_here:
        telling.metrics.require_free(engine.workers or 1)
    with engine.hands(config, url) as hands, telling.shown() as watch, interruptible() as interruption:
        work_together(
            config,
            hands,
            budget=budget,
            proposals=proposals,
            watch=watch,
            interruption=interruption,
            announce=lambda text: click.echo(text, err=as_json),
            metrics=telling.metrics,
        )
    with open_store(url, read_only=True) as store:
        view, stored = load_view(store, config.name), store.studies.config(config.name)
    if config.run.report is not None and not hands.writes_report:
        view, grid = sampled(view, stored, url)
        write_report(view, Path(config.run.report), grid)
    return view


def leave_to_others(
    config: StudyConfig, url: str, proposals: Sequence[Path], budget: Budget | None, as_json: bool
) -> None:
    """Makes the study, or gives it a budget, and says how workers come to it."""
    where = prepare(
        config,
        url,
        budget=budget,
        proposals=proposals,
        announce=lambda laboratory: click.echo(statement(laboratory), err=as_json),
    )
    storage = [] if is_default(where) else ["--storage", where]
    command = shlex.join(["exeunt", "worker", *storage, "--study", config.name])
    if as_json:
        click.echo(json.dumps({"study": config.name, "budget": str(budget or config.run.budget), "worker": command}))
    else:
        click.echo(f"Study `{config.name}` waits for workers. Start them anywhere: {command}")


def show_finished(url: str, config: StudyConfig, as_json: bool) -> None:
    """Prints the front of a study that has nothing left to do."""
    click.echo(f"Study `{config.name}` is finished: its budget of {config.run.budget} is spent.", err=as_json)
    with open_store(url, read_only=True) as store:
        view = load_view(store, config.name)
    show(view, as_json)
