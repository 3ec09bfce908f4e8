"""`exeunt report` and `exeunt export`: a study's report, and its points as files. Both only read the database.

torch and matplotlib are imported where something is sampled or drawn: most ways through these commands need neither.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...backends.errors import ExeuntError, InputError, json_text, printable
from ...backends.formats.registry import FORMATS, find_format, left_out
from ...reports.files.export import (
    default_path,
    file_stem,
    is_standard_output,
    of_study,
    portable_schedule,
    write_whole,
)
from ...reports.files.tables import report_to_json, to_csv
from ...reports.page.headline import details, headline
from ...reports.report import write_report
from ...reports.view import selection
from ...reports.view.view import Point, StudyView
from ...studies.config.reading import override
from ...studies.config.study import StudyConfig
from ...studies.database.errors import corrupt_rows
from ...studies.store.store import only_study, open_store
from .flags.database import json_flag, show, storage_flag, study_flag
from .flags.paths import OUTPUT, OUTPUT_FOLDER

if TYPE_CHECKING:
    from ...reports.plots.samples import GridInfo

_ONNX = "onnx"
NO_SAMPLES = "Samples were omitted (--no-samples)."


class Percentage(click.ParamType[float]):
    """A share that is written as `5%` or `0.05`."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(%?)", str(value).strip())
        if found is None:
            self.fail(f'must be a share such as 5% or 0.05, but got "{value}"', param, ctx)
        return float(found[1]) / (100 if found[2] else 1)


class Factor(click.ParamType[float]):
    """A speed-up that is written as `1.7x` or `1.7`."""

    name = "factor"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?[x×]?", str(value).strip())
        if found is None or float(found[1]) <= 0:
            self.fail(f'must be a speed-up such as 1.7x, but got "{value}"', param, ctx)
        return float(found[1])


@click.command("report")
@storage_flag
@study_flag
@click.option(
    "--output", "-o", type=OUTPUT_FOLDER, default=Path("exeunt-report"),
    show_default=True, metavar="FOLDER", help="Folder of the report.",
)  # fmt: skip
@click.option("--no-samples", is_flag=True, help="Omit sample images, which may need the checkpoint.")
@json_flag
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a line for each schedule.")
def report_command(url: str, study: str | None, output: Path, no_samples: bool, as_json: bool, as_csv: bool) -> None:
    """Write the report of a study, finished or not: a page, plots, tables.

    With --json or --csv it prints the values to standard output and writes no files. The report of an unfinished study
    says what is missing.

    \b
    Examples:
      exeunt report
      exeunt report --study demo -o results/ --no-samples
      exeunt report --json | jq .best_ratio
    """
    view, config = _open(url, study)
    if as_json or as_csv:
        click.echo(report_to_json(view) if as_json else to_csv(view), nl=False)
        return
    view, grid = (view, NO_SAMPLES) if no_samples else sampled(view, config, url)
    files = write_report(view, output, grid)
    for sentence in (headline(view), *details(view), *view.missing):
        click.echo(printable(sentence))
    if isinstance(grid, str) and not no_samples:
        click.echo(grid)
    click.echo(f"Open {files[0]} ({len(files)} files in {output}).")


def _open(url: str, study: str | None) -> tuple[StudyView, StudyConfig]:
    """The view of the named study, or of the only one, and its configuration."""
    from ...reports.view.loading import load_view

    with corrupt_rows("the database"):
        name = only_study(url, study)
    with open_store(url, read_only=True) as store, corrupt_rows(store.url):
        return load_view(store, name), store.studies.config(name)


def sampled(view: StudyView, config: StudyConfig, url: str) -> tuple[StudyView, GridInfo | str]:
    """Images of the points to look at, and the operations of every point.

    What the study kept of both is shown where it has all of it, and no network is loaded. Otherwise all is made afresh,
    so that one page doesn't mix them, or there are the images that were kept, or a sentence in their place.
    """
    shown = selection.pictured(view)
    if not shown:
        return view, "There are no samples yet, because nothing has been measured."
    kept = _kept(view, config, url)
    if kept is not None and len(kept.rows) == len(shown) and all(point.flops is not None for point in view.points):
        return view, kept
    try:
        from ...reports.plots.samples import fresh_samples
        from ..measuring.own_code import refuse_unpinned
        from ..measuring.setup import load_networks, make_conditions, resolve_device

        refuse_unpinned(config, url, scores=False)
        config = resolve_device(config)
        networks = load_networks(config)
        conditions = make_conditions(config, [each for own in networks.values() for each in own])
        return fresh_samples(view, networks, conditions, config.quality.final_seed)
    except ExeuntError as error:
        return view, kept or f"There are no samples, because the network could not run here. {error}"


