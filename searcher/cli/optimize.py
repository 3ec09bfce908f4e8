"""`exeunt optimize`, `exeunt resume` and `exeunt baselines`.

What `exeunt optimize` and `exeunt resume` do with a study: here in one process, in several, or by others.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ...backends.errors import InputError, json_text
from ...backends.schedule import SUFFIX, dumps
from ...reports.files.export import write_whole
from ...reports.report import TABLE_WIDTH, baseline_table, print_table, show_front, write_report
from ...reports.view.interval import per_second
from ...reports.view.view import StudyView
from ...studies.config.budget import Budget, parse_budget
from ...studies.config.reading import override, refuse_difference
from ...studies.config.study import StudyConfig
from ...studies.database.urls import storage_flags
from ...studies.interruption import interruptible
from ...studies.store.store import only_study, open_store, stored_config
from .flags.database import budget_flag, json_flag, show, storage_flag, study_flag
from .flags.engine import Engine, engine_flags
from .flags.output import OutputOptions, output_options, print_statement
from .flags.paths import OUTPUT_FOLDER
from .flags.study import (
    BASELINE_FLAGS,
    CHECKPOINT_FLAGS,
    CONFIG_FLAGS,
    FAMILY_FLAGS,
    GRANULARITY_FLAGS,
    QUALITY_FLAGS,
    SEARCH_FLAGS,
    flags,
    study_config,
)
from .report import sampled

if TYPE_CHECKING:
    from ..measuring.setup import StudySetup
    from ..runner import StudyRequest
    from ..search.estimate import BudgetEstimate

USEFUL_PROPOSALS = 30
EVERYTHING = Budget(trials=1_000_000)  # baselines are no trials: nothing ends their measurement


def go_on(request: StudyRequest, stored: StudyConfig, as_json: bool, output: OutputOptions, engine: Engine) -> None:
    """Spends what an interrupted study has left; a finished one whose budget is spent shows its front."""
    from ...studies.workers.status import read_status
    from ..runner import study_view

    budget = request.config.run.budget
    if budget == stored.run.budget:
        status = read_status(request.url, stored.name)
        if status.finished:
            if request.config.run.goal != stored.run.goal:
                change_goal(request, stored)
            ended = status.ended or f"its budget of {budget} is spent"
            click.echo(f"Study `{stored.name}` is finished: {ended}.", err=as_json)
            show_front(study_view(request.url, stored.name), as_json)
            return
        request = replace(request, budget=status.left(parse_budget(budget)))
    run_study(request, as_json, output, engine)


def change_goal(request: StudyRequest, stored: StudyConfig) -> None:
    """Stores another goal of a finished study, whose report then says what it has for that."""
    with open_store(request.url) as store:
        store.studies.put_config(override(stored, {"run.goal": request.config.run.goal}))


def run_study(request: StudyRequest, as_json: bool, output: OutputOptions, engine: Engine) -> None:
    """Does what a study has to do within a budget, and shows what came out."""
    if engine.waits:
        leave_to_others(request, as_json, output)
        return
    if engine.is_here and engine.workers in (None, 1):
        view = work_in_process(request, as_json, output)
    else:
        view = work_in_processes(request, as_json, output, engine)
    if request.config.run.report is not None:
        click.echo(f"Report: {Path(request.config.run.report) / 'index.html'}", err=as_json)
    show_front(view, as_json)


def resume_hint(request: StudyRequest) -> str:
    """What the error of an interrupted command ends with."""
    command = shlex.join(["exeunt", "resume", *storage_flags(request.url), "--study", request.config.name])
    return f"what was committed is kept. Go on with `{command}`."


def work_in_process(request: StudyRequest, as_json: bool, output: OutputOptions) -> StudyView:
    from ..runner import study_view, work
    from ..search.estimate import statement

    with output.watch() as watch, interruptible() as interruption:
        interruption.hint = resume_hint(request)
        request = replace(request, watch=watch, interruption=interruption)
        work(replace(request, announce=lambda setup: print_statement(watch, statement(setup), err=as_json)))
    return study_view(request.url, request.config.name)


def work_in_processes(request: StudyRequest, as_json: bool, output: OutputOptions, engine: Engine) -> StudyView:
    from ..runner import study_view
    from ..workers.pool import work_together

    config, url = request.config, request.url
    if output.metrics is not None and engine.is_here:
        output.metrics.require_free(engine.workers or 1)
    with engine.worker_backend(config, url) as backend, output.shown() as watch, interruptible() as interruption:
        interruption.hint = resume_hint(request)
        request = replace(request, watch=watch, interruption=interruption)
        work_together(request, backend, lambda text: click.echo(text, err=as_json), output.metrics)
    view = study_view(url, config.name)
    if config.run.report is not None and not backend.writes_report:
        view, grid = sampled(view, stored_config(url, config.name) or config, url)
        write_report(view, Path(config.run.report), grid)
    return view


def leave_to_others(request: StudyRequest, as_json: bool, output: OutputOptions) -> None:
    """Makes the study, or gives it a budget, and says how workers join it."""
    from ..runner import open_study
    from ..search.estimate import statement
    from ..search.opening import WorkerRole

    if output.metrics is not None:
        raise InputError(
            "metrics-port: needs a worker here, but `--workers 0` starts none. Give --metrics-port to `exeunt worker`."
        )
    request = replace(request, role=WorkerRole(takes_target=False, works=False))
    with open_study(replace(request, announce=lambda setup: click.echo(statement(setup), err=as_json))) as session:
        where, name = session.store.url, session.name
    command = shlex.join(["exeunt", "worker", *storage_flags(where), "--study", name])
    values = {"study": name, "budget": str(request.budget or request.config.run.budget), "worker": command}
    show(values, f"Study `{name}` waits for workers. Start them on any machine: {command}", as_json)


artifacts_flag = click.option(
    "--artifacts",
    metavar="URL|FOLDER",
    help="Where to store features and files: a folder, or s3://…. Default: EXEUNT_ARTIFACTS, or beside the database.",
)
goal_flag = click.option(
    "--goal",
    metavar="GOAL",
    help="What to search for: 'fastest within 5% of full quality', or 'best at 2x'. Default: the whole front.",
)
stalled_flag = click.option(
    "--until-stalled/--no-until-stalled",
    default=None,
    help="Also end the search once its proposals are expected to gain less than the noise of the front.",
)
report_flag = click.option("--report", metavar="FOLDER", help="Folder of the report, or none. Default: exeunt-report.")


@click.command("optimize")
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, QUALITY_FLAGS, GRANULARITY_FLAGS, SEARCH_FLAGS, FAMILY_FLAGS, CONFIG_FLAGS)
@storage_flag
@study_flag
@budget_flag
@goal_flag
@stalled_flag
@report_flag
@artifacts_flag
@click.option("--final-images", type=click.IntRange(2), metavar="N", help="Images for each point of the final front.")
@click.option(
    "--proposals",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Measure only these schedule files, or those of a folder, in place of proposals.",
)
@click.option(
    "--warm-start",
    multiple=True,
    metavar="SOURCE",
    help="Begin with the schedules of a file, a folder, or another study's front: DATABASE or DATABASE#STUDY.",
)
@click.option("--dry-run", is_flag=True, help="Sample two batches, and estimate what the budget is enough for.")
@json_flag
@output_options
@engine_flags
def optimize_command(
    url: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    proposals: tuple[Path, ...],
    warm_start: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    output: OutputOptions,
    engine: Engine,
    **given: Any,
) -> None:
    """Search schedules for a checkpoint on this machine, measure them, and show the front.

    With no arguments it searches the bundled checkpoint for four minutes. Run it again with the same arguments: an
    interrupted search continues, and a finished one shows its front and the command that searches further.

    \b
    Examples:
      exeunt optimize
      exeunt optimize --dry-run --budget 1h
      exeunt optimize --goal "best at 2x"
      exeunt optimize --until-stalled --budget 8h
      exeunt optimize --max-memory 8GB
      exeunt optimize --objective latency
      exeunt optimize --checkpoint DiT-XL-2.pt --vae sd-vae-ft-ema --reference photos/ --guidance 1.5 --budget 8h
      exeunt optimize --checkpoint DiT-new.pt --reference photos/ --warm-start old.db
      exeunt optimize --config study.toml --set search.space='"cache"'
      exeunt optimize --checkpoint DiT-XL-2.pt --reference photos/ --device cuda --workers 8
      exeunt optimize --checkpoint DiT-XL-2.pt --reference photos/ --engine ray --address auto
    """
    from ..measuring.setup import resolve_device
    from ..runner import StudyRequest

    config = study_config(given, config_file, assignments)
    config = resolve_device(config) if dry_run else engine.resolve(config, names_device=bool(given["device"]))
    if proposals and warm_start:
        raise InputError("warm-start: begins a search, which --proposals replaces, but got both. Omit one.")
    if proposals and config.run.until_stalled:
        raise InputError("until-stalled: ends a search, which --proposals replaces, but got both. Omit one.")
    request = StudyRequest(config, url, proposals=proposals, warm_start=warm_start)
    stored = stored_config(url, config.name)
    if dry_run:
        try_out(config, as_json)
    elif stored is None:
        run_study(request, as_json, output, engine)
    else:
        refuse_difference(stored, config)
        go_on(request, stored, as_json, output, engine)


@click.command()
@storage_flag
@study_flag
@budget_flag
@goal_flag
@stalled_flag
@report_flag
@artifacts_flag
@json_flag
@output_options
@engine_flags
def resume(
    url: str,
    study: str | None,
    budget: str | None,
    goal: str | None,
    until_stalled: bool | None,
    report: str | None,
    artifacts: str | None,
    as_json: bool,
    output: OutputOptions,
    engine: Engine,
) -> None:
    """Continue a study from its database, with its own settings.

    Without --budget it spends what the interrupted search had left. With --budget it searches further.

    \b
    Examples:
      exeunt resume
      exeunt resume --study demo --budget 30m
    """
    from ..runner import StudyRequest

    stored = stored_config(url, only_study(url, study))
    assert stored is not None
    # The database knows where its files are; what an earlier command was told may not hold here.
    free = {"run.budget": budget, "run.goal": goal, "run.until_stalled": until_stalled, "run.report": report}
    given = {key: value for key, value in free.items() if value is not None}
    request = StudyRequest(override(stored, {"run.artifacts": artifacts, **given}), url, named=())
    if budget is None:
        go_on(request, stored, as_json, output, engine)
    else:
        run_study(request, as_json, output, engine)


@click.command("baselines")
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, QUALITY_FLAGS, GRANULARITY_FLAGS, FAMILY_FLAGS, CONFIG_FLAGS)
@click.option(
    "--with",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="One more baseline: a schedule, or a file of SmoothCache, Learning-to-Cache, ECAD or cache-dit.",
)
@click.option(
    "--calibrate", "calibrates", is_flag=True, help="Calibrate SmoothCache on 16 images, and add its schedules."
)
@click.option("-o", "--output", "folder", type=OUTPUT_FOLDER, metavar="FOLDER", help="Write each as a schedule file.")
@click.option("--measure", "measures", is_flag=True, help="Measure all of them in a study, without a search.")
@storage_flag
@study_flag
@budget_flag
@report_flag
@click.option("--final-images", type=click.IntRange(2), metavar="N", help="Images for each point of the final front.")
@json_flag
@output_options
def baselines_command(
    url: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    files: tuple[Path, ...],
    calibrates: bool,
    folder: Path | None,
    measures: bool,
    as_json: bool,
    output: OutputOptions,
    **given: Any,
) -> None:
    """List the baselines that every search is compared with, in the order in which they are measured.

    With --measure all of them are measured on the same noises and timed, and a report with one table and one plot is
    written. It is a study like any other: run it again to go on, and `exeunt resume` searches in it.

    \b
    Examples:
      exeunt baselines
      exeunt baselines --baselines taylorseer,delta-dit,all-solvers
      exeunt baselines --calibrate --with ecad-fast.json -o baselines/
      exeunt baselines --measure --study field --baselines fewer-steps,fora,taylorseer,delta-dit --calibrate
      exeunt baselines --checkpoint DiT-XL-2.pt --num-steps 50 --json
    """
    from ..baselines.study import load_baselines

    if measures:
        if folder is not None:
            raise InputError(
                "-o: writes schedule files, but --measure writes a report. Use --report FOLDER, or omit -o."
            )
        config = study_config(given, config_file, assignments)
        measure_baselines(
            config, url, files, as_json, output, calibrates=calibrates, limited=given["budget"] is not None
        )
        return
    config = study_config({**given, "reference": "none"}, config_file, assignments)
    found = load_baselines(config, files, calibrates=calibrates)
    rows = [
        {
            "label": each.label,
            "family": each.family,
            "weights": each.weights,
            "steps": each.stored.num_steps,
            "block_evaluations": each.stored.block_evaluations,
            "digest": each.stored.digest,
        }
        for each in found
    ]
    if folder is not None:
        for each in found:
            write_whole(folder / f"{file_name(each.label)}{SUFFIX}", dumps(each.schedule).encode())
    if as_json:
        click.echo(json_text(rows))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value)[:12] if name == "digest" else str(value) for name, value in row.items()))
    Console(width=TABLE_WIDTH, highlight=False).print(table)


def file_name(label: str) -> str:
    """A label as a file's name: what shells and file systems take amiss becomes a dash."""
    return re.sub(r"[^\w.=+]+", "-", label).strip("-")


