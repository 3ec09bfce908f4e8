"""Work that makes a great many objects and hardly any garbage that Python would have to look for."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """Leaves objects that refer to each other where they are until the block ends.

    Python looks for those no longer needed whenever many are made. With a study of thousands of trials in memory, that
    took an eighth of the time of a report, a quarter of that of `resume`'s start, and found next to nothing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def settled() -> Generator[None]:
    """Leaves all that is in memory by now out of every search for garbage until the block ends.

    After torch's import that is a million objects. To look them all over takes a worker, whose memory lay idle while it
    sampled, a tenth of a second and more, now and then in the middle of a transaction.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
