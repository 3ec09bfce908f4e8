"""Python looks for garbage as ever after a block that kept it out of some, however the block ends."""

import gc
import weakref

import pytest
from exeunt.reports.uncollected import settled, uncollected


def test_nothing_is_looked_for_within_blocks_and_all_is_as_before_after_them() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_looked_for_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="broken"), uncollected():
        raise ValueError("broken")
    assert gc.isenabled()


def test_whoever_keeps_it_out_does_so_still() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


class Loop:
    """What refers to itself, and is garbage that only a search finds."""

    def __init__(self) -> None:
        self.itself = self


def test_only_what_came_later_is_looked_over_in_a_settled_block() -> None:
    before = weakref.ref(Loop())
    with settled():
        after = weakref.ref(Loop())
        gc.collect()
        assert before() is not None
        assert after() is None
    gc.collect()
    assert before() is None
    assert gc.get_freeze_count() == 0