def measure_baselines(
    config: StudyConfig,
    url: str,
    files: tuple[Path, ...],
    as_json: bool,
    output: OutputOptions,
    *,
    calibrates: bool,
    limited: bool,
) -> None:
    """Measures all baselines; without a budget, however long it takes."""
    from ..baselines.study import measure_study
    from ..measuring.setup import resolve_device
    from ..runner import StudyRequest, study_view
    from ..search.estimate import statement

    config = resolve_device(config)
    if (stored := stored_config(url, config.name)) is not None:
        refuse_difference(stored, config)
    with output.watch() as watch, interruptible() as interruption:
        interruption.hint = "what was committed is kept. Go on with the same command."
        request = StudyRequest(
            config, url, budget=None if limited else EVERYTHING, watch=watch, interruption=interruption
        )
        announce = partial(print_statement, watch, err=as_json)
        measure_study(replace(request, announce=lambda setup: announce(statement(setup))), files, calibrates=calibrates)
    view = study_view(url, config.name)
    if config.run.report is not None:
        click.echo(f"Report: {Path(config.run.report) / 'index.html'}", err=as_json)
    if not as_json:
        print_table(baseline_table(view))
    show_front(view, as_json)


def try_out(config: StudyConfig, as_json: bool) -> None:
    """Says what would be done and what the budget buys, and touches no database."""
    from ..measuring.setup import load_setup
    from ..search.estimate import estimate_budget, statement

    study_setup = load_setup(config)
    click.echo(statement(study_setup), err=as_json)
    budget, found = config.run.budget, estimate_budget(study_setup, parse_budget(config.run.budget))
    full, (least, most) = study_setup.baseline.stored.block_evaluations, study_setup.space.reach()
    text = (
        f"Space: {study_setup.space.words}.\n"
        f"It reaches from {100 * least / full:.3g} % to {100 * most / full:.3g} % of the full schedule's block "
        "evaluations.\n"
        f"The full schedule samples {per_second(found.images_per_second)} images/s here, features included.\n"
        f"A budget of {budget} measures {found.baselines} baselines and about {found.proposals} proposals on "
        f"{config.quality.num_images} images each,\nand measures the best again on about {found.final_images} images "
        f"of final seeds, in about {found.seconds:.0f} s."
    )
    text += "" if found.proposals else f"\n{_too_little(found, config)}"
    text += f"\n{_memory(study_setup)}" if config.search.max_memory else ""
    text += "\nIt ends earlier once the search has stalled." if config.run.until_stalled else ""
    values = {"space": study_setup.space.words, "least_block_evaluations": least, "most_block_evaluations": most}
    needed = {name: each.base for name, each in study_setup.footprints.items()}
    memory = {"max_memory": config.search.max_memory, "memory_bytes_full": needed} if needed else {}
    show({"budget": budget, **asdict(found), **values, **memory}, text, as_json)


