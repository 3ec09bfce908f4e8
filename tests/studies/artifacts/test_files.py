"""Features are files: written before their rows, verified when they are read, carried along, and collected when nothing
names them."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exeunt.backends.errors import InputError
from exeunt.searcher.cli.main import cli
from exeunt.studies.artifacts.base import MARKER, ListedFile, MissingArtifact
from exeunt.studies.artifacts.files import VARIABLE
from exeunt.studies.config.study import StudyConfig
from exeunt.studies.database.optuna.storage import optuna_storage
from exeunt.studies.maintenance.backup import back_up
from exeunt.studies.maintenance.check import check_all
from exeunt.studies.maintenance.copy import copy_study
from exeunt.studies.maintenance.delete import collect_garbage, delete_study, find_garbage
from exeunt.studies.store.evaluations import DamagedFeatures
from exeunt.studies.store.records import Claim, EvaluationKey, Member
from exeunt.studies.store.store import Store, open_store
from numpy.typing import NDArray
from optuna import create_study

MakeKey = Callable[..., EvaluationKey]
DAY = 86_400.0


def features(first: int, count: int = 8) -> NDArray[np.float32]:
    """Features that tell their image, exact in half precision."""
    return np.array([[image + 0.25 * column for column in range(6)] for image in range(first, first + count)], "f4")


def claimed(store: Store, key: EvaluationKey) -> Claim:
    claim = store.evaluations.claim(key, "ada", 60.0, "demo")
    assert claim is not None
    return claim


def folder(database: Path) -> Path:
    return database.with_name(f"{database.name}-files")


def files(database: Path) -> list[Path]:
    return sorted(folder(database).iterdir())


def names(store: Store) -> set[str]:
    return {stored.name for stored in store.files.listed()}


@pytest.fixture
def study(store: Store, make_key: MakeKey) -> Store:
    """A study of one schedule with two chunks, trials and all."""
    store.studies.put_config(StudyConfig())
    store.studies.add_member("demo", Member("full", "baseline", "full", make_key().schedule_digest, "w" * 64, "w"))
    create_study(storage=optuna_storage(store.engine), study_name="demo")
    claim = claimed(store, make_key())
    for first in (0, 8):
        store.evaluations.commit_chunk(claim, first, features(first), 1.0)
    store.evaluations.release(claim)
    return store


class TestOnEither:
    """What holds whatever the database is."""

    @pytest.fixture
    def url(self, either_url: str) -> str:
        return either_url

    def test_features_are_files_that_their_digests_name(self, study: Store, make_key: MakeKey) -> None:
        contents = [features(first).astype("<f2").tobytes() for first in (0, 8)]
        assert names(study) == {f"{hashlib.sha256(each).hexdigest()}.f16" for each in contents}
        found = study.evaluations.features(make_key(), range(16))
        np.testing.assert_array_equal(found, np.concatenate([features(0), features(8)]))

    def test_equal_features_are_one_file(self, study: Store, make_key: MakeKey) -> None:
        study.evaluations.commit_chunk(claimed(study, make_key(2)), 0, features(0), 1.0)
        assert len(names(study)) == 2
        assert len(study.evaluations.chunks()) == 3

    def test_a_file_that_is_gone_is_named_and_mended(self, study: Store, make_key: MakeKey) -> None:
        (gone,) = [name for name in names(study) if hashlib.sha256(features(8).astype("<f2")).hexdigest() in name]
        study.files.store.remove(gone)
        with pytest.raises(
            DamagedFeatures, match=rf"from image 8 of evaluation \S+ have changed or are missing: .*{gone}"
        ) as it:
            study.evaluations.features(make_key(), range(16))
        assert it.value.images == range(8, 16)
        study.evaluations.restore(claimed(study, make_key()), 8, features(8), 2.0)
        assert study.evaluations.features(make_key(), range(16)) is not None
        assert [each.seconds for each in study.evaluations.chunks()] == [1.0, 3.0]
        assert check_all(study.engine) == []

    def test_a_chunk_may_be_mended_with_other_rounding(self, study: Store, make_key: MakeKey) -> None:
        near = features(8) + 0.5
        study.evaluations.restore(claimed(study, make_key()), 8, near, 1.0)
        np.testing.assert_array_equal(study.evaluations.features(make_key(), range(8, 16)), near)
        assert check_all(study.engine) == []

    def test_a_file_that_changed_is_noticed(self, study: Store, make_key: MakeKey) -> None:
        for name in names(study):
            for data in (b"", b"x", features(3).astype("<f2").tobytes(), b"x" * 10_000):
                study.files.store.write(name, data)
                with pytest.raises(DamagedFeatures, match="its contents changed"):
                    study.evaluations.features(make_key(), range(16))
        assert [(each.kind, each.damage) for each in check_all(study.engine)] == [("features", True)] * 2

    def test_a_check_finds_files_that_are_gone(self, study: Store) -> None:
        study.files.store.remove(sorted(names(study))[0])
        for reads in (True, False):
            (finding,) = check_all(study.engine, features=reads)
            assert finding.kind == "features"
            assert "are missing" in finding.what

    def test_what_a_deleted_study_measured_goes_with_its_files(self, study: Store) -> None:
        before = names(study)
        assert find_garbage(study).files == {}
        delete_study(study, "demo")
        assert names(study) == before
        found = find_garbage(study)
        assert (set(found.files), found.file_bytes) == (before, 2 * 8 * 6 * 2)
        assert found.feature_bytes == found.file_bytes
        assert names(study) == before
        assert collect_garbage(study) == found
        assert names(study) == set()

    def test_a_file_that_another_evaluation_shares_stays(self, study: Store, make_key: MakeKey) -> None:
        study.studies.put_config(StudyConfig(name="other"))
        study.studies.add_member("other", Member("x", "trial", "", make_key(2).schedule_digest, "w" * 64, "w"))
        study.evaluations.commit_chunk(claimed(study, make_key(2)), 0, features(0), 1.0)
        delete_study(study, "demo")
        assert len(collect_garbage(study).files) == 1
        np.testing.assert_array_equal(study.evaluations.features(make_key(2), range(8)), features(0))

    def test_a_file_without_a_row_goes_once_it_is_old(self, study: Store) -> None:
        """What a worker leaves that died between a file and its row; or a worker is about to commit it."""
        before = names(study)
        orphan = f"{study.files.put(b'features of a dead worker', 'f16')}.f16"
        assert find_garbage(study).files == {}
        assert collect_garbage(study).files == {}
        assert names(study) == before | {orphan}
        assert find_garbage(study, older_than=0.0).files == {orphan: 25}
        assert collect_garbage(study, older_than=0.0).files == {orphan: 25}
        assert names(study) == before

    def test_a_copy_has_files_of_its_own(self, study: Store, tmp_path: Path, make_key: MakeKey) -> None:
        target = tmp_path / "copy.db"
        with open_store(f"sqlite:///{target}") as other:
            copied = copy_study(study, other, "demo")
            assert names(other) == names(study)
        for name in names(study):
            study.files.store.remove(name)
        with open_store(f"sqlite:///{target}", read_only=True) as other:
            assert other.evaluations.features(make_key(), range(16)) is not None
            assert check_all(other.engine) == []
        assert copied.rows["exeunt_chunks"] == 2

    def test_a_copy_of_damaged_features_is_refused_whole(self, study: Store, tmp_path: Path) -> None:
        study.files.store.remove(sorted(names(study))[1])
        with open_store(f"sqlite:///{tmp_path / 'copy.db'}") as other:
            with pytest.raises(MissingArtifact):
                copy_study(study, other, "demo")
            assert other.studies.names() == []
            assert len(collect_garbage(other, older_than=0.0).files) <= 1
            assert names(other) == set()

    def test_a_backup_needs_nothing_beside_it(self, study: Store, tmp_path: Path, make_key: MakeKey) -> None:
        path = tmp_path / "backup.db"
        assert back_up(study, path).studies == ["demo"]
        for name in names(study):
            study.files.store.remove(name)
        with open_store(f"sqlite:///{path}") as other:
            assert names(other) == set()
            assert check_all(other.engine) == []
            np.testing.assert_array_equal(other.evaluations.features(make_key(), range(8)), features(0))
            delete_study(study, "demo")
            collect_garbage(study)
            copy_study(other, study, "demo")
        assert len(names(study)) == 2
        assert study.evaluations.features(make_key(), range(16)) is not None
        assert check_all(study.engine) == []

    def test_a_file_that_garbage_collection_took_before_its_row_is_written_again(
        self, study: Store, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, write = study.files.store, type(study.files.store).write
        written: list[str] = []

        def lose_the_first(name: str, data: bytes) -> None:
            write(store, name, data)
            written.append(name)
            if len(written) == 1:
                store.remove(name)

        monkeypatch.setattr(store, "write", lose_the_first)
        study.evaluations.commit_chunk(claimed(study, make_key(3)), 0, features(24), 1.0)
        assert len(written) == 2
        assert study.evaluations.features(make_key(3), range(8)) is not None


def test_a_backup_needs_a_name_that_files_can_have(study: Store, tmp_path: Path) -> None:
    for name in ("a" * 400, f"{'a' * 240}.db", f"{'ä' * 125}.db"):
        with pytest.raises(InputError, match="Choose a shorter one"):
            back_up(study, tmp_path / name)
    longest = tmp_path / ("a" * 232)
    assert back_up(study, longest).path == longest


def test_a_folder_beside_the_database_has_them(study: Store, database: Path) -> None:
    assert {path.name for path in files(database)} == names(study)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT DISTINCT features FROM exeunt_chunks").fetchall() == [(b"",)]
    connection.close()


def test_a_database_that_was_moved_alone_is_refused_for_work(
    study: Store, database: Path, tmp_path: Path, make_key: MakeKey
) -> None:
    study.close()
    moved = tmp_path / "elsewhere" / "exeunt.db"
    moved.parent.mkdir()
    shutil.move(database, moved)
    with (
        open_store(f"sqlite:///{moved}") as alone,
        pytest.raises(InputError, match=r"must be in .*exeunt.db-files, but"),
    ):
        alone.evaluations.commit_chunk(claimed(alone, make_key(2)), 0, features(0), 1.0)
    with open_store(f"sqlite:///{moved}", read_only=True) as alone:
        assert alone.studies.progress("demo").images == 16
        assert {each.kind for each in check_all(alone.engine)} == {"features"}
    shutil.move(folder(database), folder(moved))
    with open_store(f"sqlite:///{moved}") as whole:
        assert check_all(whole.engine) == []


def test_half_a_file_that_a_dead_worker_left_is_collected(study: Store, database: Path) -> None:
    half = folder(database) / ".0123.part"
    half.write_bytes(b"half")
    other = folder(database) / "notes.txt"
    other.write_text("a user's own")
    assert find_garbage(study).files == {}
    os.utime(half, (time.time() - 2 * DAY,) * 2)
    os.utime(other, (time.time() - 2 * DAY,) * 2)
    assert collect_garbage(study).files == {half.name: 4}
    assert not half.exists()
    assert other.exists()


KILLED = """
import os, signal, sys
import numpy as np
from exeunt.studies.store import evaluations
from exeunt.studies.store.store import open_store
with open_store(sys.argv[1]) as store:
    key = store.evaluations.evaluations()[0].key
    claim = store.evaluations.claim(key, "bob", 60.0, "demo")
    evaluations._hold = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    store.evaluations.commit_chunk(claim, 16, np.ones((8, 6), np.float32), 1.0)
