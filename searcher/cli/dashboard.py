"""`exeunt dashboard`: the searches of a database in Optuna's dashboard, served to this machine only and read-only.

optuna-dashboard can delete and rename studies and tell trials, which would leave our measurements without their trials.
So it gets our own read-only storage, whose database refuses every write, and requests other than reading ones are
refused before it sees them. The URL, which may hold a password, never leaves this process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click

from ...backends.errors import InputError
from ...studies.store.store import Store, open_store
from .flags.database import storage_flag

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

ADDRESS = "127.0.0.1"
OWN_NAMES = frozenset({"127.0.0.1", "localhost"})
READING = frozenset({"GET", "HEAD"})
REFUSED = "This dashboard is read-only. Use `exeunt study` to delete, copy, pause or stop studies."
ELSEWHERE = "This dashboard only answers requests to 127.0.0.1 or localhost."


def read_only(inner: WsgiApplication) -> WsgiApplication:
    """Passes on requests that read and that were meant for this machine; a page elsewhere can't reach it by a name."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if str(environ.get("HTTP_HOST", "")).rpartition(":")[0] not in OWN_NAMES:
            return _refuse(start_response, "403 Forbidden", ELSEWHERE)
        if environ["REQUEST_METHOD"] not in READING:
            return _refuse(start_response, "405 Method Not Allowed", REFUSED)
        return inner(environ, start_response)

    return guarded


def _refuse(start_response: Callable[..., Any], status: str, reason: str) -> list[bytes]:
    body = json.dumps({"reason": reason}).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def application(store: Store) -> WsgiApplication:
    """The dashboard over a database that was opened read-only.

    Raises InputError: optuna-dashboard is not installed, or the database's tables are of another Optuna.
    """
    from ...studies.database.optuna.storage import optuna_storage

    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise InputError(
            "dashboard: optuna-dashboard is not installed. Type pip install 'exeunt[dashboard]'."
        ) from None
    return read_only(wsgi(optuna_storage(store.engine)))  # pyright: ignore[reportArgumentType]


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each connection in its own thread, so that idle ones of a browser block neither others nor the exit."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each request would bury what matters."""


@contextmanager
def served(app: WsgiApplication, port: int) -> Generator[WSGIServer]:
    """A server on this machine's own address; port 0 takes a free one. It answers within `serve_forever`.

    Raises InputError: the port is not available.
    """
    try:
        server = make_server(ADDRESS, port, app, server_class=_Server, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"dashboard: port {port} on {ADDRESS} is not available ({error}). "
            "Choose another with --port, or --port 0 for any free one."
        ) from None
    # Of what the dashboard logs, such as that the database is out of reach, the reason and not the traceback.
    logger, handler = logging.getLogger("optuna_dashboard"), logging.StreamHandler()
    handler.setFormatter(_FirstLine())
    logger.addHandler(handler)
    spreads, logger.propagate = logger.propagate, False
    try:
        with server:
            yield server
    finally:
        logger.removeHandler(handler)
        logger.propagate = spreads


class _FirstLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage().partition("\n")[0]


NOTE = """\
The dashboard shows what Optuna stores: trials, parameters, and both objectives on search seeds. Its front is the
search's front. It does not show throughput with intervals or final images (see `exeunt report`), baselines that the
search space can't express, or which worker measures what (see `exeunt status --watch`). The dashboard is read-only.
Everybody who is logged in on this machine can read it. Press Ctrl-C to stop it."""


@click.command()
@storage_flag
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="PORT",
    help=f"Port on {ADDRESS}; 0 chooses a free one.",
)
def dashboard(url: str, port: int) -> None:
    """Show a database's searches in optuna-dashboard, read-only and on this machine only.

    It needs `pip install 'exeunt[dashboard]'`, and runs until Ctrl-C. From another machine, forward the port:
    `ssh -L 8080:127.0.0.1:8080 HOST`.

    \b
    Examples:
      exeunt dashboard
      exeunt dashboard --storage runs/dit.db --port 0
    """
    from ..monitoring.watch_output import until_signal

    with open_store(url, read_only=True) as store, served(application(store), port) as server:
        click.echo(f"http://{ADDRESS}:{server.server_port}/dashboard")
        click.echo(NOTE, err=True)
        with until_signal():
            server.serve_forever()
