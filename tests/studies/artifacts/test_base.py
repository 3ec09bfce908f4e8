"""What every store of files promises: in a folder, and in a bucket of a real server that speaks S3 on loopback."""

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from exeunt.backends.errors import InputError
from exeunt.studies.artifacts import base
from exeunt.studies.artifacts import folder as artifact_folder
from exeunt.studies.artifacts.base import MARKER, ArtifactStore, DamagedArtifact, MissingArtifact, locate
from exeunt.studies.artifacts.files import open_artifacts
from exeunt.studies.artifacts.folder import FolderStore
from exeunt.studies.database.errors import NoRoom, Unreachable
from exeunt.studies.maintenance.check import check_all
from exeunt.studies.maintenance.delete import collect_garbage
from exeunt.studies.store.records import EvaluationKey
from exeunt.studies.store.store import Store, open_store

MakeKey = Callable[..., EvaluationKey]
KEYS = {"AWS_ACCESS_KEY_ID": "a-test's", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_DEFAULT_REGION": "us-east-1"}
DATA = b"features" * 100


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server of its own, with the buckets `files` and `other`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys where boto3 looks for them, and none of the machine's."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def bucket(s3: str, keys: None) -> str:
    """The URL of an empty place in a bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="files")
    prefix = os.urandom(4).hex()
    client.put_object(Bucket="files", Key=f"{prefix}-other/{'0' * 64}.f16", Body=b"a neighbour's")
    client.close()
    return f"s3://files/{prefix}?endpoint_url={s3}"


class ArtifactConformance:
    """The contract. Subclasses give `store`, an open store that is in use and has no files yet."""

    def test_files_come_back(self, store: ArtifactStore) -> None:
        name = base.put(store, DATA, "f16")
        assert name == f"{base.sha256_of(DATA)}.f16"
        assert base.get(store, name, len(DATA)) == DATA
        assert store.holds(name)

    def test_what_is_not_there_is_said_by_name(self, store: ArtifactStore) -> None:
        name = f"{'0' * 64}.f16"
        assert not store.holds(name)
        with pytest.raises(MissingArtifact, match=name):
            base.get(store, name, 1)
        store.remove(name)

    @pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"s", DATA[::-1]])
    def test_what_changed_is_noticed(self, store: ArtifactStore, data: bytes) -> None:
        name = base.put(store, DATA, "f16")
        store.write(name, data)
        with pytest.raises(DamagedArtifact, match=f"{name}.* changed"):
            base.get(store, name, len(DATA))

    def test_no_more_is_read_than_was_written(self, store: ArtifactStore) -> None:
        store.write(f"{'0' * 64}.f16", bytes(1_000_000))
        assert len(store.read(f"{'0' * 64}.f16", 10)) == 11

    def test_writing_again_replaces_whole_and_makes_young(self, store: ArtifactStore) -> None:
        name = base.put(store, DATA, "f16")
        store.write(name, b"changed")
        base.put(store, DATA, "f16")
        assert base.get(store, name, len(DATA)) == DATA
        (stored,) = store.files()
        assert (stored.name, stored.num_bytes) == (name, len(DATA))
        assert stored.age_seconds < 60

    def test_a_list_has_what_is_there(self, store: ArtifactStore) -> None:
        names = {base.put(store, bytes([number]), "png") for number in range(5)}
        assert {stored.name for stored in store.files()} == names
        store.remove(sorted(names)[0])
        assert {stored.name for stored in store.files()} == set(sorted(names)[1:])

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/passwd", MARKER, f"{'0' * 64}/x", f"{'A' * 64}.f16", ""]
    )
    def test_only_digests_are_names(self, store: ArtifactStore, name: str) -> None:
        with pytest.raises(DamagedArtifact, match="is not the name of a file"):
            base.get(store, name, 100)


class TestFolder(ArtifactConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        store = open_artifacts(locate(str(tmp_path / "files")))
        assert isinstance(store, FolderStore)
        store.make()
        store.write(MARKER, b"{}")
        return store


class TestFolderBeside(ArtifactConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return FolderStore(tmp_path / "exeunt.db-files", makes=True)


class TestBucket(ArtifactConformance):
    @pytest.fixture
    def store(self, bucket: str) -> ArtifactStore:
        return open_artifacts(locate(bucket))


WRITES = """
import sys
from pathlib import Path
from exeunt.studies.artifacts.folder import FolderStore
FolderStore(Path(sys.argv[1]), makes=True).write("0" * 64 + ".f16", bytes(100_000))
"""


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the file breaks off where it ends."""
    folder = tmp_path / "files"
    folder.mkdir()
    found = subprocess.run(
        [sys.executable, "-c", WRITES, str(folder)], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert f"NoRoom: artifacts: {folder} has no room left on its disk. Make room" in found.stderr
    assert list(folder.iterdir()) == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has the name is whole, at every moment at which the disk is waited for or a name is given."""
    store, seen = FolderStore(tmp_path / "files", makes=True), list[list[int]]()
    wait, rename = os.fsync, Path.replace

    def look() -> None:
        seen.append([each.num_bytes for each in store.files() if not each.name.endswith(artifact_folder.DRAFT)])

    def look_and_rename(draft: Path, target: Path) -> None:
        look()
        rename(draft, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: (look(), wait(descriptor)))
    monkeypatch.setattr(Path, "replace", look_and_rename)
    base.put(store, DATA, "f16")
    assert seen == [[], [], [len(DATA)], [len(DATA)]], "the folder's folder, the rename, the file, the folder"
    base.put(store, DATA, "f16")
    assert seen[4:] == [[len(DATA)]] * 2, "nothing is renamed over what a row may name"


def test_a_folder_that_is_not_mounted_any_more_is_not_written_to(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "files")
    store.make()
    with pytest.raises(Unreachable, match="has no marker any more"):
        base.put(store, DATA, "f16")


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="can't be used"):
        FolderStore(tmp_path / "file", makes=True).write(MARKER, b"")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/data/files", "file:///data/files"),
        ("file:///data/my%20files", "file:///data/my%20files"),
        ("files", f"file://{Path.cwd()}/files"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a?endpoint_url=http://localhost:9000", "s3://bucket/a?endpoint_url=http://localhost:9000"),
    ],
)
def test_urls_are_understood(text: str, url: str) -> None:
    assert locate(text).url == url
    assert locate(url) == locate(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Name a folder"),
        ("gs://bucket/x", "must be a folder, file:///FOLDER, or s3://BUCKET/PREFIX"),
        ("file://host/x", "must be a folder"),
        ("s3://", "Write s3://BUCKET/PREFIX"),
        ("s3://b?region=x", "the only option of an s3 URL is endpoint_url, but it has region"),
        ("s3://bucket/x?endpoint_url=ftp://h", "must be http://"),
        ("x" * 3000, "at most 2000"),
        ("a\x1b[2Jb", "printable"),
        ("~nobody-of-this-name/x", "the home folder `~nobody-of-this-name` does not exist"),
    ],
)
def test_other_urls_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        locate(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["s3://AKIA:hunter2@bucket/x", "s3://bucket/x?endpoint_url=http://ada:hunter2@host"])
def test_keys_in_a_url_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InputError, match="no user, key or password") as caught:
        locate(text)
    assert "hunter2" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_refused(bucket: str) -> None:
    store = open_artifacts(locate(bucket.replace("s3://files", "s3://nowhere")))
    for action in (lambda: store.read(MARKER, 10), lambda: store.write(MARKER, b""), lambda: list(store.files())):
        with pytest.raises(InputError, match=r"s3://nowhere/\S+ can't be used .* Check the bucket's name"):
            action()


def test_a_server_that_is_away_is_worth_another_try(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store, began = open_artifacts(locate("s3://files/x?endpoint_url=http://127.0.0.1:9")), time.monotonic()
    for action in (lambda: store.read(MARKER, 10), lambda: store.write(MARKER, b""), lambda: store.holds(MARKER)):
        with pytest.raises(Unreachable, match="is out of reach"):
            action()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("endpoint", ["http://", "http://[", "http://a b"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str, keys: None) -> None:
    with pytest.raises(InputError, match=r"endpoint_url must be a server's address"):
        open_artifacts(locate(f"s3://files/x?endpoint_url={endpoint}"))


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], ArtifactStore]]:
    """Makes a store on a server that answers all calls with the same bytes."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def answer(data: bytes) -> None:
            with suppress(OSError):
                while True:
                    with listening.accept()[0] as connection:
                        connection.recv(65536)
                        connection.sendall(data)

        def make(data: bytes) -> ArtifactStore:
            threading.Thread(target=answer, args=(data,), daemon=True).start()
            return open_artifacts(locate(f"s3://files/x?endpoint_url=http://127.0.0.1:{listening.getsockname()[1]}"))

        yield make


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "is out of reach .Connection was closed"),
        (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "like an S3 server|recursion"),
    ],
    ids=["closes the connection", "redirects to itself"],
)
def test_a_server_that_does_not_speak_s3_is_out_of_reach(
    answer: bytes, words: str, answering: Callable[[bytes], ArtifactStore], keys: None
) -> None:
    store = answering(answer)
    for call in (lambda: store.holds(MARKER), lambda: list(store.files())):
        with pytest.raises(Unreachable, match=words):
            call()


