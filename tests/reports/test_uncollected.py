"""Python looks for garbage again after a block that it kept out of, however the block ends."""

import gc

import pytest
from exeunt.reports.uncollected import uncollected


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
