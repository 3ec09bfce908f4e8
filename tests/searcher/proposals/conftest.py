"""Free spaces."""

import pytest
from exeunt.searcher.spaces.free import Free
from free_spaces import FRAMES, free_space


@pytest.fixture(params=FRAMES)
def space(request: pytest.FixtureRequest) -> Free:
    return free_space(request.param)


@pytest.fixture
def exits() -> Free:
    return free_space("exits")
