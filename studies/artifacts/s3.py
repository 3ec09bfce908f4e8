"""Files in a bucket that speaks S3, through Optuna's own store of that kind.

Keys come from where boto3 finds them (environment, its files, the machine's role), and never from us. A bucket keeps an
object whole or not at all by itself.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, final

from optuna.artifacts import Boto3ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from ...backends.errors import ExeuntError, InputError
from ..database.errors import STRANGE, NoRoom, Unreachable
from ..database.urls import redact
from .base import NAME, ArtifactStore, ListedFile, Location, MissingArtifact

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and MinIO's and Ceph's for a full disk.
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"})
_REFUSED = frozenset(
    {
        "AccessDenied", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId",
        "InvalidBucketName", "InvalidToken", "NoSuchBucket", "PermanentRedirect", "SignatureDoesNotMatch", "301", "403",
        "404",  # of the bucket itself; an object that is not there is looked for otherwise
    }
)  # fmt: skip


@final
class BucketStore(ArtifactStore):
    """Objects below a prefix of a bucket."""

    def __init__(self, location: Location) -> None:
        self.url = location.url
        self._bucket = location.bucket
        self._prefix = f"{location.path}/" if location.path else ""
        with self._explained():
            self._client = _client(location.endpoint)
            self._inner = Boto3ArtifactStore(location.bucket, self._client)

    def write(self, name: str, data: bytes) -> None:
        with self._explained():
            self._inner.write(f"{self._prefix}{name}", BytesIO(data))

    def read(self, name: str, max_bytes: int) -> bytes:
        with self._explained():
            try:
                body = self._inner.open_reader(f"{self._prefix}{name}")
            except ArtifactNotFound:
                # Some servers answer so for a bucket that is not there, which is another mistake.
                self._client.head_bucket(Bucket=self._bucket)
                raise MissingArtifact(
                    f"artifacts: {name} is not in {self.url}. Restore it from a copy, or from an older version."
                ) from None
            with body:
                return body.read(max_bytes + 1)

    def holds(self, name: str) -> bool:
        from botocore.exceptions import ClientError

        with self._explained():
            try:
                self._client.head_object(Bucket=self._bucket, Key=f"{self._prefix}{name}")
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                    return False
                raise
            return True

    def remove(self, name: str) -> None:
        with self._explained():
            self._inner.remove(f"{self._prefix}{name}")

    def files(self) -> Iterator[ListedFile]:
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            now = time.time()
            for page in pages:
                for each in page.get("Contents", []):
                    name = str(each["Key"]).removeprefix(self._prefix)
                    if NAME.fullmatch(name):
                        yield ListedFile(name, int(each["Size"]), now - each["LastModified"].timestamp())

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.parsers import ResponseParserError
            from urllib3.exceptions import HTTPError

            from boto3.exceptions import Boto3Error  # isort: skip
        except ImportError:
            raise InputError(
                "artifacts: s3 needs boto3, which is not installed. Type pip install 'exeunt[s3]'."
            ) from None
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise self._explain(error) from error
        except (ResponseParserError, HTTPError, *STRANGE) as error:  # a proxy's page, or redirections without an end
            reason = redact(str(error).strip().split("\n")[0][:200])
            raise Unreachable(
                f"artifacts: {self.url} does not answer like an S3 server ({type(error).__name__}: {reason}). "
                "Check endpoint_url and the proxies on the way."
            ) from error

    def _explain(self, error: Exception) -> ExeuntError:
        from botocore import exceptions

        cause = error.__cause__ or error.__context__ if not isinstance(error, exceptions.BotoCoreError) else None
        if isinstance(cause, exceptions.ClientError | exceptions.BotoCoreError):
            error = cause  # s3transfer's wrapper around it
        reason = redact(str(error).strip().split("\n")[0])
        code = _code(error)
        if code in _FULL:
            return NoRoom(
                f"artifacts: {self.url} has no room left ({reason}). Make room and run `exeunt resume`; nothing "
                "committed is lost."
            )
        unusable = (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.ProfileNotFound,
            exceptions.NoRegionError,
            exceptions.ParamValidationError,
        )
        if code in _REFUSED or isinstance(error, unusable):
            return InputError(
                f"artifacts: {self.url} can't be used ({reason}). Check the bucket's name, and the keys and the region "
                "that boto3 finds: AWS_ACCESS_KEY_ID and similar variables, or ~/.aws."
            )
        return Unreachable(f"artifacts: {self.url} is out of reach ({reason}). Check the network and the server.")


def _code(error: Exception) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}  # errors of a connection may have None
    return str((response.get("Error") or {}).get("Code", ""))


def _client(endpoint: str | None) -> Any:
    from boto3.session import Session
    from botocore.config import Config

    config = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3})
    try:
        return Session().client("s3", endpoint_url=endpoint, config=config)
    except ValueError as error:
        raise InputError(
            f"artifacts: endpoint_url must be a server's address, but got `{endpoint}`. Write https://HOST or "
            "https://HOST:PORT."
        ) from error
