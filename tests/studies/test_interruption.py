"""Signals end work where nothing is half done, with exit code 75; a second Ctrl-C ends it at once."""

import os
import pty
import signal
import sys
import time

import processes
import pytest
from exeunt.backends.errors import Interrupted
from exeunt.studies.interruption import interruptible

# A terminal's hang-up is ignored where the tests themselves run under `nohup`; the programs begin as from a terminal.
PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from exeunt.backends.errors import Interrupted
from exeunt.studies.interruption import interruptible
with interruptible() as interruption:
    print("ready", flush=True)
    try:
        for _ in range(600):
            time.sleep(0.05)
            if sys.argv[1] == "checks":
                interruption.check()
    except Interrupted as error:
        print("clean", flush=True)
        sys.exit(error.exit_code)
"""


def run(mode: str, *signals: signal.Signals) -> tuple[int, str, str]:
    """Exit code and output of a program that gets these signals, a little apart."""
    program = processes.start(sys.executable, "-c", PROGRAM, mode)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    for each in signals:
        program.send_signal(each)
        time.sleep(0.3)
    output, errors = program.communicate(timeout=20)
    return program.returncode, output, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_it_cleanly(number: signal.Signals) -> None:
    code, output, errors = run("checks", number)
    assert (code, output) == (75, "clean\n")
    assert "what was measured is kept" in errors
    assert "Traceback" not in errors


def test_a_closed_terminal_ends_it_cleanly() -> None:
    """Whatever it still writes goes nowhere, and the exit code is that of any interruption."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, "checks"])
    assert os.read(terminal, 5) == b"ready"
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 75


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    code, output, _ = run("never checks", signal.SIGINT, signal.SIGINT)
    assert (code, output) == (75, "")


def test_the_error_says_how_to_go_on() -> None:
    with interruptible() as interruption:
        interruption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match=r"Stopped by SIGTERM; .* Go on with `exeunt resume`"):
            interruption.check()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
