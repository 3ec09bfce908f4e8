"""Work in a copy of the process: the same results, and the same errors, wherever it is done."""

import os
import threading

import pytest
from exeunt.reports.meanwhile import meanwhile


def test_a_copy_does_the_work() -> None:
    here, result = os.getpid(), meanwhile(lambda: (os.getpid(), b"x" * 2**21))
    there, content = result()
    assert (there != here) == (len(os.sched_getaffinity(0)) > 1)
    assert content == b"x" * 2**21


def test_beside_other_threads_this_process_does_it() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert meanwhile(os.getpid)() == os.getpid()
    done.set()
    thread.join()


def test_an_error_is_raised_here(capfd: pytest.CaptureFixture[str]) -> None:
    result = meanwhile(lambda: int("seven"))
    with pytest.raises(ValueError, match="seven"):
        result()
    assert capfd.readouterr().err == ""


def test_a_copy_that_dies_is_replaced() -> None:
    here = os.getpid()
    assert meanwhile(lambda: os.getpid() if os.getpid() == here else os._exit(1))() == here
