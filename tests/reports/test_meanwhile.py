"""Work in a copy of the process: the same results, and the same errors, wherever it is done."""

import json
import os
import subprocess
import sys
import threading

import pytest
from exeunt.reports.report import meanwhile

# In a process of its own, since no copy is made beside threads, which other tests may have left.
SCRIPT = """
import json, os
from exeunt.reports.report import meanwhile

here = os.getpid()
there, content = meanwhile(lambda: (os.getpid(), b"x" * 2**21))()
died = meanwhile(lambda: os.getpid() if os.getpid() == here else os._exit(1))()
try:
    error = meanwhile(lambda: int("seven"))()
except ValueError as raised:
    error = str(raised)
print(json.dumps([there != here, len(content), died == here, error]))
"""


def test_a_copy_does_the_work_and_is_replaced_where_it_fails() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    error = "invalid literal for int() with base 10: 'seven'"
    assert json.loads(done.stdout) == [len(os.sched_getaffinity(0)) > 1, 2**21, True, error]
    assert done.stderr == ""


def test_beside_other_threads_this_process_does_it() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert meanwhile(os.getpid)() == os.getpid()
    with pytest.raises(ValueError, match="seven"):
        meanwhile(lambda: int("seven"))()
    done.set()
    thread.join()
