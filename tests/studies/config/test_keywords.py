"""Keyword arguments as a configuration: what belongs to the demo's checkpoint alone stays with it."""

import pytest
from exeunt.backends.errors import InputError
from exeunt.studies.config.keywords import configured
from exeunt.studies.config.study import StudyConfig


def test_without_any_it_is_the_demos():
    assert configured(None, {}) == StudyConfig()


@pytest.mark.parametrize("checkpoint", ["fashion-dit", "closed-form", "weights/net.pt"])
def test_another_checkpoint_has_a_name_of_its_own_and_no_weights_beside_it(checkpoint: str):
    found = configured(None, {"checkpoint": checkpoint})
    assert found.checkpoint.path == checkpoint
    assert found.checkpoint.baseline_weights == ()
    assert found.name != StudyConfig().name


def test_the_demos_checkpoint_keeps_its_name_and_the_weights_beside_it():
    assert configured(None, {"checkpoint": StudyConfig().checkpoint.path}) == StudyConfig()


def test_a_keyword_that_there_is_not_names_the_nearest():
    with pytest.raises(InputError, match="`budgte` is not a setting"):
        configured(None, {"budgte": "2m"})
