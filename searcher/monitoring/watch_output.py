"""What a look at studies found, as lines for people and as JSON for programs.

With `--watch` it is shown every few seconds, until Ctrl-C: in place on a terminal, else line after line.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from ...backends.errors import json_text, printable
from ...reports.page.headline import duration
from ...studies.config.budget import Budget

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...studies.workers.activity import Failure, LivingWorker
    from .watch import Snapshot, StatusReader, StudySnapshot

MOST_WORKERS = 8  # shown by name
ORDERED = {"pause": ", paused by `exeunt study pause`", "stop": ", stopped by `exeunt study stop`"}
NO_STUDY = "No study yet. Start one with `exeunt optimize`."


def snapshot_lines(snapshot: Snapshot) -> list[str]:
    """What each look of `--watch --json` prints: one line for each study, or for the outage."""
    if snapshot.outage is not None:
        return [json_text({"at": round(snapshot.at, 3), "storage_error": snapshot.outage}, indent=None)]
    return [json_text(snapshot_values(each), indent=None) for each in snapshot.studies]


def status_json(snapshot: Snapshot) -> str:
    """What `--json` prints: the same values, but an error is one text."""
    found = [
        {**snapshot_values(each), "last_errors": [printable(f"{e.who}: {e.reason}") for e in each.activity.mishaps]}
        for each in snapshot.studies
    ]
    return json_text(found[0] if len(found) == 1 else {"studies": found})


def snapshot_values(study: StudySnapshot) -> dict[str, Any]:
    """A study as plain values."""
    status, activity, front = study.status, study.activity, study.front
    progress, corner, rest = status.progress, front.reference, status.rest
    return {
        "at": round(activity.now, 3),
        "study": study.study,
        "state": status.state,
        "order": activity.order,
        "budget": study.budget,
        "workers_alive": len(activity.workers),
        "workers_lost": activity.workers_lost,
        "workers": [_worker_values(each) for each in activity.workers],
        "schedules_measured": progress.schedules_measured,
        "trials": status.trials,
        "trials_per_hour": None if activity.trials_per_hour is None else round(activity.trials_per_hour, 1),
        "trials_per_hour_over_seconds": round(activity.lately_seconds, 1),
        "images": progress.images,
        "chunks": progress.chunks,
        "device_seconds": round(progress.device_seconds, 1),
        "sampling_seconds": round(progress.sampling_seconds, 1),
        "timing_seconds": round(progress.timing_seconds, 1),
        "worker_seconds": round(progress.worker_seconds, 1),
        "search_front_size": front.size,
        "final_front_size": study.finals.front_size,
        "hypervolume": front.hypervolume,
        "hypervolume_from": None if corner is None else {"quality": corner.quality, "images_per_second": corner.speed},
        "best_ratio": study.finals.best_ratio,
        "best_ratio_lower": study.finals.best_ratio_lower,
        "left": None if rest is None else {"seconds": rest.seconds, "trials": rest.trials, "images": rest.images},
        "ended": status.ended or None,
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


def heading(study: StudySnapshot) -> str:
    """What a study is doing."""
    order = ORDERED.get(study.activity.order or "", "")
    return printable(f"{study.study}: {study.status.state}{order} (budget {study.budget})")


def snapshot_rows(study: StudySnapshot) -> Iterator[tuple[str, str]]:
    """The figures, each with its name. What is not known yet is omitted."""
    activity, progress, front, finals = study.activity, study.status.progress, study.front, study.finals
    lost = f", {activity.workers_lost} lost so far" if activity.workers_lost else ""
    yield "workers", f"{len(activity.workers)} alive{lost}"
    yield from (("", _worker(each)) for each in activity.workers[:MOST_WORKERS])
    if (more := len(activity.workers) - MOST_WORKERS) > 0:
        yield "", f"and {more} more"
    failed = f", {progress.evaluations_failed} failed" if progress.evaluations_failed else ""
    yield "schedules", f"{progress.schedules_measured:,} measured{failed}"
    trials = ", ".join(f"{count} {state}" for state, count in study.status.trials.items()) or "none"
    hour, period = activity.trials_per_hour, duration(activity.lately_seconds)
    yield "trials", trials if hour is None else f"{trials}; {hour:,.0f} an hour over the last {period}"
    yield "images", f"{progress.images:,} in {_counted(progress.chunks, 'chunk')}"
    kinds = f"{progress.sampling_seconds:,.0f} sampling, {progress.timing_seconds:,.0f} timing"
    yield "device seconds", f"{progress.device_seconds:,.0f}: {kinds}"
    yield "front", f"{_counted(front.size, 'point')} on search seeds, {finals.front_size} final"
    if front.hypervolume is not None and front.reference is not None:
        quality, speed = front.reference.quality, front.reference.speed
        yield "hypervolume", f"{front.hypervolume:.4g}, reference point {quality:.4g} at {speed:.3g} images/s"
    if finals.best_ratio is not None:
        yield "best ratio", f"{finals.best_ratio:.2f} (at least {finals.best_ratio_lower:.2f})"
    yield "left", "nothing" if study.status.finished and not study.status.ended else left(study.status.rest)
    if study.status.ended:
        yield "ended", study.status.ended
    yield from (("error", _error(each, activity.now)) for each in activity.mishaps)


def left(rest: Budget | None) -> str:
    """What is left of a budget, time first."""
    if rest is None:
        return "all: no worker has started"
    parts = ["no time limit" if rest.seconds is None else duration(rest.seconds)]
    parts += [_counted(rest.trials, "trial")] if rest.trials is not None else []
    parts += [_counted(rest.images, "image")] if rest.images is not None else []
    return ", ".join(parts)


def snapshot_text(snapshot: Snapshot) -> str:
    """A block of plain lines."""
    blocks = [
        "\n".join([heading(each), *(f"  {name:<16}{text}" for name, text in snapshot_rows(each))])
        for each in snapshot.studies
    ]
    return "\n".join([*blocks, *_remarks(snapshot)])


def _remarks(snapshot: Snapshot) -> list[str]:
    """Why there is nothing, or nothing new."""
    if snapshot.outage is not None:
        return [printable(f"{snapshot.outage} Waiting for the storage.")]
    return [] if snapshot.studies else [NO_STUDY]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _worker(worker: LivingWorker) -> str:
    at = f", measuring {', '.join(worker.measures)}" if worker.measures else ""
    age, silent = duration(worker.seconds), duration(worker.silent_seconds)
    return printable(f"{worker.owner} on {worker.device or 'an unknown device'}, {age}, seen {silent} ago{at}")


def _error(error: Failure, now: float) -> str:
    return printable(f"{duration(max(0.0, now - error.at))} ago, {error.who}: {error.reason}")


def watch(reader: StatusReader, interval: float, *, as_json: bool) -> None:
    """Looks every `interval` seconds; returns at Ctrl-C or SIGTERM. Raises what `StatusReader.look` raises."""
    with until_signal(), _display(interval, as_json) as show:
        while True:
            began = time.monotonic()
            show(reader.look())
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
def _display(interval: float, as_json: bool) -> Generator[Callable[[Snapshot], None]]:
    if as_json:
        yield lambda snapshot: click.echo("".join(f"{line}\n" for line in snapshot_lines(snapshot)), nl=False)
    elif not sys.stdout.isatty():
        yield lambda snapshot: click.echo(f"{snapshot_text(snapshot)}\n")
    else:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda snapshot: live.update(_frame(snapshot, interval), refresh=True)


def _frame(snapshot: Snapshot, interval: float) -> RenderableType:
    """The same text in colours, as a terminal has it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for study in snapshot.studies:
        table = Table.grid(padding=(0, 2))
        for name, text in snapshot_rows(study):
            table.add_row(Text(f"  {name}", style="cyan"), Text(text, style="red" if name == "error" else ""))
        parts += [Text(heading(study), style="bold"), table]
    parts += [Text(remark, style="yellow") for remark in _remarks(snapshot)]
    return Group(*parts, Text(f"updated every {interval:g} s; press Ctrl-C to stop", style="dim"))
