"""The URL of a study database: how it is written, where a command takes it from, what it must be.

Passwords are never shown, whatever goes wrong. One may stand in a URL, in one of its options, or in `PGPASSWORD`. Each
is remembered as soon as this process sees it, and taken out of every text that leaves the process: errors, tracebacks,
logs, reasons that are stored. Those of libpq's own password file are read by libpq alone.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from ...backends.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import URL


HIDDEN = "***"
# Options of a URL whose values nobody else may see.
SECRET_OPTIONS = frozenset({"password", "sslpassword", "oauth_client_secret"})

_known: set[str] = set()


def remember(url: URL) -> None:
    """Notes the secrets of a URL, so that `redact` knows them."""
    found = [url.password, *(url.query.get(name) for name in SECRET_OPTIONS), os.environ.get("PGPASSWORD")]
    for secret in found:
        if isinstance(secret, str) and secret:
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


def typed_url(url: URL) -> str:
    """A URL as a user types it who keeps the password elsewhere: without any secret."""
    # `URL.set` takes None for "as it is".
    return _without_secret_options(url, None)._replace(password=None).render_as_string()


def _without_secret_options(url: URL, instead: str | None) -> URL:
    names = sorted(url.query.keys() & SECRET_OPTIONS)
    bare = url.difference_update_query(names)
    return bare.update_query_dict(dict.fromkeys(names, instead)) if instead else bare


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


_KNOWN = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"


def parse_url(url: str) -> URL:
    """The URL of a database that studies can live in.

    Raises:
        InputError: it is no URL, names no file, or another kind of database.
    """
    from sqlalchemy import make_url  # which takes a third of a second, and every `--help` reads this module
    from sqlalchemy.exc import ArgumentError

    _require_text(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        fix = f"Write sqlite:///{url}." if url and ":" not in url else f"Write {_KNOWN}."
        raise InputError(f"storage: must be a URL, but got {_masked(url)}. {fix}") from None
    remember(parsed)
    shown = masked_url(parsed)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg2"):
        fixed = masked_url(parsed.set(drivername="postgresql+psycopg"))
        raise InputError(f"storage: the driver must be psycopg 3, but got {shown}. Write {fixed}.")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InputError(f"storage: must be {_KNOWN}, but got {shown}. Use one of these.")
    if parsed.drivername == "sqlite" and (parsed.query or parsed.database in (None, "", ":memory:")):
        raise InputError(
            f"storage: SQLite must name a file and nothing else, but got {shown}. Write sqlite:///exeunt.db."
        )
    if parsed.drivername == "sqlite":
        _require_path(parsed.database or "")
    return parsed


def _require_text(url: str) -> None:
    """Raises InputError for a file's name that is not UTF-8, which neither SQLite nor a URL can have."""
    try:
        url.encode()
    except UnicodeEncodeError as error:
        raise InputError("storage: a database's name must be UTF-8, but has other bytes. Rename the file.") from error


def _require_path(text: str) -> None:
    """Raises InputError for what can be no file's path: below nobody's home, too long, or out of reach."""
    try:
        Path(text).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # which is for those to say who need it
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise InputError(
            f"storage: must name a file, but {shown!r} can't be one ({reason}). Check the path."
        ) from error


def _masked(url: str) -> str:
    """Text that is no URL, without what may be a password in it: whatever follows a colon."""
    if ":" not in url:
        return f"`{url}`"
    scheme, _, rest = url.partition("://")
    host = f"@{rest.rpartition('@')[2]}" if "@" in rest else ""
    return f"`{scheme}://…{host}`" if rest else "`…`"


DEFAULT_STORAGE = "sqlite:///exeunt.db"
STORAGE = "EXEUNT_STORAGE"
STORAGE_FILE = "EXEUNT_STORAGE_FILE"
MAX_URL_BYTES = 10_000


def storage_url(text: str) -> str:
    """A database's URL; a file's name stands for an SQLite database there."""
    return text if "://" in text else f"sqlite:///{text}"


def unflagged_storage() -> str:
    """The database that a command opens without any flag."""
    if url := os.environ.get(STORAGE, "").strip():
        return url
    if path := os.environ.get(STORAGE_FILE):
        return read_url(Path(path))
    return DEFAULT_STORAGE


def read_url(path: Path) -> str:
    """The URL in the first line of a file.

    Raises:
        InputError: the file can't be read, or its first line is empty.
    """
    try:
        with path.open(encoding="utf-8") as file:
            url = file.readline(MAX_URL_BYTES).strip()
    except OSError as error:
        raise InputError(f"storage: the file {path} can't be read ({error.strerror}). Check the path.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"storage: the first line of {path} must be a URL, but is not text. Write one there."
        ) from None
    if not url:
        raise InputError(f"storage: the first line of {path} must be a URL, but is empty. Write one there.")
    return url


def is_default(url: str) -> bool:
    """Whether a command finds this database, whose URL has no password, without --storage."""
    return _without_password(url) == _without_password(storage_url(unflagged_storage()))


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(Path(parsed.database or "").expanduser().absolute())
    return typed_url(parsed)
