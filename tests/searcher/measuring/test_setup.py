"""What is loaded and checked before anything is sampled."""

import pytest
from exeunt.backends.errors import InputError
from exeunt.searcher.measuring.setup import load_setup
from exeunt.studies.config.reading import override
from exeunt.studies.config.study import StudyConfig


@pytest.mark.parametrize("name", ["num_images", "final_images"])
def test_too_few_images_for_a_distance_are_refused(name: str, small: StudyConfig) -> None:
    with pytest.raises(InputError, match=rf"quality\.{name}: a distance needs 8 or more, but got 7\. Add --{name[:3]}"):
        load_setup(override(small, {f"quality.{name}": 7}))
    assert load_setup(override(small, {f"quality.{name}": 8})).network.name == "closed-form"
