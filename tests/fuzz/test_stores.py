"""Hostile and broken places for files: other contents, markers, and servers that answer S3's calls with anything."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from exeunt.studies.artifacts import base
from exeunt.studies.artifacts.base import MARKER, ArtifactStore, locate
from exeunt.studies.artifacts.files import Files, open_artifacts
from exeunt.studies.artifacts.folder import FolderStore
from exeunt.studies.database.engine import open_engine
from hostile import damaged, mutated, quick, refuses, survives
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

DATA = b"features" * 100
NAME = f"{base.sha256_of(DATA)}.f16"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Path]]:
    """A database that keeps its files in a folder with its marker."""
    folder = tmp_path_factory.mktemp("place")
    engine = open_engine(f"sqlite:///{folder}/study.db")
    Files(engine, str(folder / "files")).put(DATA, "f16")
    yield engine, folder / "files"
    engine.dispose()


@quick(60)
@given(data=st.data())
def test_a_place_with_another_marker_is_refused(data: st.DataObject, place: tuple[Engine, Path]) -> None:
    engine, folder = place
    valid = (folder / MARKER).read_bytes()
    changed = mutated(json.loads(valid)).map(lambda each: json.dumps(each).encode())
    marker = data.draw(st.one_of(changed, damaged(valid), st.binary(max_size=20)))
    try:
        (folder / MARKER).write_bytes(marker)
        for given_place in (None, str(folder)):
            survives(lambda given_place=given_place: Files(engine, given_place).get(NAME[:64], "f16", len(DATA)))
    finally:
        (folder / MARKER).write_bytes(valid)
    assert Files(engine).get(NAME[:64], "f16", len(DATA)) == DATA


def test_a_deep_and_an_endless_marker_are_refused(place: tuple[Engine, Path]) -> None:
    engine, folder = place
    valid = (folder / MARKER).read_bytes()
    try:
        for marker in (b"[" * 9_000, b" " * 10**8):
            (folder / MARKER).write_bytes(marker)
            assert "does not have the marker" in refuses(lambda: Files(engine).store)
    finally:
        (folder / MARKER).write_bytes(valid)


@quick(40)
@given(data=damaged(DATA), num_bytes=st.sampled_from([0, 1, -5, len(DATA), 2**31, 2**62]))
def test_damaged_files_are_refused(data: bytes, num_bytes: int, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(data)
    error = survives(lambda: base.get(FolderStore(tmp_path), NAME, num_bytes))
    assert error is not None or (data == DATA and num_bytes == len(DATA))


@quick(80)
@given(
    url=st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(["s3://", "file://", "b", "/", "?", "endpoint_url=", "http://", "[", "@", "%00", "~"])
        ).map("".join),
    )
)
def test_places_are_taken_or_refused(url: str) -> None:
    survives(lambda: locate(url))


class Server:
    """Answers every connection with the same bytes, whatever it is asked, and ends the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                threading.Thread(target=self._say, args=self._socket.accept()[:1], daemon=True).start()

    def _say(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server for boto3, which tries again without waiting."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    files = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    for name, value in (keys | files).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(time=time.time, sleep=lambda _: None))
    server = Server()
    yield server
    server.close()


@pytest.fixture
def bucket(server: Server) -> ArtifactStore:
    """A place in a bucket of that server."""
    return open_artifacts(locate(f"s3://bucket/p?endpoint_url={server.url}"))


LISTED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>b</Name><Prefix>p/</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
    b"<Contents><Key>p/" + NAME.encode() + b"</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    b"<ETag>&quot;0&quot;</ETag><Size>800</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
)
REFUSED = b"<Error><Code>NoSuchKey</Code><Message>none</Message><Resource>/b/p</Resource></Error>"
LAUGHS = b'<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "' + b"&b;" * 1000 + b'"><!ENTITY d "' + b"&c;" * 1000 + b'">]>'
BODIES = st.one_of(
    st.sampled_from([LISTED, REFUSED, DATA, b"", b"<html>no</html>", b"{}", LAUGHS + b"<a>&d;</a>", b"<a>" * 3000]),
    damaged(LISTED),
    damaged(REFUSED),
    damaged(DATA),
)
STATUSES = st.sampled_from([
    b"200 OK", b"206 Part", b"204 None", b"301 Moved", b"307 Go", b"400 Bad", b"403 No", b"404 No", b"416 Range",
    b"500 Oh", b"503 Slow", b"100 Go on", b"999 What", b"abc",
])  # fmt: skip
HEADERS = st.sampled_from([
    b"Content-Type: application/xml", b"Content-Length: 99999999999999", b"Content-Length: -1", b"Content-Length: 3",
    b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Encoding: aws-chunked", b"Location: /",
    b"Last-Modified: never", b"ETag: 3", b"x-amz-checksum-crc32: AAAA", b"x-amz-checksum-sha256: no", b"Expires: 0",
    b"x-amz-bucket-region: \xff", b"Retry-After: -3", b"x" * 2000, b": ", b"x-amz-meta-a: 1", b"x-amz-expiration: 1",
    b"x-amz-restore: 1", b"x-amz-missing-meta: many", b"x-amz-mp-parts-count: few", b"x-amz-delete-marker: maybe",
    b"x-amz-object-lock-retain-until-date: soon", b"x-amz-server-side-encryption-bucket-key-enabled: 3",
])  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """What comes from a server: nearly an answer, or nothing of the kind."""
    body, headers = draw(BODIES), draw(st.lists(HEADERS, max_size=3))
    length = [b"Content-Length: %d" % len(body)] if draw(st.booleans()) else []
    made = b"\r\n".join([b"HTTP/1.1 " + draw(STATUSES), *length, *headers, b"", body])
    return draw(st.one_of(st.just(made), damaged(made))) if draw(st.integers(0, 3)) == 0 else made


def use(store: ArtifactStore) -> None:
    """Every call of a store."""
    survives(lambda: base.get(store, NAME, len(DATA)))
    survives(lambda: store.read(MARKER, 10_000))
    survives(lambda: store.holds(NAME))
    survives(lambda: list(store.files()))
    survives(lambda: store.write(NAME, DATA))
    survives(lambda: store.remove(NAME))


@quick(12, long=500)
@given(answer=answers())
def test_a_server_that_answers_anything_is_understood_or_refused(
    answer: bytes, server: Server, bucket: ArtifactStore
) -> None:
    server.answer = answer
    use(bucket)


def test_a_whole_list_is_understood(server: Server, bucket: ArtifactStore) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LISTED), LISTED)
    (found,) = bucket.files()
    assert (found.name, found.num_bytes) == (NAME, 800)
