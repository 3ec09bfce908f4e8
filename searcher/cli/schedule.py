"""`exeunt schedule`: show, validate, convert and make schedule files. Only what loads a checkpoint imports torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console

from ...backends import schedule as schedules
from ...backends.errors import InputError, printable
from ...backends.formats.branches import by_branch
from ...backends.formats.parsing import numbers
from ...backends.formats.registry import FORMATS, find_format, left_out, named_by_suffix, sniff
from ...backends.schedule import Schedule, ScheduleError
from ...reports.files.export import is_standard_output, write_whole
from ...reports.plots.schedule_map import schedule_map, terminal
from ...studies.interruption import interruptible
from ..monitoring.progress import watching
from .flags.database import json_flag, show
from .flags.paths import OUTPUT, OUTPUT_FILE
from .flags.study import (
    BASELINE_FLAGS,
    CHECKPOINT_FLAGS,
    CONFIG_FLAGS,
    GRANULARITY_FLAGS,
    METRIC_FLAGS,
    NETWORK_FLAGS,
    flags,
    study_config,
)

_ONNX = "onnx"  # a folder, and of a network: the one format that is no text


@click.group()
def schedule() -> None:
    """Show, validate, convert and fit schedule files.

    \b
    Examples:
      exeunt schedule show fast.schedule.json
      exeunt schedule validate *.schedule.json
      exeunt schedule full -o full.schedule.json
      exeunt schedule convert fast.schedule.json --to cache-dit
      exeunt schedule fit fast.schedule.json -o fitted.schedule.json
    """


@schedule.command("show")
@click.argument("file", metavar="FILE")
@click.option("--png", type=OUTPUT_FILE, metavar="FILE", help="Also draw the matrix into a PNG file.")
@click.option("--pdf", type=OUTPUT_FILE, metavar="FILE", help="Also draw the matrix into a PDF file.")
@json_flag
def show_command(file: str, png: Path | None, pdf: Path | None, as_json: bool) -> None:
    """Draw the step × block matrix of FILE: what runs, is dropped, reused or forecast at every step.

    \b
    Examples:
      exeunt schedule show fast.schedule.json
      exeunt schedule show fast.schedule.json --png fast.png
    """
    shown = schedules.load(file)
    if png is not None or pdf is not None:
        from ...reports.plots import maps, style  # matplotlib takes a second to import

        for path, as_kind in ((png, style.png), (pdf, style.pdf)):
            if path is not None:
                write_whole(path, as_kind(maps.draw(schedule_map(shown))), makes_folder=False)
    err = any(path is not None and is_standard_output(path) for path in (png, pdf))
    if as_json:
        click.echo(json.dumps(_description(shown), indent=2), err=err)
    else:
        Console(stderr=err, highlight=False).print(terminal(schedule_map(shown)), soft_wrap=True)


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
        "depths": list(info.depths),
        "branches": list(info.branches),
        "schedule": json.loads(schedules.canonical(shown)),
    }


@schedule.command("validate")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_flag
def validate_command(files: tuple[str, ...], as_json: bool) -> None:
    """Check FILEs against the format: one line each, and exit code 2 if one of them breaks a rule.

    \b
    Examples:
      exeunt schedule validate fast.schedule.json
      exeunt schedule validate --json *.schedule.json
    """
    results = [_validated(file) for file in files]
    if as_json:
        click.echo(json.dumps(results, indent=2))
    for result in () if as_json else results:
        if result["valid"]:
            size = f"{result['num_steps']} steps, {result['block_evaluations']} block evaluations"
            click.echo(printable(f"{result['file']}: valid, {size}, digest {result['digest'][:12]}"))
        else:
            click.echo(printable(f"Error: {result['message']}"), err=True)
    if not all(result["valid"] for result in results):
        raise click.exceptions.Exit(ScheduleError.exit_code)


def _validated(file: str) -> dict[str, Any]:
    try:
        read = schedules.load(file)
    except ScheduleError as error:
        return {"file": file, "valid": False, "identifier": error.identifier, "message": str(error)}
    size = {"num_steps": read.num_steps, "block_evaluations": schedules.block_evaluations(read)}
    return {"file": file, "valid": True, "digest": read.digest, **size}


@schedule.command()
@click.argument("source", metavar="FILE|NUMBERS")
@click.option(
    "--from", "from_name", metavar="NAME", help=f"Format of FILE, if it is not recognised: {', '.join(FORMATS)}."
)
@click.option("--to", "to_name", metavar="NAME", default="schedule", show_default=True, help="Format to write.")
@click.option("--base", metavar="FILE", help="Schedule with the solver, times and guidance that FILE lacks.")
@click.option(
    "--granularity",
    type=click.Choice(["branch"]),
    help="Give each branch (attention, MLP) the action of its block, as feature caches need.",
)
@click.option("-o", "--output", type=OUTPUT, metavar="FILE", help="File to write. Default: -, standard output.")
@flags(NETWORK_FLAGS)
@json_flag
def convert(
    source: str,
    from_name: str | None,
    to_name: str,
    base: str | None,
    granularity: str | None,
    output: Path | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Convert a schedule between Exeunt's file and those of other runtimes.

    \b
    Formats, to read and to write:
      exeunt       Exeunt's file with the solver's coefficients
      schedule     Exeunt's file as it stands, the solver by name
      ase          ten depths (ASE): 28,28,24,24,20,20,16,16,12,12
      smoothcache  JSON: {"attn-0": [1, 0, ...], "mlp-0": [...]}, 1 = compute
      ecad         JSON: {"cache_schedule": {...}}
      cache-dit    YAML: steps_computation_mask with the policy static
      timesteps    only the times: 999,750,500,250,0 or a JSON list
      onnx         a folder of graphs of the network that --checkpoint names; can only be written

    If a format can't express a schedule, the error names the step. Files of other runtimes lack a solver, times and
    guidance: --base provides them. With --granularity branch, each branch gets the action of its block. Where blocks
    are reused, the result is another schedule, with slightly different images.

    \b
    Examples:
      exeunt schedule convert fast.schedule.json --to exeunt -o portable.schedule.json
      exeunt schedule convert fast.schedule.json --to cache-dit -o fast.yaml
      exeunt schedule convert fast.yaml --base full.schedule.json
      exeunt schedule convert fast.schedule.json --granularity branch --to smoothcache
      exeunt schedule convert 50-N-2-fora.json --base full.schedule.json -o fora.schedule.json
      exeunt schedule convert pixart.schedule.json --to ecad
      exeunt schedule convert ours_fast.json --base full.schedule.json
      exeunt schedule convert full.schedule.json --to timesteps
      exeunt schedule convert 999,845,730,587,443,310,193,116,53,13 --base full.schedule.json
      exeunt schedule convert fast.schedule.json --to ase
      exeunt schedule convert 28,28,24,24,20,20,16,16,12,12 --base full.schedule.json
      exeunt schedule convert fast.schedule.json --to onnx --checkpoint DiT-XL-2.pt -o fast-onnx
    """
    target = None if to_name == _ONNX else find_format(to_name, "--to", others=(_ONNX,))
    _check_network_flags(to_name, output, network)
    frame = schedules.load(base) if base is not None else None
    name, read = _read(source, from_name, frame)
    read = by_branch(read) if granularity == "branch" else read
    if target is None:
        assert output is not None
        _write_onnx(read, output, network, as_json)
        return
    text = target.write(read)
    for part in FORMATS[name].unread(_text(source)):
        click.echo(printable(f"Note: `{part}` of {source} is omitted: schedules have no such setting."), err=True)
    if from_name is None and name != "schedule":
        click.echo(f"{source} is read as {name}. Use --from if it has another format.", err=True)
    if (note := left_out(to_name, read)) is not None:
        click.echo(note, err=True)
    if output is None:
        click.echo(text, nl=False)
        return
    write_whole(output, text.encode(), makes_folder=False)
    if as_json:
        digest = (schedules.parse(text) if target.suffix == schedules.SUFFIX else read).digest
        values = {"written": str(output), "from": name, "to": to_name, "digest": digest}
        click.echo(json.dumps(values), err=is_standard_output(output))
    else:
        click.echo(f"wrote {output}", err=True)


