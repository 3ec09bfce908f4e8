"""The URL of a study database: how it is written, where a command takes it from, what it must be.

Passwords are never shown, whatever goes wrong. One may stand in a URL, in one of its options, or in `PGPASSWORD`. Each
is remembered as soon as this process sees it, and taken out of every text that leaves the process: errors, tracebacks,
logs, reasons that are stored. Those of libpq's own password file are read by libpq alone.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, quote_plus, unquote

from ...backends.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import URL


HIDDEN = "***"
LONG_SECRET = 6  # characters

_PATHS = frozenset({"passfile"})  # options that name a file, and hold no secret
_SECRET_NAME = re.compile("pass|pwd|secret|token", re.IGNORECASE)

_known: set[str] = set()


def remember(url: URL, typed: str = "") -> None:
    """Notes the secrets of a URL, so that `redact` knows them, also as they were typed."""
    found = [url.password, *(url.query[name] for name in _secret_options(url)), os.environ.get("PGPASSWORD")]
    found += re.findall(r"://[^:/@?#]*:(.+)@", typed)
    for secret in found:
        if isinstance(secret, str) and secret:
            # Percent-encoded it is the same secret.
            _known.update((secret, quote(secret, safe=""), quote_plus(secret)))


def _secret_options(url: URL) -> list[str]:
    """Those that may hold a secret, misspelt ones too."""
    return [name for name in url.query if _SECRET_NAME.search(name) and name not in _PATHS]


def redact(text: str) -> str:
    """The text without any secret that this process has seen.

    Short ones may be words, or parts of words: they are looked for where URLs and options have them.
    """
    for secret in sorted(_known, key=len, reverse=True):
        if len(secret) >= LONG_SECRET:
            text = text.replace(secret, HIDDEN)
        elif secret in text:
            places = rf"(?<=:){re.escape(secret)}(?=@)|(?<=word=|cret=){re.escape(secret)}(?![^\s&'\"])"
            text = re.sub(places, HIDDEN, text)
    return text


def masked_url(url: URL) -> str:
    """A URL for messages, with `***` in place of its secrets."""
    return _without_secret_options(url, HIDDEN).render_as_string(hide_password=True)


def typed_url(url: URL) -> str:
    """A URL as a user types it who keeps the password elsewhere: without any secret."""
    # `URL.set` takes None for "as it is".
    return _without_secret_options(url, None)._replace(password=None).render_as_string()


def _without_secret_options(url: URL, instead: str | None) -> URL:
    names = sorted(_secret_options(url))
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


_FILE = "sqlite:///"
_KNOWN = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"


def parse_url(url: str) -> URL:
    """The URL of a database that studies can live in.

    Raises:
        InputError: it is no URL, names no file, or another kind of database.
    """
    from sqlalchemy import make_url  # which takes a third of a second, and every `--help` reads this module
    from sqlalchemy.exc import ArgumentError

    _require_text(url)
    if url.startswith(_FILE):
        return _parse_file(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        _refuse(url)
    remember(parsed, url)
    if _is_misplaced(parsed, url):
        raise InputError(
            f"storage: a URL must have user and password before its one `@`, but got {_masked(url)}. Write {_KNOWN}, "
            "with %40 for `@` and %3A for `:` in names and passwords."
        )
    shown = masked_url(parsed)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg2"):
        fixed = masked_url(parsed.set(drivername="postgresql+psycopg"))
        raise InputError(f"storage: the driver must be psycopg 3, but got {shown}. Write {fixed}.")
    if parsed.drivername == "sqlite":
        _refuse_file(shown)
    if parsed.drivername != "postgresql+psycopg":
        raise InputError(f"storage: must be {_KNOWN}, but got {shown}. Use one of these.")
    return parsed


def _parse_file(url: str) -> URL:
    """An SQLite file's URL. SQLAlchemy 2.0 takes a name as it stands, and no version a question mark that is bare."""
    from sqlalchemy import URL

    path, mark, _ = url.removeprefix(_FILE).partition("?")
    database = unquote(path)
    if resembles_url(database):
        _refuse(database)
    if mark or database in ("", ":memory:"):
        _refuse_file(f"{_FILE}{path}{mark and '?…'}")
    _require_path(database)
    return URL.create("sqlite", database=database)


