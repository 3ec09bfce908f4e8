"""Stores of files beside a database: what they promise, and how one is named.

A file is named by the SHA-256 of its contents, so writing it twice is no error, two workers can't be in each other's
way, and a reader knows whether it is what was written. A row of the database names it once it is there whole.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...backends.errors import InputError, StorageError

KNOWN = "a folder, file:///FOLDER, or s3://BUCKET/PREFIX"
MARKER = "exeunt-artifacts.json"
NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9.]{1,20}")
MAX_URL = 2000
_MOST_BYTES = 2**31  # of one file; a chunk of features has some hundred kilobytes


class MissingArtifact(StorageError):
    """A file is not in its store."""

    identifier = "missing-artifact"


class DamagedArtifact(StorageError):
    """A file is not what was written."""

    identifier = "damaged-artifact"


@dataclass(frozen=True)
class ListedFile:
    """A file as its store lists it; `age_seconds` is the time since it was last written, on the store's clock."""

    name: str
    num_bytes: int
    age_seconds: float


class ArtifactStore(ABC):
    """A place for files of a few megabytes, which several processes on several machines may use at once.

    `write` returns once the file is there for good, whole, whatever dies afterwards; a reader sees all of it or no
    file. Writing a name again replaces it whole and makes its age 0. Methods raise `errors.NoRoom` where there is no
    room, `errors.Unreachable` where trying again may help, `InputError` where a user must fix something.

    Attributes:
        url: what a user types to name it; never with a password or key.
    """

    url: str

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Puts a file there, whole or not at all."""

    @abstractmethod
    def read(self, name: str, max_bytes: int) -> bytes:
        """A file's contents, of which at most `max_bytes` + 1 are read. Raises `MissingArtifact`."""

    @abstractmethod
    def holds(self, name: str) -> bool:
        """Whether a file is there."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is no error."""

    @abstractmethod
    def files(self) -> Iterator[ListedFile]:
        """What Exeunt wrote there, half-written files that their writers left among it, without the marker."""


@dataclass(frozen=True)
class Location:
    """A store's URL, taken apart. `path` is a folder, or a prefix in a bucket."""

    scheme: str
    path: str
    bucket: str = ""
    endpoint: str | None = None

    @property
    def url(self) -> str:
        if self.scheme == "file":
            return Path(self.path).as_uri()
        option = f"?endpoint_url={self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.path}".rstrip("/") + option


def locate(url: str) -> Location:
    """The place that a URL or a folder's path names; a relative one becomes absolute.

    Raises:
        InputError: it names no store, or has something in it that may be a key; the text is not shown then.
    """
    parts = _split(url)
    if "@" in parts.netloc or "@" in parts.query:
        raise InputError(
            "artifacts: a URL of files must have no user, key or password in it. Give keys to boto3: in its "
            "environment, its files, or the machine's role."
        )
    if parts.scheme == "s3":
        return _bucket(url, parts.netloc, parts.path, parts.query)
    if parts.scheme not in ("", "file") or (parts.scheme == "file" and parts.netloc not in ("", "localhost")):
        raise InputError(f"artifacts: must be {KNOWN}, but got `{url}`. Use one of these.")
    folder = unquote(parts.path) if parts.scheme == "file" else url
    if not folder.strip():
        raise InputError(f"artifacts: must be {KNOWN}, but got `{url}`. Name a folder.")
    return Location("file", str(_home(Path(folder)).absolute()))


def _home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(
            f"artifacts: the home folder `{path.parts[0]}` does not exist. Write the whole path."
        ) from error


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL or not url.isprintable():
        raise InputError(f"artifacts: a URL must be at most {MAX_URL} printable characters. Write {KNOWN}.")
    if "://" not in url:
        return SplitResult("", "", url, "", "")
    try:
        return urlsplit(url)
    except ValueError:
        raise InputError(f"artifacts: must be {KNOWN}. Use one of these.") from None


def _bucket(url: str, bucket: str, path: str, query: str) -> Location:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"endpoint_url"})
    if unknown:
        raise InputError(
            f"artifacts: the only option of an s3 URL is endpoint_url, but it has {', '.join(unknown)}. Set them in "
            "boto3's environment or files."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
        raise InputError(f"artifacts: must be {KNOWN}, but got `{url}`. Write s3://BUCKET/PREFIX.")
    endpoint = options.get("endpoint_url")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise InputError(
            "artifacts: endpoint_url must be http://… or https://…. Write s3://BUCKET/PREFIX?endpoint_url=https://HOST."
        )
    return Location("s3", unquote(path).strip("/"), bucket, endpoint)


def artifacts_url(key: str, value: object) -> str:
    """The rule of a store's place in a configuration: text that `locate` takes, made absolute."""
    if not isinstance(value, str):
        raise InputError(f"{key} must be {KNOWN}, but got a {type(value).__name__}. Use one of these.")
    return locate(value).url


def sha256_of(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def put(store: ArtifactStore, data: bytes, suffix: str) -> str:
    """Writes a file under the digest of its contents, and returns its name."""
    name = f"{sha256_of(data)}.{suffix}"
    store.write(name, data)
    return name


def get(store: ArtifactStore, name: str, num_bytes: int) -> bytes:
    """The contents of a file that had so many bytes.

    Raises:
        MissingArtifact: it is not there.
        DamagedArtifact: it is not what was written.
    """
    if not NAME.fullmatch(name):
        raise DamagedArtifact(f"artifacts: {name[:80]!r} is not the name of a file. Restore a backup of the database.")
    data = store.read(name, min(max(num_bytes, 0), _MOST_BYTES))
    if len(data) != num_bytes or sha256_of(data) != name.partition(".")[0]:
        raise DamagedArtifact(
            f"artifacts: {name} in {store.url} must have the digest that its name states, but its contents changed. "
            "Put the file back from a copy."
        )
    return data
