"""`exeunt status`: what a database holds, read without changing anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from ...backends.errors import json_text, printable
from ...studies.database.foreign import corrupt_rows
from ...studies.database.urls import storage_url
from ...studies.store.store import Store, open_store
from .flags.database import json_flag, storage_flag, study_flag

if TYPE_CHECKING:
    from ...reports.view.view import StudyView

LAST_ERRORS = 5


@click.command()
@storage_flag
@study_flag
@json_flag
@click.option("--watch", is_flag=True, help="Show it again and again, with workers and pace, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks of --watch.",
)
def status(storage: str, study: str | None, as_json: bool, watch: bool, interval: float) -> None:
    """Say what a database holds: schedules, trials, images, front, errors.

    With --watch it also says who works, how many trials an hour come, and what is left of the budget. With --json as
    well, each look is one line of JSON for each study.

    \b
    Examples:
      exeunt status
      exeunt status --storage runs/dit.db --study dit --json
      exeunt status --watch --interval 2
    """
    if watch:
        from ..monitoring import watch_output
        from ..monitoring.watch import StatusReader

        watch_output.watch(StatusReader(storage_url(storage), study), interval, as_json=as_json)
        return
    with open_store(storage_url(storage), read_only=True) as store, corrupt_rows(store.url):
        names = [store.studies.config(study).name] if study else store.studies.names()
        found = [describe(store, name) for name in names]
    if as_json:
        click.echo(json_text(found[0] if len(found) == 1 else {"studies": found}))
        return
    if not found:
        click.echo("No study yet. Start one with `exeunt optimize`.")
    for each in found:
        click.echo(printable(status_text(each)))


def describe(store: Store, study: str) -> dict[str, Any]:
    """One study's standing as plain values."""
    from ...reports.view.loading import load_view
    from ...studies.workers.status import standing

    stands, view = standing(store, study), load_view(store, study)
    progress = stands.progress
    return {
        "study": study,
        "state": stands.state,
        "budget": store.studies.config(study).run.budget,
        "schedules_measured": progress.schedules_measured,
        "trials": stands.trials,
        "images": progress.images,
        "chunks": progress.chunks,
        "sampling_seconds": round(progress.sampling_seconds, 1),
        "timing_seconds": round(progress.timing_seconds, 1),
        "worker_seconds": round(progress.worker_seconds, 1),
        "search_front_size": len(view.front("search")),
        "final_front_size": len(view.front("final")),
        "hypervolume": search_hypervolume(view),
        "best_ratio": view.best.ratio if view.best else None,
        "best_ratio_lower": view.best.lower if view.best else None,
        "evaluations_failed": progress.evaluations_failed,
        "last_errors": list(view.failures[-LAST_ERRORS:]),
    }


def search_hypervolume(view: StudyView) -> float | None:
    """What the search's front dominates, from the view's reference point; None before there is one."""
    reached = view.progress[-1].hypervolume if view.progress else math.nan
    return reached if math.isfinite(reached) else None


def status_text(found: dict[str, Any]) -> str:
    """The same, one line a figure; what is not known yet is left out."""
    trials = ", ".join(f"{count} {state}" for state, count in found["trials"].items()) or "none"
    lines = [
        f"{found['study']}: {found['state']} (budget {found['budget']})",
        f"  schedules measured  {found['schedules_measured']}",
        f"  trials              {trials}",
        f"  images              {found['images']:,} in {found['chunks']} chunks, {found['sampling_seconds']:.0f} s",
        f"  front               {found['search_front_size']} points on search seeds, {found['final_front_size']} final",
    ]
    if found["hypervolume"] is not None:
        lines.append(f"  hypervolume         {found['hypervolume']:.4g}")
    if found["best_ratio"] is not None:
        lines.append(f"  best ratio          {found['best_ratio']:.2f} (at least {found['best_ratio_lower']:.2f})")
    if found["evaluations_failed"]:
        lines.append(f"  failed              {found['evaluations_failed']}")
    lines += [f"  error               {error}" for error in found["last_errors"]]
    return "\n".join(lines)
