"""What a look at studies found, as lines for people and as one JSON object a line for programs.

Showing what a watcher sees every few seconds, until Ctrl-C: in place on a terminal, else line after line.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...backends.errors import json_text, printable
from ...reports.page.headline import duration
from ...studies.config.budget import Budget
from ...studies.workers.activity import Failure, LivingWorker
from .watch import Snapshot, StatusReader, StudySnapshot

MOST_WORKERS = 8  # shown by name
ORDERED = {"pause": ", paused by `exeunt study pause`", "stop": ", stopped by `exeunt study stop`"}
NO_STUDY = "No study yet. Start one with `exeunt optimize`."


def snapshot_lines(sight: Snapshot) -> list[str]:
    """One line for each study, or for the outage."""
    if sight.outage is not None:
        return [json_text({"at": round(sight.at, 3), "storage_error": sight.outage}, indent=None)]
    return [json_text(snapshot_values(glance), indent=None) for glance in sight.glances]


def snapshot_values(glance: StudySnapshot) -> dict[str, Any]:
    """A study as plain values, with the names that `exeunt status --json` has."""
    stands, activity, front = glance.stands, glance.activity, glance.front
    progress, corner, rest = stands.progress, front.reference, stands.rest
    return {
        "at": round(activity.now, 3),
        "study": glance.study,
        "state": stands.state,
        "order": activity.order,
        "budget": glance.budget,
        "workers_alive": len(activity.workers),
        "workers_lost": activity.workers_lost,
        "workers": [_worker_values(each) for each in activity.workers],
        "schedules_measured": progress.schedules_measured,
        "trials": stands.trials,
        "trials_per_hour": None if activity.trials_per_hour is None else round(activity.trials_per_hour, 1),
        "trials_per_hour_over_seconds": round(activity.lately_seconds, 1),
        "images": progress.images,
        "chunks": progress.chunks,
        "device_seconds": round(progress.device_seconds, 1),
        "sampling_seconds": round(progress.sampling_seconds, 1),
        "timing_seconds": round(progress.timing_seconds, 1),
        "worker_seconds": round(progress.worker_seconds, 1),
        "search_front_size": front.size,
        "final_front_size": glance.finals.front_size,
        "hypervolume": front.hypervolume,
        "hypervolume_from": None if corner is None else {"quality": corner.quality, "images_per_second": corner.speed},
        "best_ratio": glance.finals.best_ratio,
        "best_ratio_lower": glance.finals.best_ratio_lower,
        "left": None if rest is None else {"seconds": rest.seconds, "trials": rest.trials, "images": rest.images},
        "evaluations_failed": progress.evaluations_failed,
        "last_errors": [{"at": round(each.at, 3), "of": each.who, "reason": each.reason} for each in activity.mishaps],
    }


def _worker_values(worker: LivingWorker) -> dict[str, Any]:
    return {
        "owner": worker.owner,
        "device": worker.device,
        "seconds": round(worker.seconds, 1),
        "silent_seconds": round(worker.silent_seconds, 1),
        "measures": list(worker.measures),
    }


def heading(glance: StudySnapshot) -> str:
    """What a study is doing."""
    order = ORDERED.get(glance.activity.order or "", "")
    return printable(f"{glance.study}: {glance.stands.state}{order} (budget {glance.budget})")


def snapshot_rows(glance: StudySnapshot) -> Iterator[tuple[str, str]]:
    """The figures, each with its name."""
    activity, progress, front = glance.activity, glance.stands.progress, glance.front
    trials = ", ".join(f"{count} {state}" for state, count in glance.stands.trials.items()) or "none"
    yield "workers", f"{len(activity.workers)} alive" + _lost(activity.workers_lost)
    yield from (("", _worker(each)) for each in activity.workers[:MOST_WORKERS])
    if (more := len(activity.workers) - MOST_WORKERS) > 0:
        yield "", f"and {more} more"
    yield "trials", trials + _pace(activity.trials_per_hour, activity.lately_seconds)
    yield "images", f"{progress.images:,} in {_counted(progress.chunks, 'chunk')}"
    kinds = f"{progress.sampling_seconds:,.0f} sampling, {progress.timing_seconds:,.0f} timing"
    yield "device seconds", f"{progress.device_seconds:,.0f}: {kinds}"
    yield "front", f"{_counted(front.size, 'point')} on search seeds, {glance.finals.front_size} final"
    if front.hypervolume is not None and front.reference is not None:
        quality, speed = front.reference.quality, front.reference.speed
        yield "hypervolume", f"{front.hypervolume:.4g}, counted from {quality:.4g} at {speed:.3g} images/s"
    if glance.finals.best_ratio is not None:
        lower = glance.finals.best_ratio_lower
        yield "best ratio", f"{glance.finals.best_ratio:.2f} (at least {lower:.2f})"
    yield "left", "nothing to do" if glance.stands.finished else left(glance.stands.rest)
    yield from (("error", _mishap(each, activity.now)) for each in activity.mishaps)


def left(rest: Budget | None) -> str:
    """What is left of a budget, time first."""
    if rest is None:
        return "all: no worker has begun"
    parts = ["no limit of time" if rest.seconds is None else duration(rest.seconds)]
    parts += [_counted(rest.trials, "trial")] if rest.trials is not None else []
    parts += [_counted(rest.images, "image")] if rest.images is not None else []
    return ", ".join(parts)


def snapshot_text(sight: Snapshot) -> str:
    """A block of plain lines."""
    blocks = [
        "\n".join([heading(each), *(f"  {name:<16}{text}" for name, text in snapshot_rows(each))])
        for each in sight.glances
    ]
    if sight.outage is not None:
        blocks.append(outage(sight))
    return "\n".join(blocks or [NO_STUDY])


def outage(sight: Snapshot) -> str:
    """Why nothing new is shown."""
    return printable(f"{sight.outage} Waiting for it.")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _lost(count: int) -> str:
    return f", {count} lost so far" if count else ""


def _worker(worker: LivingWorker) -> str:
    at = f", at {', '.join(worker.measures)}" if worker.measures else ""
    age, silent = duration(worker.seconds), duration(worker.silent_seconds)
    return printable(f"{worker.owner} on {worker.device or 'an unknown device'}, {age}, seen {silent} ago{at}")


def _pace(per_hour: float | None, seconds: float) -> str:
    return "" if per_hour is None else f"; {per_hour:,.0f} an hour over the last {duration(seconds)}"


def _mishap(mishap: Failure, now: float) -> str:
    return printable(f"{duration(max(0.0, now - mishap.at))} ago, {mishap.who}: {mishap.reason}")


Show = Callable[[Snapshot], None]


def watch(watcher: StatusReader, interval: float, *, as_json: bool) -> None:
    """Looks every `interval` seconds; returns at Ctrl-C or SIGTERM. Raises what `Watcher.look` raises."""
    with until_signal(), _display(interval, as_json) as show:
        while True:
            began = time.monotonic()
            show(watcher.look())
            time.sleep(max(0.0, began + interval - time.monotonic()))


@contextmanager
def until_signal() -> Generator[None]:
    """A block that never ends by itself: SIGINT or SIGTERM ends it, which is no error."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(interval: float, as_json: bool) -> Generator[Show]:
    if as_json:
        yield lambda sight: click.echo("".join(f"{line}\n" for line in snapshot_lines(sight)), nl=False)
    elif not sys.stdout.isatty():
        yield lambda sight: click.echo(f"{snapshot_text(sight)}\n")
    else:
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda sight: live.update(_frame(sight, interval), refresh=True)


def _frame(sight: Snapshot, interval: float) -> RenderableType:
    """Everything at once, as a terminal has it."""
    return Group(*_parts(sight), Text(f"every {interval:g} s; Ctrl-C ends it", style="dim"))


def _parts(sight: Snapshot) -> Iterator[RenderableType]:
    if not sight.glances and sight.outage is None:
        yield Text(NO_STUDY)
    for glance in sight.glances:
        table = Table.grid(padding=(0, 2))
        for name, text in snapshot_rows(glance):
            table.add_row(Text(f"  {name}", style="cyan"), Text(text, style="red" if name == "error" else ""))
        yield Text(heading(glance), style="bold")
        yield table
    if sight.outage is not None:
        yield Text(outage(sight), style="yellow")
