"""The device lock among real processes: who may hold it together, who waits, and what a killed holder leaves behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from exeunt.backends.errors import DeviceError
from exeunt.backends.timing.device_lock import DeviceLock

HOLD = """
import sys, time
from pathlib import Path
from exeunt.backends.timing.device_lock import DeviceLock
with getattr(DeviceLock("cpu", 30.0, Path(sys.argv[1])), sys.argv[2])():
    print("held", flush=True)
    time.sleep(120)
"""
FORK = """
import os, sys, time
from pathlib import Path
from exeunt.backends.timing.device_lock import DeviceLock
with DeviceLock("cpu", 0.0, Path(sys.argv[1])).exclusive():
    child = os.fork()
    if child == 0:
        time.sleep(120)
        os._exit(0)
print(child, flush=True)
"""


@contextmanager
def holder(folder: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until the block ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder), how], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def can_hold(folder: Path, how: str, patience_seconds: float = 0.0) -> bool:
    try:
        with getattr(DeviceLock("cpu", patience_seconds, folder), how)():
            return True
    except DeviceError:
        return False


def test_samplers_share_and_keep_a_timer_out(tmp_path: Path) -> None:
    with holder(tmp_path, "shared"):
        assert can_hold(tmp_path, "shared")
        assert not can_hold(tmp_path, "exclusive")
    assert can_hold(tmp_path, "exclusive", patience_seconds=10.0)


def test_a_timer_keeps_everyone_out(tmp_path: Path) -> None:
    with holder(tmp_path, "exclusive"):
        assert not can_hold(tmp_path, "shared")
        assert not can_hold(tmp_path, "exclusive")


@pytest.mark.parametrize("how", ["shared", "exclusive"])
def test_the_lock_dies_with_a_killed_holder(tmp_path: Path, how: str) -> None:
    with holder(tmp_path, how) as process:
        assert not can_hold(tmp_path, "exclusive")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        assert can_hold(tmp_path, "exclusive")


def test_the_refusal_names_the_holder_the_wait_and_the_fix(tmp_path: Path) -> None:
    with (
        holder(tmp_path, "shared") as process,
        pytest.raises(DeviceError) as refused,
        DeviceLock("cpu", 0.1, tmp_path).exclusive(),
    ):
        pass
    message = str(refused.value)
    assert "device cpu" in message
    assert "after 0.1 s" in message
    assert "Wait for that process or stop it" in message
    if Path("/proc/locks").exists():
        assert f"process {process.pid} (" in message


def test_a_thread_that_waits_for_itself_is_told_so(tmp_path: Path) -> None:
    lock = DeviceLock("cpu", 0.0, tmp_path)
    with lock.shared(), pytest.raises(DeviceError) as refused, lock.exclusive():
        pass
    if Path("/proc/locks").exists():
        assert "(this one)" in str(refused.value)


def test_newcomers_queue_behind_a_waiting_timer(tmp_path: Path) -> None:
    """Without the gate, samplers that overlap one another would keep the timer out for ever."""
    timed = threading.Event()

    def time_something() -> None:
        with DeviceLock("cpu", 30.0, tmp_path).exclusive():
            timed.set()

    timer = threading.Thread(target=time_something)
    with ExitStack() as stack:
        stack.enter_context(DeviceLock("cpu", 1.0, tmp_path).shared())
        timer.start()
        deadline = time.monotonic() + 10.0
        while can_hold(tmp_path, "shared"):
            assert time.monotonic() < deadline, "the timer never took the gate"
        assert not timed.is_set()
    timer.join(10.0)
    assert timed.is_set()
    assert can_hold(tmp_path, "shared", patience_seconds=10.0)


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert can_hold(tmp_path, "exclusive")
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_lock_is_free_after_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), DeviceLock("cpu", 0.0, tmp_path).exclusive():
        _ = 1 / 0
    assert can_hold(tmp_path, "exclusive")


def test_devices_do_not_wait_for_one_another(tmp_path: Path) -> None:
    with DeviceLock("cuda-GPU-1", 0.0, tmp_path).exclusive(), DeviceLock("cuda-GPU-2", 0.0, tmp_path).exclusive():
        pass


def test_a_folder_that_is_not_ours_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DeviceError, match="lock file can't be opened"),
        DeviceLock("cpu", 0.0, tmp_path / "file").shared(),
    ):
        pass
