"""The flags that say how a command reports its progress, and the value that they make."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from ...monitoring.endpoint import LOCAL, Endpoint
from ...monitoring.json_lines import log_json_lines
from ...monitoring.progress import ProgressListener, watching
from .study import grouped


@dataclass(frozen=True)
class OutputOptions:
    """How a command reports its progress.

    With `as_lines` standard error gets JSON lines and nothing else; `metrics` is where Prometheus finds its figures.
    """

    quiet: bool
    as_lines: bool
    metrics: Endpoint | None

    @contextmanager
    def watch(self) -> Generator[ProgressListener]:
        """The watch of a process that works. Raises InputError where its figures can't be served."""
        from ...monitoring.prometheus import metered

        with self.shown() as shown, metered(self.metrics, shown) as watch:
            yield watch

    @contextmanager
    def shown(self) -> Generator[ProgressListener]:
        """The watch of a process whose workers serve their own figures."""
        if self.as_lines:
            with log_json_lines(sys.stderr) as lines:
                yield lines
        else:
            with watching(self.quiet) as watch:
                yield watch


def print_statement(watch: ProgressListener, text: str, *, err: bool) -> None:
    """Tells the statement of the baseline, before anything is spent: as an event, or as text on either stream."""
    if not watch.event("baseline", text=text):
        click.echo(text, err=err)


def _options(quiet: bool, log_format: str, metrics_port: int | None, metrics_address: str) -> OutputOptions:
    """Raises InputError where figures are to be served and can't be."""
    if metrics_port is None:
        return OutputOptions(quiet, log_format == "json", None)
    from ...monitoring.prometheus import require_client

    require_client()
    return OutputOptions(quiet, log_format == "json", Endpoint(metrics_address, metrics_port))


_GROUP = (
    click.option("--quiet", is_flag=True, help="Show no progress."),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Format of progress on standard error; json: one event per line.",
    ),
    click.option(
        "--metrics-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Serve metrics for Prometheus on this port; 0 chooses a free one. Each further worker uses the next port.",
    ),
    click.option(
        "--metrics-address",
        default=LOCAL,
        show_default=True,
        metavar="ADDRESS",
        help="Address that serves the metrics; with 0.0.0.0 other machines can read them.",
    ),
)
# The flags, as the parameter `output`.
output_options = grouped("output", _options, _GROUP)