def _refuse_file(shown: str) -> NoReturn:
    raise InputError(
        f"storage: SQLite must name a file and nothing else, but got {shown}. Write sqlite:///exeunt.db, with %3F for "
        "a `?` in its name."
    )


def _is_misplaced(parsed: URL, url: str) -> bool:
    """Whether a name or a host may have a part of a password in it, since signs in one were not encoded."""
    stray = parsed.username is None and "@" in url.partition("?")[0]
    return stray or "@" in (parsed.host or "") or ":" in (parsed.username or "")


def _refuse(url: str) -> NoReturn:
    is_name = bool(url) and not resembles_url(url) and not set(":@") & set(unquote(url))
    fix = f"Write {file_url(url)}." if is_name else f"Write {_KNOWN}, or ./NAME for a file."
    raise InputError(f"storage: must be a URL, but got {f'`{url}`' if is_name or not url else _masked(url)}. {fix}")


_SCHEME = re.compile(
    r"\W*(\w+\+\w+|postgres\w*|pgsql|psql|psycopg\d?|mysql|mariadb|sqlite|oracle|mssql|https?)\s*(:|//)|.*://", re.I
)
_CREDENTIALS = re.compile(r"[^:]*:[^@]*@")
_OPTION = re.compile(r"(?:.*[?&;\s])?\w*(?:password|passwd|pwd|secret|token)\w*\s*=", re.IGNORECASE)


def resembles_url(text: str) -> bool:
    """Whether the name of a file that is not there may be a mistyped URL, whose password nobody may see."""
    plain = unquote(text)
    if os.path.exists(text) or plain.startswith(("./", "../", "~")):
        return False
    if _SCHEME.match(plain) or _OPTION.match(plain):
        return True
    in_a_folder = plain.startswith("/") and not plain.startswith("//") and os.path.isdir(os.path.dirname(text))
    return not in_a_folder and _CREDENTIALS.match(plain) is not None


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
    """Text that is no URL, with nothing of it but a scheme: a password may stand anywhere, and have any sign in it."""
    scheme, mark, _ = url.partition("://")
    return f"`{scheme}://…`" if mark and re.fullmatch(r"[a-z]\w*(\+\w+)?", scheme) else "`…`"


DEFAULT_STORAGE = "sqlite:///exeunt.db"
STORAGE = "EXEUNT_STORAGE"
STORAGE_FILE = "EXEUNT_STORAGE_FILE"
MAX_URL_BYTES = 10_000


def storage_url(text: str) -> str:
    """A database's URL; a file's name stands for an SQLite database there. Raises InputError for a mistyped URL."""
    if "://" in text:
        return text
    if resembles_url(text):
        _refuse(text)
    return file_url(text)


def file_url(path: str | Path) -> str:
    """The URL of an SQLite database in a file, whatever its name."""
    return _FILE + str(path).replace("%", "%25").replace("?", "%3F")


def file_path(database: str) -> Path:
    """The file of an SQLite database; of a link, what it leads to, since SQLite's log and our files lie beside that."""
    path = Path(os.path.abspath(Path(database).expanduser()))
    return Path(os.path.realpath(path)) if path.is_symlink() else path


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
        with path.open(encoding="utf-8-sig") as file:
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
    try:
        return _typed(url) == _typed(storage_url(unflagged_storage()))
    except InputError:  # of what the environment names
        return False


def storage_flags(url: str) -> list[str]:
    """The flags by which a command finds this database, without a password; none where it does without."""
    typed = _typed(url)
    return [] if is_default(typed) else ["--storage", typed]


def _typed(url: str) -> str:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return file_url(file_path(parsed.database or ""))
    return typed_url(parsed)