"""


def test_a_worker_killed_between_file_and_row_leaves_a_file_alone(
    study: Store, url: str, database: Path, make_key: MakeKey
) -> None:
    before = names(study)
    killed = subprocess.run([sys.executable, "-c", KILLED, url], timeout=60, stderr=subprocess.PIPE)
    assert killed.returncode == -9, killed.stderr
    (orphan,) = names(study) - before
    assert study.evaluations.missing(make_key(), range(24)) == [range(16, 24)]
    assert check_all(study.engine) == []
    assert find_garbage(study).files == {}
    os.utime(folder(database) / orphan, (time.time() - 2 * DAY,) * 2)
    assert find_garbage(study).files == {orphan: 96}


KILLED_AT_MARKER = """
import os, signal, sys
from exeunt.studies.artifacts.folder import FolderStore
from exeunt.studies.store.store import open_store
write = FolderStore.write
def and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
FolderStore.write = and_die
with open_store(sys.argv[1], artifacts=sys.argv[2]) as store:
    store.files.store
"""


def killed_at_marker(url: str, place: Path) -> None:
    """A process dies once it has marked a store, before the database knows that it is in use."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_MARKER, url, str(place)], timeout=60, stderr=subprocess.PIPE
    )
    assert killed.returncode == -9, killed.stderr
    assert [each.name for each in place.iterdir()] == [MARKER]


