"""Work that several threads begin at the same moment."""

import threading
from collections.abc import Callable


def at_once(work: Callable[[], object], count: int) -> None:
    """Does the work in so many threads, and waits for all of them."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
