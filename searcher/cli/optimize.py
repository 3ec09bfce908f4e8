"""`exeunt optimize`, `exeunt resume` and `exeunt baselines`.

What `exeunt optimize` and `exeunt resume` do with a study: here in one process, in several, or by others.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ...backends.errors import InputError, json_text
from ...backends.schedule import block_evaluations
from ...reports.report import write_report
from ...reports.terminal import TABLE_WIDTH, show_front
from ...reports.view.interval import per_second
from ...reports.view.loading import load_view
from ...reports.view.view import StudyView
from ...studies.config.budget import Budget, parse_budget
from ...studies.config.reading import override, refuse_difference
from ...studies.config.study import StudyConfig
from ...studies.database.urls import is_default, storage_url
from ...studies.interruption import interruptible
from ...studies.store.store import only_study, open_store, stored_config
from ...studies.workers.status import read_status
from .. import runner
from ..measuring.setup import load_frames, load_setup, resolve_device
from ..search.estimate import BudgetEstimate, estimate_budget, statement
from ..search.loop import ladder
from ..workers.launch import prepare, work_together
from .flags.database import budget_flag, json_flag, storage_flag, study_flag
from .flags.engine import Engine, engine_flags
from .flags.output import OutputOptions, output_options, print_statement
from .flags.study import (
    BASELINE_FLAGS,
    CHECKPOINT_FLAGS,
    CONFIG_FLAGS,
    GRANULARITY_FLAGS,
    QUALITY_FLAGS,
    SEARCH_FLAGS,
    flags,
    study_config,
)
from .report import sampled


def go_on(
    config: StudyConfig,
    stored: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    *,
    as_json: bool,
    telling: OutputOptions,
    engine: Engine,
) -> None:
    """Spends what an interrupted study has left; a finished one whose budget is spent shows its front."""
    stands = read_status(url, config.name)
    if config.run.budget != stored.run.budget:
        run_study(config, url, proposals, as_json=as_json, telling=telling, engine=engine)
    elif stands.finished:
        show_finished(url, stored, as_json)
    else:
        left = stands.left(parse_budget(config.run.budget))
        run_study(config, url, proposals, as_json=as_json, telling=telling, engine=engine, budget=left)


def run_study(
    config: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    *,
    as_json: bool,
    telling: OutputOptions,
    engine: Engine,
    budget: Budget | None = None,
) -> None:
    """Does what a study has to do within a budget, its configuration's if none is given, and shows what came out."""
    if engine.waits:
        if telling.metrics is not None:
            raise InputError(
                "metrics-port: must be given to who works, and `--workers 0` starts no worker. "
                "Give it to `exeunt worker` instead."
            )
        leave_to_others(config, url, proposals, budget, as_json)
        return
    if engine.is_this_process:
        view = work_in_process(config, url, proposals, budget, as_json=as_json, telling=telling)
    else:
        view = work_in_processes(config, url, proposals, engine, budget, as_json=as_json, telling=telling)
    if config.run.report is not None:
        click.echo(f"Report: {Path(config.run.report) / 'index.html'}", err=as_json)
    show_front(view, as_json)


def work_in_process(
    config: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    budget: Budget | None,
    *,
    as_json: bool,
    telling: OutputOptions,
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
            announce=lambda study_setup: print_statement(watch, statement(study_setup), err=as_json),
        )


