"""Signals that end a command where nothing is half done."""

import os
import signal

import pytest
from exeunt.backends.errors import Interrupted
from exeunt.searcher.interruption import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_at_the_next_check(number: signal.Signals):
    before = signal.getsignal(number)
    with interruptible() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=number.name):
            interruption.check()
    assert signal.getsignal(number) is before


def test_an_interruption_ends_with_the_code_for_trying_again():
    with interruptible() as interruption:
        interruption.receive(signal.SIGTERM, None)
        with pytest.raises(Interrupted) as caught:
            interruption.check()
    assert caught.value.exit_code == 75