@pytest.mark.parametrize("num_bytes", [-5, 2**62])
def test_no_more_is_read_than_a_file_may_have(num_bytes: int, tmp_path: Path) -> None:
    """Whatever a row says of it."""
    store = FolderStore(tmp_path / "files", makes=True)
    name = base.put(store, DATA, "f16")
    with pytest.raises(DamagedArtifact, match="its contents changed"):
        base.get(store, name, num_bytes)


def test_without_keys_the_fix_is_said(s3: str, keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = open_artifacts(locate(f"s3://files/x?endpoint_url={s3}"))
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID and similar variables"):
        store.write(MARKER, b"")


def test_a_full_bucket_is_a_full_disk(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that a server gives whose disk is full, put in place of the server's."""
    from botocore.stub import Stubber

    store = open_artifacts(locate(bucket))
    with Stubber(store._client) as stubber:
        stubber.add_client_error("put_object", "XMinioStorageFull", "Storage backend has reached its minimum", 507)
        with pytest.raises(NoRoom, match="has no room left"):
            store.write(MARKER, json.dumps({}).encode())


def test_a_database_keeps_its_features_in_a_bucket(bucket: str, store: Store, url: str, make_key: MakeKey) -> None:
    store.close()
    values = np.arange(48, dtype=np.float32).reshape(8, 6)
    with open_store(url, artifacts=bucket) as first:
        claim = first.evaluations.claim(make_key(), "ada", 60.0)
        assert claim is not None
        first.evaluations.commit_chunk(claim, 0, values, 1.0)
        first.evaluations.release(claim)
    with open_store(url) as again:
        np.testing.assert_array_equal(again.evaluations.features(make_key(), range(8)), values)
        assert check_all(again.engine) == []
        assert len(collect_garbage(again).files) == 1
        assert again.files.listed() == []
    with open_store(f"{url}-other", artifacts=bucket) as other, pytest.raises(InputError, match="another database"):
        _ = other.files.store
