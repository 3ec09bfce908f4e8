"""Goals as users say them."""

import pytest
from exeunt.backends.errors import InputError
from exeunt.studies.config.goal import Goal, parse_goal
from exeunt.studies.config.reading import config_difference, override
from exeunt.studies.config.study import StudyConfig


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("fastest within 5% of full quality", Goal(most_loss=0.05)),
        ("Fastest  within 2.5 %", Goal(most_loss=0.025)),
        ("best at 2x", Goal(speedup=2.0)),
        ("best quality at 1.5 ×", Goal(speedup=1.5)),
    ],
)
def test_a_goal_is_read_and_spelled_in_one_way(text: str, goal: Goal):
    assert parse_goal(text) == goal
    assert parse_goal(str(goal)) == goal


@pytest.mark.parametrize("text", ["fast", "best at 1x", "fastest within 0%", "best at x"])
def test_other_texts_are_refused_with_the_forms(text: str):
    with pytest.raises(InputError, match="goal"):
        parse_goal(text)


def test_a_goal_may_change_when_a_study_goes_on():
    config = override(StudyConfig(), {"run.goal": "best  at 2x"})
    assert config.run.goal == "best at 2x"
    assert all(each.free for each in config_difference(StudyConfig(), config))