def _check_network_flags(to_name: str, output: Path | None, network: Mapping[str, Any]) -> None:
    """ONNX graphs need a network and a folder; no other format takes a network."""
    given = [name for name, value in network.items() if value]
    if to_name == _ONNX and output is None:
        raise InputError("--to onnx: writes a folder, but got none. Add -o FOLDER.")
    if to_name == _ONNX and "checkpoint" not in given:
        raise InputError("--to onnx: writes the network's graphs, but got no network. Add --checkpoint FILE.")
    if to_name != _ONNX and given:
        flag = f"--{given[0].replace('_', '-').removesuffix('s')}"
        raise InputError(f"{flag}: is for --to onnx, but got --to {to_name}. Omit it.")


def _write_onnx(read: Schedule, folder: Path, network: Mapping[str, Any], as_json: bool) -> None:
    from .evaluate import write_onnx

    manifest = write_onnx(read, study_config({**network, "reference": "none"}), folder)
    if as_json:
        click.echo(json.dumps({"written": str(manifest), "to": _ONNX, "digest": read.digest}))
    else:
        click.echo(f"wrote {manifest}; try: python {folder}/sample.py", err=True)


def _read(source: str, name: str | None, base: Schedule | None) -> tuple[str, Schedule]:
    """The format's name and the schedule of a file, or of numbers in place of one. Errors start with the file."""
    text = _text(source)
    try:
        name = name or named_by_suffix(source) or sniff(text, base)
        reader = find_format(name, "--from").read
        if reader is None:
            raise InputError(
                f"--from: {name} files can only be written. Convert from the schedule that they were made from."
            )
        return name, reader(text, base)
    except ScheduleError as error:
        raise ScheduleError(error.identifier, f"{_shown(source)}: {error}") from None
    except InputError as error:
        raise InputError(f"{_shown(source)}: {error}") from None


