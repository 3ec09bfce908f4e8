"""`exeunt schedule`: show, validate and convert schedule files. None of it costs torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console

from ..backends import schedule as schedules
from ..backends.errors import InputError
from ..backends.schedule import Schedule, ScheduleError
from ..reports.schedule_map import schedule_map, terminal
from .options import json_flag


@click.group()
def schedule() -> None:
    """Show, validate and convert schedule files.

    \b
    Examples:
      exeunt schedule show fast.schedule.json
      exeunt schedule validate *.schedule.json
      exeunt schedule convert fast.schedule.json --to ase
    """


@schedule.command()
@click.argument("file", metavar="FILE")
@click.option("--png", metavar="FILE", help="Also draw the matrix into a PNG file.")
@click.option("--pdf", metavar="FILE", help="Also draw the matrix into a PDF file.")
@json_flag
def show(file: str, png: str | None, pdf: str | None, as_json: bool) -> None:
    """Draw the step × block matrix of FILE: what runs, is dropped, reused or forecast at every step.

    \b
    Examples:
      exeunt schedule show fast.schedule.json
      exeunt schedule show fast.schedule.json --png fast.png
    """
    shown = schedules.load(file)
    for path, kind in ((png, "png"), (pdf, "pdf")):
        if path is not None:
            _draw(shown, Path(path), kind)
    if as_json:
        click.echo(json.dumps(_description(shown), indent=2))
    else:
        Console(highlight=False).print(terminal(schedule_map(shown)), soft_wrap=True)


def _draw(shown: Schedule, path: Path, kind: str) -> None:
    from ..reports import schedule_plot, style  # matplotlib takes a second to import

    picture = schedule_plot.draw(schedule_map(shown))
    _write(path, style.png(picture) if kind == "png" else style.pdf(picture))


def _description(shown: Schedule) -> dict[str, Any]:
    """What the map shows, for programs."""
    info = schedule_map(shown)
    return {
        "name": shown.name,
        "digest": shown.digest,
        "num_steps": shown.num_steps,
        "num_blocks": info.num_blocks,
        "block_evaluations": info.block_evaluations,
        "full_block_evaluations": info.full_block_evaluations,
        "depths": [step.depth for step in info.steps],
        "branches": [step.branches for step in info.steps],
        "schedule": json.loads(schedules.canonical(shown)),
    }


@schedule.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_flag
def validate(files: tuple[str, ...], as_json: bool) -> None:
    """Check FILEs against the format: one line each, and exit code 2 if one of them breaks a rule.

    \b
    Examples:
      exeunt schedule validate fast.schedule.json
      exeunt schedule validate --json *.schedule.json
    """
    results = [_validated(file) for file in files]
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            click.echo(_verdict(result), err=not result["valid"])
    if not all(result["valid"] for result in results):
        raise click.exceptions.Exit(ScheduleError.exit_code)


def _validated(file: str) -> dict[str, Any]:
    try:
        read = schedules.load(file)
    except ScheduleError as error:
        return {"file": file, "valid": False, "identifier": error.identifier, "message": str(error)}
    size = {"num_steps": read.num_steps, "block_evaluations": schedules.block_evaluations(read)}
    return {"file": file, "valid": True, "digest": read.digest, **size}


def _verdict(result: dict[str, Any]) -> str:
    if not result["valid"]:
        return f"Error: {result['message']}"
    size = f"{result['num_steps']} steps, {result['block_evaluations']} block evaluations"
    return f"{result['file']}: valid, {size}, digest {result['digest'][:12]}"


@schedule.command()
@click.argument("source", metavar="FILE|DEPTHS")
@click.option(
    "--to", type=click.Choice(["schedule", "ase"]), default="schedule", show_default=True, help="What to write."
)
@click.option(
    "--base", metavar="FILE", help="A schedule whose solver, times and guidance the ten depths of ASE are put on."
)
@click.option("-o", "--output", metavar="FILE", help="Where to write; standard output if not given.")
@json_flag
def convert(source: str, to: str, base: str | None, output: str | None, as_json: bool) -> None:
    """Convert a schedule file to its canonical form or to ASE's ten depths, or ten depths to a schedule file.

    With --base, the first argument is ten depths, next to the data first: numbers with commas, or a JSON file. Without
    it, the argument is a schedule file.

    \b
    Examples:
      exeunt schedule convert fast.schedule.json --to ase
      exeunt schedule convert 28,28,24,24,20,20,16,16,12,12 --base full.schedule.json -o ase.schedule.json
    """
    read = schedules.load(source) if base is None else schedules.from_ase(_ten_depths(source), schedules.load(base))
    text = schedules.dumps(read) if to == "schedule" else json.dumps(schedules.to_ase(read)) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    _write(Path(output), text.encode())
    if as_json:
        click.echo(json.dumps({"written": output, "digest": read.digest}))
    else:
        click.echo(f"wrote {output}", err=True)


def _ten_depths(source: str) -> list[int]:
    """Depths from `28,28,…` or from a JSON file; `from_ase` checks how many there are and how large."""
    try:
        text = Path(source).read_text(encoding="utf-8") if os.path.isfile(source) else f"[{source}]"
        depths: Any = json.loads(text)
    except (OSError, ValueError, RecursionError):
        depths = None
    if not isinstance(depths, list) or not all(type(depth) is int for depth in cast(list[Any], depths)):
        raise InputError(
            f"DEPTHS must be ten integers with commas, or a JSON file with a list of them, but got {source!r}. "
            "Write such as 28,28,24,24,20,20,16,16,12,12."
        )
    return cast(list[int], depths)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{path}: must be a file that can be written, but got {error.strerror}. Give another path."
        ) from None