def work_in_processes(
    config: StudyConfig,
    url: str,
    proposals: Sequence[Path],
    engine: Engine,
    budget: Budget | None,
    *,
    as_json: bool,
    telling: OutputOptions,
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
        announce=lambda study_setup: click.echo(statement(study_setup), err=as_json),
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
    show_front(view, as_json)


artifacts_flag = click.option(
    "--artifacts",
    metavar="URL|FOLDER",
    help="Where features and files go: a folder, or s3://…; default: beside SQLite's file, or EXEUNT_ARTIFACTS.",
)
report_flag = click.option("--report", metavar="FOLDER", help="Where the report goes, or none; default: exeunt-report.")


@click.command("optimize")
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, QUALITY_FLAGS, GRANULARITY_FLAGS, SEARCH_FLAGS, CONFIG_FLAGS)
@storage_flag
@study_flag
@budget_flag
@report_flag
@artifacts_flag
@click.option("--final-images", type=click.IntRange(2), metavar="N", help="Images for each point of the final front.")
@click.option(
    "--proposals",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Measure these schedule files, or those of a folder, and propose no others.",
)
@click.option("--dry-run", is_flag=True, help="Sample two batches and say what the budget buys.")
@json_flag
@output_options
@engine_flags
def optimize_command(
    storage: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    proposals: tuple[Path, ...],
    dry_run: bool,
    as_json: bool,
    telling: OutputOptions,
    engine: Engine,
    **given: Any,
) -> None:
    """Search schedules for a checkpoint on this machine, measure them, and show the front.

    With no arguments it searches the bundled checkpoint for four minutes. Run again with the same arguments, an
    interrupted search goes on, and a finished one shows its front and how to spend more.

    \b
    Examples:
      exeunt optimize
      exeunt optimize --dry-run --budget 1h
      exeunt optimize --checkpoint DiT-XL-2.pt --vae sd-vae-ft-ema --reference photos/ --guidance 1.5 --budget 8h
      exeunt optimize --config study.toml --set search.space='"cache"'
      exeunt optimize --checkpoint DiT-XL-2.pt --reference photos/ --device cuda --workers 8
      exeunt optimize --checkpoint DiT-XL-2.pt --reference photos/ --engine ray --address auto
    """
    url = storage_url(storage)
    config = study_config(given, config_file, assignments)
    config = resolve_device(config) if dry_run else engine.resolve(config, names_device=bool(given["device"]))
    stored = stored_config(url, config.name)
    if dry_run:
        try_out(config, as_json)
    elif stored is None:
        run_study(config, url, proposals, as_json=as_json, telling=telling, engine=engine)
    else:
        refuse_difference(stored, config)
        go_on(config, stored, url, proposals, as_json=as_json, telling=telling, engine=engine)


@click.command()
@storage_flag
@study_flag
@budget_flag
@report_flag
@artifacts_flag
@json_flag
@output_options
@engine_flags
def resume(
    storage: str,
    study: str | None,
    budget: str | None,
    report: str | None,
    artifacts: str | None,
    as_json: bool,
    telling: OutputOptions,
    engine: Engine,
) -> None:
    """Go on with a study from its database, with its own settings.

    Without --budget it spends what the interrupted search had left. With one it searches on from where it is.

    \b
    Examples:
      exeunt resume
      exeunt resume --study demo --budget 30m
    """
    url = storage_url(storage)
    name = only_study(url, study)
    stored = stored_config(url, name)
    assert stored is not None
    free = {"run.budget": budget, "run.report": report}
    given = {key: value for key, value in free.items() if value is not None}
    # The database knows where its files are; what a session before was told may not hold here.
    config = override(stored, {"run.artifacts": artifacts, **given})
    if budget is None:
        go_on(config, stored, url, (), as_json=as_json, telling=telling, engine=engine)
    else:
        run_study(config, url, (), as_json=as_json, telling=telling, engine=engine)


@click.command("baselines")
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, GRANULARITY_FLAGS, CONFIG_FLAGS)
@json_flag
def baselines_command(config_file: Path | None, assignments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """List the schedules that every search is compared with, in the order in which they are measured.

    \b
    Examples:
      exeunt baselines
      exeunt baselines --checkpoint DiT-XL-2.pt --num-steps 50 --json
    """
    config = resolve_device(study_config({**given, "reference": "none"}, config_file, assignments))
    rows = [
        {
            "label": each.label,
            "family": each.family,
            "weights": each.weights,
            "steps": each.schedule.num_steps,
            "block_evaluations": block_evaluations(each.schedule),
            "digest": each.schedule.digest,
        }
        for each in ladder(config.search, load_frames(config))
    ]
    if as_json:
        click.echo(json_text(rows))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value)[:12] if name == "digest" else str(value) for name, value in row.items()))
    Console(width=TABLE_WIDTH, highlight=False).print(table)


def try_out(config: StudyConfig, as_json: bool) -> None:
    """Says what would be done and what the budget buys, and touches no database."""
    study_setup = load_setup(config)
    click.echo(statement(study_setup), err=as_json)
    show_estimate(estimate_budget(study_setup, parse_budget(config.run.budget)), config, as_json)


def show_estimate(found: BudgetEstimate, config: StudyConfig, as_json: bool) -> None:
    """Prints what the budget buys."""
    if as_json:
        click.echo(json.dumps({"budget": config.run.budget, **asdict(found)}, indent=2))
        return
    click.echo(
        f"The full schedule samples {per_second(found.images_per_second)} images/s here, features included.\n"
        f"A budget of {config.run.budget} measures {found.baselines} baselines and about {found.proposals} proposals "
        f"on {config.quality.num_images} images each,\nand compares the best on about {found.final_images} images of "
        f"other noises, in about {found.seconds:.0f} s."
    )