def _memory(study_setup: StudySetup) -> str:
    """What the limit on memory leaves for stored values."""
    from ...backends.timing.memory import megabytes

    known, size = study_setup.footprints.values(), study_setup.config.throughput.batch_size
    base, one = max(each.base for each in known), size * max(max(own) for each in known for own in each.stored)
    return (
        f"The full schedule needs {megabytes(base)} at a batch of {size}, and a stored value up to {megabytes(one)}; "
        f"schedules that need more than {study_setup.config.search.max_memory} are not measured."
    )


def _too_little(found: BudgetEstimate, config: StudyConfig) -> str:
    """What to change where the budget leaves nothing for proposals."""
    from ..search.budget import FRONT_SHARE
    from ..search.estimate import TYPICAL_COST

    images = config.quality.num_images * (0.75 * found.baselines + USEFUL_PROPOSALS * TYPICAL_COST) / (1 - FRONT_SHARE)
    seconds = images / found.images_per_second
    unit = 60 if seconds < 7200 else 3600
    enough = Budget(seconds=float(unit * math.ceil(seconds / unit)))
    if parse_budget(config.run.budget).seconds is None:
        enough = Budget(images=math.ceil(images / TYPICAL_COST / 1000) * 1000)
    return (
        f"The budget leaves nothing for proposals. Use --budget {enough} for about {USEFUL_PROPOSALS} of them, or "
        "lower --num-images or --num-steps."
    )