def _kept(view: StudyView, config: StudyConfig, url: str) -> GridInfo | None:
    """The images that the study kept, if they are available."""
    from ...reports.plots.samples import kept_grid

    try:
        with open_store(url, read_only=True) as store, corrupt_rows(store.url):
            return kept_grid(view, selection.pictured(view), store, seed=config.quality.final_seed)
    except ExeuntError as error:
        click.echo(f"The samples that the study kept are not available: {error}", err=True)
        return None


@click.command("export")
@storage_flag
@study_flag
@click.option("--trial", type=click.IntRange(0), metavar="N", help="The point of trial N.")
@click.option("--label", metavar="TEXT", help="The point with this label, such as a baseline's.")
@click.option("--knee", is_flag=True, help="The knee of the front.")
@click.option(
    "--max-loss", type=Percentage(), metavar="SHARE", help="The fastest point with at most this loss, such as 5%."
)
@click.option(
    "--min-speedup", type=click.FloatRange(0, min_open=True), metavar="X", help="The best point at least X × as fast."
)
@click.option("--at", type=Factor(), metavar="X", help="A point X × as fast: measured, or else interpolated.")
@click.option("--format", "format_name", default="exeunt", show_default=True, help=f"{', '.join(FORMATS)}, {_ONNX}.")
@click.option("--output", "-o", type=OUTPUT, metavar="FILE", help="File to write; - is standard output.")
@json_flag
def export_point(
    url: str,
    study: str | None,
    trial: int | None,
    label: str | None,
    knee: bool,
    max_loss: float | None,
    min_speedup: float | None,
    at: float | None,
    format_name: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write one point of a study as a file that other runtimes can read: the recommended one, or the one of a flag.

    --max-loss is in the report's units: 0% is the full schedule, 100% are images that show nothing. --at takes the
    measured point of that speed, or writes a schedule between the two around it, which was not measured.

    \b
    Examples:
      exeunt export -o fast.schedule.json
      exeunt export --max-loss 5%
      exeunt export --min-speedup 1.5 --study demo
      exeunt export --at 1.7x -o faster.schedule.json
      exeunt export --trial 17 --format ase
      exeunt export --format cache-dit -o fast.cache-dit.yaml
      exeunt export --knee --format onnx -o fast-onnx
    """
    given = dict(zip(selection.CHOICES, (trial, label, knee or None, max_loss, min_speedup), strict=True))
    choice = _only({**given, "--at": at})
    kind = None if format_name == _ONNX else find_format(format_name, others=(_ONNX,))
    view, config = _open(url, study)
    if at is not None:
        point = selection.near_speedup(view, at)
        if point is None:
            export_between(view, config, at, format_name, output, as_json)
            return
        click.echo(f"Measured: {point.label} is within {selection.NEAR_SPEED:.0%} of {at:g}x.", err=True)
    else:
        point = _chosen(view, choice)
    schedule = portable_schedule(view, point)
    if kind is None:
        from ..measuring.own_code import refuse_unpinned
        from .evaluate import write_onnx

        refuse_unpinned(config, url, scores=False)
        path = output or Path(f"{file_stem(view, point)}-{_ONNX}")
        write_onnx(schedule, _with_weights(config, point.weights), path)
    else:
        path = output or default_path(view, point, format_name)
        write_whole(path, kind.write(schedule).encode())
    click.echo(_written(view, point, path, format_name, as_json), err=is_standard_output(path))
    if kind is not None and (note := left_out(format_name, schedule)) is not None:
        click.echo(note, err=True)


def _with_weights(config: StudyConfig, weights: str) -> StudyConfig:
    """The configuration with the checkpoint of a point in place of the study's own."""
    from ..measuring.setup import load_networks, resolve_device

    if not config.checkpoint.baseline_weights:
        return config
    networks = load_networks(resolve_device(config))
    paths = dict(zip(networks, [config.checkpoint.path, *config.checkpoint.baseline_weights], strict=True))
    return override(config, {"checkpoint.path": paths[weights]})


def _only(given: dict[str, Any]) -> tuple[str, Any] | None:
    """The one flag that was given, with its value; None without any. Raises InputError for several."""
    made = [(flag, value) for flag, value in given.items() if value is not None]
    if len(made) > 1:
        got = " and ".join(flag for flag, _ in made)
        raise InputError(f"export: give at most one of {', '.join(given)}, but got {got}. Keep one.")
    return made[0] if made else None


def _chosen(view: StudyView, choice: tuple[str, Any] | None) -> Point:
    """The point of a flag, with a warning if it is vetoed; the recommended one without any."""
    if choice is None:
        return selection.the_recommended(view)
    flag, value = choice
    point = selection.CHOICES[flag](view, value)
    for objection in view.objections(point, "final") or view.objections(point, "search"):
        click.echo(printable(f"Warning: {point.label} is vetoed: {objection}."), err=True)
    return point


def _written(view: StudyView, point: Point, path: Path, format_name: str, as_json: bool) -> str:
    """What was written where; the digest is that of the study's schedule, without coefficients."""
    speedup, loss = view.speedup(point), view.loss(point, "final")
    if not as_json:
        parts = [f"{path}: {point.label} on {point.weights}"]
        parts += [f"{speedup.value:.2f} × as fast as the full schedule"] if speedup else []
        parts += [view.standard.words(loss)] if loss is not None else []
        return ", ".join(parts)
    values = {
        "path": str(path),
        "format": format_name,
        "study": view.name,
        "point": point.label,
        "trial": point.trial,
        "weights": point.weights,
        "digest": point.schedule.digest,
        "speedup": speedup.value if speedup else None,
        "loss": loss and loss.value,
        "relative_excess": view.relative_excess(point, "final"),
    }
    return json_text(values)


def export_between(
    view: StudyView, config: StudyConfig, wanted: float, format_name: str, output: Path | None, as_json: bool
) -> None:
    """Writes a schedule between the two points of the front around a speed-up, and says that it was not measured."""
    from ..measuring.setup import load_frames, resolve_device
    from ..proposals.interpolation import interpolated
    from ..spaces.base import make_space
    from ..spaces.free import require_free

    kind = find_format(format_name)
    frames = load_frames(resolve_device(config))
    weights = next(iter(frames))
    levers = dict(config.search.levers) if config.search.space == "free" else {}
    space = require_free(make_space("free", frames[weights], levers), "--at")
    found = interpolated(view, space, weights, wanted)
    label = f"interpolated at {found.speedup:.2f}x"
    schedule = of_study(view, found.schedule, label)
    path = output or Path(f"{view.name}-{found.speedup:.2f}x{kind.suffix}")
    write_whole(path, kind.write(schedule).encode())
    ends = [(p, view.speedup(p), view.loss(p, "final")) for p in (found.slower, found.faster)]
    near = " and ".join(
        f"{p.label} ({speed.value:.2f} ×{f', {view.standard.words(loss)}' if loss else ''})"
        for p, speed, loss in ends
        if speed
    )
    measure = shlex.join(["exeunt", "evaluate", str(path), *_settings(config)])
    text = (
        f"{path}: interpolated, not measured: predicted {found.speedup:.2f} × as fast as the full schedule, between "
        f"{near}.\nMeasure it: {measure}"
    )
    values = {
        "path": str(path),
        "format": format_name,
        "study": view.name,
        "measured": False,
        "weights": weights,
        "digest": found.schedule.digest,
        "predicted_speedup": found.speedup,
        "between": [
            {"point": p.label, "speedup": speed and speed.value, "loss": loss and loss.value} for p, speed, loss in ends
        ],
        "measure": measure,
    }
    show(values, text, as_json, err=is_standard_output(path))
    if (note := left_out(format_name, schedule)) is not None:
        click.echo(note, err=True)


# The settings that `exeunt evaluate` needs to measure as a study does, by their flags.
_FLAGS = {
    "--checkpoint": "checkpoint.path",
    "--network": "checkpoint.network",
    "--weights-key": "checkpoint.weights_key",
    "--vae": "checkpoint.vae",
    "--pipeline": "checkpoint.pipeline",
    "--dtype": "checkpoint.dtype",
    "--conditions": "quality.conditions",
    "--num-steps": "baseline.num_steps",
    "--metric": "quality.metric",
    "--reference": "quality.reference",
    "--extractor-weights": "quality.extractor_weights",
    "--num-images": "quality.final_images",
    "--seed": "quality.final_seed",
}


def _settings(config: StudyConfig) -> list[str]:
    """The flags with which `exeunt evaluate` measures what the study does on final seeds, where they say something."""
    default, found = StudyConfig(), list[str]()
    for flag, key in _FLAGS.items():
        section, name = key.split(".")
        value, usual = (getattr(getattr(each, section), name) for each in (config, default))
        repeats = flag == "--checkpoint" and config.checkpoint.pipeline is not None
        if value is not None and not repeats and (value != usual or flag == "--num-images"):
            found += [flag, str(value)]
    if config.checkpoint.small is not None:
        found += ["--network", f"small={config.checkpoint.small}"]
    return found