def _shown(source: str) -> str:
    """A file's whole path, or the beginning of numbers."""
    return source if os.path.isfile(source) or len(source) <= 60 else f"{source[:57]}..."


def _text(source: str) -> str:
    """What a file holds, or the argument itself where it is numbers."""
    if not os.path.isfile(source) and numbers(source) is not None:
        return source
    try:
        with open(source, "rb") as file:
            return file.read(schedules.MAX_BYTES + 1).decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        got = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        raise InputError(
            f"{_shown(source)}: must be a readable file, or numbers with commas, but got {got}. Check the path."
        ) from None


@schedule.command()
@flags(CHECKPOINT_FLAGS, BASELINE_FLAGS, GRANULARITY_FLAGS, CONFIG_FLAGS)
@click.option("-o", "--output", type=OUTPUT_FILE, metavar="FILE", help="File to write. Default: -, standard output.")
def full(config_file: Path | None, assignments: tuple[str, ...], output: Path | None, **given: Any) -> None:
    """Write the full schedule of a checkpoint: every block at every step.

    Files of other runtimes lack solver, times and guidance: `exeunt schedule convert --base` takes them from this file.

    \b
    Examples:
      exeunt schedule full -o full.schedule.json
      exeunt schedule full --checkpoint DiT-XL-2.pt --solver ddim --num-steps 50 --guidance 1.5 -o full.schedule.json
    """
    from ..measuring.defaults import make_frame
    from ..measuring.setup import load_one, resolve_device

    config = resolve_device(study_config({**given, "reference": "none"}, config_file, assignments))
    made = make_frame([load_one(config)], config.baseline).full
    if output is None:
        click.echo(schedules.dumps(made), nl=False)
        return
    write_whole(output, schedules.dumps(made).encode())
    evaluations = f"{made.num_steps} steps of {made.sampler.name}, {made.networks[0].num_blocks} blocks"
    click.echo(f"{output}: {evaluations}", err=True)


@schedule.command()
@click.argument("file", metavar="FILE")
@flags(CHECKPOINT_FLAGS, METRIC_FLAGS, CONFIG_FLAGS)
@click.option(
    "--objective",
    type=click.Choice(["metric", "trajectory"]),
    default="metric",
    show_default=True,
    help="What is lowest in the end: the metric of the images, or their distance from the full trajectories.",
)
@click.option("--times", is_flag=True, help="Move the steps' times too, all but the first.")
@click.option(
    "--images",
    type=click.IntRange(2),
    metavar="N",
    help="How many are fitted on. Default: 256, or 48 with --objective trajectory.",
)
@click.option("--seed", type=click.IntRange(0), default=2, show_default=True, metavar="N", help="Seed of their noises.")
@click.option(
    "--full-steps", type=click.IntRange(2), default=100, show_default=True, metavar="N", help="Of full trajectories."
)
@click.option("--tries", type=click.IntRange(1), default=60, show_default=True, metavar="N", help="Fits at most.")
@click.option("-o", "--output", type=OUTPUT_FILE, metavar="FILE", help="Where to write. Default: -, standard output.")
@json_flag
def fit(
    file: str,
    config_file: Path | None,
    assignments: tuple[str, ...],
    objective: Literal["metric", "trajectory"],
    times: bool,
    images: int | None,
    seed: int,
    full_steps: int,
    tries: int,
    output: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Fit the solver's coefficients of FILE to full trajectories from the same noises.

    Blocks, guidance and times stay, so that the schedule costs what it did; what exits, reuse and long steps did to the
    images is made good as far as the steps' coefficients can. The file carries them, and any runtime of Exeunt's format
    follows them. Seeds 0 and 1 are those of studies: fit on others.

    \b
    Examples:
      exeunt schedule fit fast.schedule.json -o fitted.schedule.json
      exeunt schedule fit fast.schedule.json --times --tries 120 -o fitted.schedule.json
      exeunt schedule fit fast.schedule.json --checkpoint DiT-XL-2.pt --objective trajectory -o fitted.schedule.json
    """
    from ..measuring.fitting import fit_schedule

    plan = schedules.load(file)
    config = study_config(given | ({} if objective == "metric" else {"reference": "none"}), config_file, assignments)
    with watching(quiet=as_json) as watch, interruptible() as interruption:
        interruption.hint = "nothing was written. Run the command again."
        found = fit_schedule(
            plan,
            config,
            objective=objective,
            times=times,
            images=images,
            seed=seed,
            full_steps=full_steps,
            tries=tries,
            watch=watch,
            check_interruption=interruption.check,
        )
    if output is None:
        click.echo(schedules.dumps(found.schedule), nl=False)
    else:
        write_whole(output, schedules.dumps(found.schedule).encode())
    err = output is None or is_standard_output(output)
    values = {"written": None if output is None else str(output), "digest": found.schedule.digest, "from": plan.digest}
    told = {"loss": found.loss, "before": found.before, "after": found.after, "images": found.images, "seed": seed}
    text = f"{file}: {found.loss} {found.before:.4g}, fitted {found.after:.4g} on the {found.images} images of the fit"
    show(values | told, text if output is None else f"{text}: {output}", as_json, err=err)