@pytest.fixture
def made(either_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with tables alone, on either engine, without a place for files."""
    monkeypatch.delenv(VARIABLE, raising=False)
    open_store(either_url).close()
    return either_url


def test_a_store_marked_by_who_was_killed_is_taken_by_the_next(made: str, tmp_path: Path) -> None:
    place, other = tmp_path / "artifacts", tmp_path / "other"
    for _ in range(2):
        killed_at_marker(made, place)
        (place / MARKER).unlink()
    killed_at_marker(made, place)
    another = f"sqlite:///{tmp_path / 'another.db'}"
    with open_store(another, artifacts=str(place)) as store, pytest.raises(InputError, match="another database"):
        _ = store.files.store
    with open_store(made, artifacts=str(place)) as store:
        name = store.files.put(b"features", "f16")
    with open_store(made) as store:
        assert store.files.get(name, "f16", 8) == b"features"
    with open_store(made, artifacts=str(other)) as store, pytest.raises(InputError, match="the marker of"):
        _ = store.files.store


def test_another_place_may_be_named_after_a_kill(made: str, tmp_path: Path) -> None:
    place, other = tmp_path / "artifacts", tmp_path / "other"
    killed_at_marker(made, place)
    with open_store(made, artifacts=str(other)) as store:
        name = store.files.put(b"features", "f16")
    with open_store(made, artifacts=str(place)) as store, pytest.raises(InputError, match="the marker of"):
        _ = store.files.store
    with open_store(made) as store:
        assert store.files.get(name, "f16", 8) == b"features"


def test_the_command_lists_files_before_it_removes_them(study: Store, database: Path) -> None:
    collect_garbage(study)  # schedules that nobody measured
    orphan = f"{study.files.put(b'features of a dead worker', 'f16')}.f16"
    study.close()

    def gc(*words: str) -> str:
        found = CliRunner().invoke(cli, ["study", "gc", "--storage", str(database), *words])
        assert found.exit_code == 0, found.output
        return found.stdout

    assert "everything belongs to a study" in gc("--dry-run")
    assert "1 files: 0 B of features, 25 B of files" in gc("--dry-run", "--older-than", "0s")
    listed = json.loads(gc("--dry-run", "--older-than", "0s", "--json"))
    assert (listed["files"], listed["removed"]) == ([{"name": orphan, "bytes": 25}], False)
    assert "Removed 0 evaluations and 1 files" in gc("--older-than", "0s", "--yes")
    wrong = CliRunner().invoke(cli, ["study", "gc", "--storage", str(database), "--older-than", "3-trials"])
    assert wrong.exit_code == 2
    assert "must be a time, but got `3-trials`" in wrong.output


def test_what_a_store_lists_is_no_more_than_names_sizes_and_ages(study: Store) -> None:
    for stored in study.files.listed():
        assert stored == ListedFile(stored.name, 96, stored.age_seconds)
        assert 0.0 <= stored.age_seconds < 60.0
