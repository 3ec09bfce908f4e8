"""Where commands write: devices, pipes, links and standard output, which are written to and never replaced."""

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import processes
import pytest
import vectors
from exeunt.backends import schedule as schedules
from exeunt.backends.errors import InputError
from exeunt.reports.files.export import write_whole

GOOD = str(vectors.DIRECTORY / "guided.schedule.json")
CONVERT = ("schedule", "convert", GOOD, "-o")
TEXT = schedules.dumps(schedules.load(GOOD))


def device(path: Path, minor: int) -> Path:
    """A device as in a container's /dev: 3 is null, 7 is full. Where this user can make none, the test is skipped."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        path.write_bytes(b"")  # which a file system without devices refuses
    except PermissionError as error:
        pytest.skip(f"devices need root, and a file system that has them ({error})")
    return path


def command(*words: str, **options: object) -> "subprocess.CompletedProcess[str]":
    process = processes.start(sys.executable, "-m", "exeunt", *words, **options)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def test_devices_are_written_to_and_stay(tmp_path: Path) -> None:
    null, full = device(tmp_path / "null", 3), device(tmp_path / "full", 7)
    (tmp_path / "link").symlink_to("null")
    for path in (null, tmp_path / "link"):
        write_whole(path, b"text")
        schedules.save(schedules.load(GOOD), path)
    with pytest.raises(InputError, match="No space left on device"):
        write_whole(full, b"text")
    assert null.is_char_device()
    assert full.is_char_device()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full", "link", "null"]


def test_standard_output_of_a_root_s_own_dev_stays_a_link(tmp_path: Path) -> None:
    """As `/dev/stdout` in a container: a link in a folder that its user can write to."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "out").symlink_to("stdout")
    for name in ("stdout", "out"):
        done = command(*CONVERT, str(tmp_path / name))
        assert (done.returncode, done.stdout) == (0, TEXT), done.stderr
        assert (tmp_path / name).is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_gets_the_file_and_nothing_else(place: str, tmp_path: Path) -> None:
    for words in ((*CONVERT, place), (*CONVERT, place, "--json")):
        done = command(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, TEXT), done.stderr
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        command(*CONVERT, place, stdout=file, cwd=tmp_path)
    assert log.read_text() == f"before\n{TEXT}"
    assert list(tmp_path.iterdir()) == [log]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = processes.start("cat", pipe)
    write_whole(pipe, b"text")
    assert reader.communicate(timeout=60)[0] == "text"
    assert pipe.is_fifo()


def test_through_a_link_the_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to("inside/there.txt")
    for text in (b"first", b"second"):
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "inside" / "there.txt").read_bytes() == text
    assert (tmp_path / "link").is_symlink()
    assert [each.name for each in (tmp_path / "inside").iterdir()] == ["there.txt"]


def test_a_link_to_itself_is_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(InputError, match="must be writable"):
        write_whole(tmp_path / "link", b"text")
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "words",
    [
        ["export", "-o"],
        ["report", "-o"],
        ["sample", GOOD, "-o"],
        ["schedule", "convert", GOOD, "-o"],
        ["schedule", "full", "-o"],
        ["schedule", "show", GOOD, "--png"],
        ["schedule", "show", GOOD, "--pdf"],
        ["study", "backup", "-o"],
        ["study", "files", "demo", "-o"],
        ["db", "upgrade", "--backup"],
    ],
)
def test_an_empty_path_is_refused(words: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from exeunt.searcher.cli.main import cli

    with pytest.raises(SystemExit) as ended:
        cli([*words, ""])
    assert ended.value.code == 2
    assert "is empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["schedule", "show", GOOD, "--json"], ["schedule", "convert", GOOD]])
def test_standard_output_that_can_not_be_written_is_one_sentence(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full", "wb") as full, open(write, "wb") as closed:
        for output, what in ((full, "No space left on device"), (closed, "Broken pipe")):
            done = command(*words, stdout=output)
            assert done.returncode == 1
            assert done.stderr.startswith("Error: standard output: must accept everything")
            assert what in done.stderr
            assert done.stderr.count("\n") == 1


def test_pictures_and_images_go_to_standard_output(tmp_path: Path) -> None:
    for words in (["schedule", "show", GOOD, "--png"], ["schedule", "show", GOOD, "--json", "--png"]):
        done = command(*words, "-", text=False)
        assert done.stdout.startswith(b"\x89PNG"), done.stderr
        assert done.stdout.endswith(b"IEND\xaeB`\x82")
