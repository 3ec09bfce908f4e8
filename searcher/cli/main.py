"""The command line, `exeunt`: names and one-line helps here, each command's module imported when it is called.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 failed, 2 invalid input or
use, 70 a bad device, 75 interrupted or storage out of reach (the same command goes on from there).
"""

import gc
import importlib
import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

import click
from exeunt import __version__

from ...backends.errors import ExeuntError, printable
from ...studies.database.urls import guard_output, redact

COMMANDS = {
    "optimize": (
        "optimize:optimize_command",
        "Search schedules for a checkpoint on this machine, measure them, and show the front.",
    ),
    "resume": ("optimize:resume", "Continue an interrupted or finished study."),
    "worker": ("worker:worker", "Join an existing study as one more worker, from any machine."),
    "status": ("status:status", "Show what a database holds: schedules, trials, images, front, errors."),
    "report": ("report:report_command", "Write the report of a study: page, plots, tables."),
    "export": ("report:export_point", "Write one point of a study as a schedule file."),
    "evaluate": ("evaluate:evaluate_command", "Measure one schedule: quality with its interval, and throughput."),
    "sample": ("evaluate:sample_command", "Sample images with one schedule into a grid or an archive."),
    "calibrate": (
        "checkpoint.calibrate:calibrate_command",
        "Measure what each step can do without, and make a front of it.",
    ),
    "finetune": ("checkpoint.finetune:finetune_command", "Train a checkpoint further, so that it can leave early."),
    "dashboard": ("dashboard:dashboard", "Show a database's searches in optuna-dashboard, on this machine only."),
    "baselines": (
        "optimize:baselines_command",
        "List the baselines: the schedules that every search is compared with.",
    ),
    "schedule": ("schedule:schedule", "Show, validate, convert and fit schedule files."),
    "study": ("study:study", "List, copy, delete, back up, pause or stop studies, and remove unused data."),
    "db": ("db:db", "Check a database, or upgrade an older one."),
    "doctor": (
        "checkpoint.doctor:doctor",
        "Show what is installed, what a checkpoint holds, or whether a network passes its checks.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that `exeunt --help` costs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ExeuntError as error:
            click.echo(printable(f"Error: {redact(str(error))}"), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="exeunt")
def cli() -> None:
    """Find when a diffusion network may leave early.

    With no arguments, `exeunt optimize` searches schedules for the bundled checkpoint on this machine, for four
    minutes, and writes exeunt.db and exeunt-report/. Run it again to continue.

    \b
    Examples:
      exeunt optimize
      exeunt optimize --checkpoint DiT-XL-2-256x256.pt --vae sd-vae-ft-ema --reference photos/ --budget 8h
      exeunt export --knee -o fast.schedule.json
    """


@contextmanager
def little_garbage() -> Generator[None]:
    """Lets Python search for garbage seldom, and not at the end of the process, whose memory goes with it.

    Commands make a great many objects that stay, and hardly any that refer to each other and are garbage. Searches took
    0.97 of the 8.2 s of CPU time of a report on 5,000 trials, and take 0.12 s now; the last one took as much again.
    """
    gc.set_threshold(100_000, 10, 10)
    try:
        yield
    finally:
        if "triton" not in sys.modules:  # whose own code complains of what is left then
            gc.freeze()


def leave_start_folder() -> None:
    """Takes the folder of the program off the import path, where a file may have any module's name, here and in every
    process that this one starts."""
    os.environ["PYTHONSAFEPATH"] = "1"
    if not sys.flags.safe_path and sys.path[0] in ("", os.path.dirname(os.path.realpath(sys.argv[0]))):
        del sys.path[0]


class _Output(io.FileIO):
    """Standard output whose write errors become one sentence: a full disk, or a pipe whose reader has ended."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # what is left in buffers has nowhere to go
            os.close(null)
            raise ExeuntError(
                f"standard output: must accept everything that the command prints, but got {error.strerror}. Make room "
                "on the disk, or read the pipe to its end."
            ) from None


@contextmanager
def checked_output() -> Generator[None]:
    """Says in one sentence that standard output can't be written, whichever command prints to it."""
    if (out := sys.stdout) is not None and not out.isatty():
        raw = io.BufferedWriter(_Output(out.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(raw, out.encoding, out.errors, line_buffering=bool(out.line_buffering))
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except ExeuntError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from None


def main() -> NoReturn:
    leave_start_folder()
    guard_output()
    with little_garbage(), checked_output():
        raise SystemExit(cli.main(standalone_mode=True))
