"""Passwords of databases: never shown, whatever goes wrong.

A password may stand in a URL, in one of its options, or in `PGPASSWORD`. Each is remembered as soon as this process
sees it, and taken out of every text that leaves the process: errors, tracebacks, logs, reasons that are stored. Those
of libpq's own password file are read by libpq alone.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from sqlalchemy import URL

HIDDEN = "***"
# Options of a URL whose values nobody else may see.
SECRET_OPTIONS = frozenset({"password", "sslpassword", "oauth_client_secret"})

_known: set[str] = set()


def remember(url: URL) -> None:
    """Notes the secrets of a URL, so that `redact` knows them."""
    found = [url.password, *(url.query.get(name) for name in SECRET_OPTIONS), os.environ.get("PGPASSWORD")]
    for secret in filter(None, map(_text, found)):
        # Percent-encoded it is the same secret.
        _known.update((secret, quote(secret, safe=""), quote_plus(secret)))


def redact(text: str) -> str:
    """The text without any secret that this process has seen."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def masked_url(url: URL) -> str:
    """A URL for messages, with `***` in place of its secrets."""
    return _without_secret_options(url, HIDDEN).render_as_string(hide_password=True)


def typed(url: URL) -> str:
    """A URL as a user types it who keeps the password elsewhere: without any secret."""
    # `URL.set` takes None for "as it is".
    return _without_secret_options(url, None)._replace(password=None).render_as_string()


def _without_secret_options(url: URL, instead: str | None) -> URL:
    names = sorted(url.query.keys() & SECRET_OPTIONS)
    bare = url.difference_update_query(names)
    return bare.update_query_dict(dict.fromkeys(names, instead)) if instead else bare


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def guard_output() -> None:
    """From now on no traceback and no log record of this process shows a secret. For programs, not for libraries."""
    make = logging.getLogRecordFactory()

    def record(*arguments: object, **options: object) -> logging.LogRecord:
        made = make(*arguments, **options)
        if (clean := redact(made.getMessage())) != made.getMessage():
            made.msg, made.args = clean, ()
        if made.exc_info and made.exc_info[0] is not None:
            # A formatter takes a text that is there already.
            made.exc_text = redact("".join(traceback.format_exception(*made.exc_info))).rstrip()
        return made

    def show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))

    logging.setLogRecordFactory(record)
    sys.excepthook = show
    threading.excepthook = lambda hooked: show(hooked.exc_type, hooked.exc_value, hooked.exc_traceback)
